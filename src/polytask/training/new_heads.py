"""Further tasks on a trained network: their heads trained from several starts, the best ones kept."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from polytask.bundle import Network
from polytask.data.batch import ArraySource
from polytask.errors import TrainingError
from polytask.models.model import MultiTaskModel
from polytask.models.spec import ModelSpec
from polytask.records import ExtensionRecord, without_nan
from polytask.shapes import Tensor
from polytask.tasks.task import Task
from polytask.training.building import make_remedies
from polytask.training.evaluation import evaluate, mean_losses
from polytask.training.growth import Answers, grown
from polytask.training.interruption import resumable_in
from polytask.training.listeners import Listeners
from polytask.training.preparation import Prepared
from polytask.training.remedy import Remedy, Scene
from polytask.training.run import Plan, stages_of
from polytask.training.schedule import Stage
from polytask.training.schedules.joint import Joint
from polytask.training.settings import Settings
from polytask.training.stages import Stages
from polytask.training.starts import Line, lines_from, start_from
from polytask.training.task_control import TaskControl

__all__ = ["ExtensionSettings", "NewHeads", "OldTasks"]


@dataclass(frozen=True)
class ExtensionSettings:
    """What is asked of an extension.

    Args:
        settings: How to train.
        start: ``closest``: from the closest old head, and from a fresh one; ``fresh``: from a fresh one alone.
        unfreeze: Whether the old network is trained too.
        remedies: Against forgetting, if it is: names or ``{name: ..., options}``.
        adapters: Options of adapters of the new tasks' own; none if ``None``.
        controls: Settings of single new tasks.
    """

    settings: Settings
    start: str = "closest"
    unfreeze: bool = False
    remedies: Sequence[Any] = ()
    adapters: Mapping[str, Any] | None = None
    controls: Mapping[str, TaskControl] = field(default_factory=dict)


@dataclass(frozen=True)
class OldTasks:
    """The tasks that the network has.

    Args:
        tasks: The tasks.
        kept: Rows of theirs that no training saw, by source; may be empty.
        train: Their training rows.
    """

    tasks: Sequence[Task]
    kept: Mapping[str, ArraySource] = field(default_factory=dict)
    train: Mapping[str, ArraySource] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(task.name for task in self.tasks)


@dataclass
class _KeepsOld(Remedy):
    """Freezes every parameter that the network had before."""

    names: frozenset[str] = field(default=frozenset(), kw_only=True)

    def slows(self, scene: Scene) -> dict[nn.Parameter, float]:
        return {p: 0.0 for name, p in scene.model.named_parameters() if name in self.names}


@dataclass
class _Arm:
    """The network with new heads, trained from one choice of starts.

    Args:
        spec: How the network is built.
        model: The network.
        stages: Its training.
        lines: Per new task that started from an old head, the line from it; the others started fresh.
        before: Validation loss of each new task at its start.
        after: The same after training.
        kept: The same of the network that is kept: after training, and after some tasks were put back to their start.
        untrained: New tasks that were put back to their start, because training made them worse.
    """

    spec: ModelSpec
    model: MultiTaskModel
    stages: Stages
    lines: Mapping[str, Line]
    before: dict[str, float]
    after: dict[str, float]
    kept: dict[str, float]
    untrained: tuple[str, ...] = ()

    def loss(self, task: str) -> float:
        """Validation loss of a new task; one that is not a finite number, or not known, counts as the worst."""
        loss = self.kept.get(task, math.inf)
        return loss if math.isfinite(loss) else math.inf

    @property
    def total(self) -> float:
        """Sum of the new tasks' validation losses, by which arms are compared."""
        return sum(map(self.loss, self.kept))

    @property
    def notes(self) -> list[str]:
        """One about each head that is kept as it started."""
        return [
            f"The new head of {task!r} is kept as it started, untrained: on the validation rows its loss was "
            f"{self.before[task]:.4g} at the start and {self.after[task]:.4g} at the end."
            for task in self.untrained
        ]

    def started(self, task: str) -> str:
        """Where a new task's head started, in words."""
        start = f"from {self.lines[task].task}" if task in self.lines else "fresh"
        return start + ", untrained" * (task in self.untrained)


class NewHeads:
    """Trains heads (and adapters, if asked) for further tasks.

    Args:
        network: The old network; stays as it is.
        old: Its tasks.
        prepared: Rows of the new tasks.
        how: What is asked.
        listeners: Who is told; the run folder gets the history of the start that is kept.
    """

    def __init__(
        self, network: Network, old: OldTasks, prepared: Prepared, how: ExtensionSettings, listeners: Listeners
    ):
        self.network, self.old, self.prepared, self.how, self.listeners = network, old, prepared, how, listeners
        parts = {"": prepared.train, "validation ": prepared.validation, "test ": prepared.test, "old ": old.kept}
        rows = {what + name: source for what, sources in parts.items() for name, source in sources.items()}
        self.answers = Answers(network.model, rows, old.names)
        self.lines: dict[str, list[Line]] = {
            task.name: [] if how.start == "fresh" else lines_from(network.model, prepared.train, task, old.names)
            for task in prepared.tasks
        }

    def train(self, origin: str) -> tuple[ModelSpec, MultiTaskModel, Stages, ExtensionRecord]:
        """Train from each choice of starts and keep the best.

        Args:
            origin: What is extended, for the record.

        Raises:
            TrainingError: If something of the frozen network changed.
        """
        model, old = self.network.model, self.old
        before = evaluate(model, old.tasks, old.kept) if old.kept else {}
        arms = self._arms()
        names = list(arms)
        best = min(names, key=lambda name: arms[name].total)
        kept, folder = arms[best], self.listeners.folder
        self.prepared.notes += kept.notes
        if best != names[0] and folder is not None:
            # The folder has the first start's history, and a checkpoint that counts its lines; another one is kept.
            folder.drop_checkpoint()
            folder.truncate_history(0)
            for line in kept.stages.history:
                folder.append_history(line)
        if not self.how.unfreeze:
            self.answers.check_equal(kept.model)
            _check_parameters(model, kept.model)
        record = ExtensionRecord(
            origin=origin,
            is_frozen=not self.how.unfreeze,
            rows_compared=self.answers.n_rows,
            change=self.answers.change(kept.model),
            before=without_nan(before),
            after=without_nan(evaluate(kept.model, old.tasks, old.kept) if old.kept else {}),
            resemblance={
                name: {line.task: round(line.resemblance, 6) for line in by} for name, by in self.lines.items()
            },
            start={name: kept.started(name) for name in self.lines},
            starts={
                name: {"at the start": without_nan(arm.before), "at the end": without_nan(arm.after)}
                for name, arm in arms.items()
            },
        )
        return kept.spec, kept.model, kept.stages, record

    def _arms(self) -> dict[str, _Arm]:
        """All from the closest old heads, all fresh, and if neither was better for every task, each from its own."""
        closest = {task: by[0] for task, by in self.lines.items() if by}
        first = self._arm("closest" if closest else "fresh", closest, self.listeners)
        if not first.lines:
            return {"fresh": first}
        with resumable_in(self.listeners.folder):
            return {"closest": first, **self._further_arms(first)}

    def _further_arms(self, first: _Arm) -> dict[str, _Arm]:
        """All fresh; and each task from its better start, if these differ. The folder stays that of the first arm.

        A task without validation labels starts from the closest old head in all of them: nothing says that a fresh
        start is better for it.
        """
        unheard = replace(self.listeners, folder=None)
        unjudged = {task: line for task, line in first.lines.items() if task not in first.after}
        judged = {task: line for task, line in first.lines.items() if task in first.after}
        if not judged:
            return {}
        fresh = self._arm("fresh", unjudged, unheard)
        better = {task: line for task, line in judged.items() if first.loss(task) < fresh.loss(task)}
        if better and any(fresh.loss(task) < first.loss(task) for task in judged):
            return {"fresh": fresh, "by task": self._arm("by task", {**unjudged, **better}, unheard)}
        return {"fresh": fresh}

    def _arm(self, name: str, lines: Mapping[str, Line], listeners: Listeners) -> _Arm:
        tasks, validation = self.prepared.tasks, self.prepared.validation
        torch.manual_seed(self.how.settings.seed)
        spec, model = grown(self.network.spec, self.network.model, tasks, adapters=self.how.adapters)
        model.heads.start_at({task.name: task.initial_bias() for task in tasks})
        lines = {task: line for task, line in lines.items() if start_from(model, task, line)}
        self.answers.check_equal(model)
        before = mean_losses(model, tasks, validation)
        start = {name: p.detach().clone() for name, p in model.named_parameters()}
        stages = self._stages(model, listeners)
        stages.run(f"new heads, {name}")
        after = mean_losses(model, tasks, validation)
        arm = _Arm(spec, model, stages, lines, before, after, kept=after)
        # A fresh head knows nothing at its start, and an unfrozen network has been trained for the old tasks too.
        if not self.how.unfreeze:
            self._put_back(arm, start)
        if len(arm.untrained) == len(tasks):
            stages.done[-1] = replace(stages.done[-1], best=None)  # no epoch's parameters are kept
        return arm

    def _put_back(self, arm: _Arm, start: Mapping[str, Tensor]) -> None:
        """Put tasks that training made worse back to their start, where that changes no other new task."""
        tasks, old = self.prepared.tasks, self.network.model.state_dict()
        new = {p: start[name] for name, p in arm.model.named_parameters() if name not in old}
        own = {task.name: new.keys() & set(arm.model.reached_by(task.name)) for task in tasks}
        back = [task for task in arm.lines if task in arm.before and arm.before[task] < arm.loss(task)]
        # In a chain of towers a new task answers through another one's, so that both go back or neither does.
        while held := [task for task in back if any(own[task] & own[other] for other in own if other not in back)]:
            back = [task for task in back if task not in held]
        if not back:
            return
        with torch.no_grad():
            for parameter in set[nn.Parameter]().union(*(own[task] for task in back)):
                parameter.copy_(new[parameter])
        arm.untrained = tuple(back)
        arm.kept = mean_losses(arm.model, tasks, self.prepared.validation)

    def _stages(self, model: MultiTaskModel, listeners: Listeners) -> Stages:
        if self.how.unfreeze:
            remedies = make_remedies(list(self.how.remedies))
            old = Stage("old", self.old.names)
            for remedy in remedies:
                remedy.afterwards(Scene(model, {task.name: task for task in self.old.tasks}, self.old.train, old))
        else:
            remedies = [_KeepsOld(names=frozenset(self.network.model.state_dict()))]
        plan = Plan(settings=self.how.settings, controls=self.how.controls)
        return stages_of(model, self.prepared, plan, Joint(), remedies, listeners, self.old.tasks)


def _check_parameters(before: MultiTaskModel, after: MultiTaskModel) -> None:
    held = after.state_dict()
    if changed := [name for name, value in before.state_dict().items() if not torch.equal(value, held[name])]:
        raise TrainingError(
            f"Frozen parameters changed: {', '.join(changed[:3])}; this is a fault of polytask, and nothing was saved."
        )
