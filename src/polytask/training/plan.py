"""What a training is asked to do, once the shapes of the data are known."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from polytask.training.constraint_spec import ConstraintSpec, WeightRule
from polytask.training.settings import Settings
from polytask.training.task_control import TaskControl

__all__ = ["Plan"]


@dataclass(frozen=True)
class Plan:
    """What to train on prepared data: the network's parts by name, the balancer, the sampler, the settings.

    Args:
        encoder: Name of the encoder.
        sharing: Name of the sharing.
        balancer: Name of the balancer.
        sampler: Name of the sampler, for several sources.
        encoder_options: Options of the encoder, and so on.
        head_hidden: Widths of hidden layers in every head.
        settings: How to train.
        schedule: Name of the schedule.
        schedule_options: Its options; ``remedies``, a list of names or ``{name: ..., options}``, among them.
        constraints: What the training keeps.
        multipliers: Name of the method for the constraints' multipliers.
        multipliers_options: Its options.
        controls: Settings of single tasks.
        augment: Per source, how its training batches are varied: names and options.
        own_norms: Sources with normalisation layers of their own.
        single_losses: Validation losses of models of one task, for constraints that compare with them.
    """

    encoder: str = "tabular"
    sharing: str = "hard"
    balancer: str = "equal"
    sampler: str = "proportional"
    encoder_options: Mapping[str, Any] = field(default_factory=dict)
    sharing_options: Mapping[str, Any] = field(default_factory=dict)
    balancer_options: Mapping[str, Any] = field(default_factory=dict)
    sampler_options: Mapping[str, Any] = field(default_factory=dict)
    head_hidden: tuple[int, ...] = ()
    settings: Settings = field(default_factory=Settings)
    schedule: str = "joint"
    schedule_options: Mapping[str, Any] = field(default_factory=dict)
    constraints: tuple[ConstraintSpec | WeightRule, ...] = ()
    multipliers: str = "augmented_lagrangian"
    multipliers_options: Mapping[str, Any] = field(default_factory=dict)
    controls: Mapping[str, TaskControl] = field(default_factory=dict)
    augment: Mapping[str, Sequence[tuple[str, Mapping[str, Any]]]] = field(default_factory=dict)
    own_norms: tuple[str, ...] = ()
    single_losses: Mapping[str, float] = field(default_factory=dict)

    def jointly(self) -> Plan:
        """The same plan with all tasks trained at once."""
        return replace(self, schedule="joint", schedule_options={})

    def alone(self) -> Plan:
        """The same plan for a model of one task: same encoder, budget and seed; nothing to share, balance or keep."""
        nothing: dict[str, Any] = {"sharing_options": {}, "balancer_options": {}, "constraints": ()}
        return replace(self.of(()), sharing="hard", balancer="equal", **nothing).jointly()

    def of(self, tasks: Collection[str]) -> Plan:
        """The same plan for some of the tasks; where the one that decides is not among them, all of them do."""
        rule = self.settings.stop_rule
        if not rule.startswith("task:") or rule.removeprefix("task:") in tasks:
            return self
        return replace(self, settings=replace(self.settings, stop_rule="mean_rank"))
