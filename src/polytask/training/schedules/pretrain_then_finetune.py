"""Some tasks first, the others from what they left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from polytask.errors import RecipeError
from polytask.training.schedule import Schedule, Stage, StageResult, as_names, check_names

__all__ = ["PretrainThenFinetune"]

WAYS = ("full", "frozen", "gradual", "probe_then_full")


@dataclass(frozen=True)
class PretrainThenFinetune(Schedule):
    r"""Trains some tasks together first, then the others from the network that they left.

    What is trained of that network is a matter of ``how``:

    - ``full``: all of it;
    - ``frozen``: the heads alone (a linear probe, if they have no hidden layers);
    - ``probe_then_full``: first the heads alone, then all of it, so that new heads do not spoil what is below them;
    - ``gradual``: the heads alone, then one layer more in each stage, from the top down.

    With discriminative rates, the layer :math:`d` layers below the heads has the learning rate
    :math:`\eta \, r \, \delta^d`.

    Args:
        pretrain: Tasks of the first stage.
        finetune: Tasks of the later stages; all the others if empty.
        how: See above.
        decay: :math:`\delta` in (0, 1], in the stages after the first; 1 / 2.6 in the paper.
        rate: :math:`r`, factor on the learning rate in the stages after the first.

    Raises:
        RecipeError: If ``how`` is none of these, or no task is left for one of the stages.
        UnknownNameError: If a task is not one of the recipe's.

    Example:
        >>> schedule, done = PretrainThenFinetune(pretrain=["a"], how="gradual"), []
        >>> while (stage := schedule.next_stage(["a", "b"], 9, 2, done)) is not None:
        ...     done.append(StageResult(stage))
        >>> [(result.stage.tasks, result.stage.depth, result.stage.epochs) for result in done]
        [(('a',), None, None), (('b',), 0, 3), (('b',), 1, 3), (('b',), 2, 3)]

    Note:
        The stages after the first share the epochs of one training among them. Parts that are not trained run as in
        prediction: no dropout, no change of running statistics. The optimiser is renewed with each stage. It costs up
        to twice the epochs of ``joint``: as many for the first tasks, and as many for the others, whose stages have one
        epoch at least.

    References:
        Howard and Ruder, "Universal Language Model Fine-tuning for Text Classification", ACL 2018, sections 3.2 and 3.3
        (discriminative rates, gradual unfreezing; there, a layer an epoch); Kumar et al., "Fine-Tuning can Distort
        Pretrained Features and Underperform Out-of-Distribution", ICLR 2022 (probe, then all).
    """

    pretrain: Sequence[str] = ()
    finetune: Sequence[str] = ()
    how: str = "full"
    decay: float = 1.0
    rate: float = 1.0

    def __post_init__(self) -> None:
        if self.how not in WAYS:
            raise RecipeError(f"Schedule 'pretrain_then_finetune': how is one of {', '.join(WAYS)}; got {self.how!r}.")

    def never_trains(self, tasks: Sequence[str]) -> tuple[str, ...]:
        """The tasks in neither list, if both are given."""
        who = "schedule 'pretrain_then_finetune'"
        named = {*as_names(who, self.pretrain), *as_names(who, self.finetune)}
        return tuple(task for task in tasks if task not in named) if self.finetune else ()

    def next_stage(self, tasks: Sequence[str], epochs: int, n_layers: int, done: Sequence[StageResult]) -> Stage | None:
        """The pretraining, then one stage for each depth."""
        who = "schedule 'pretrain_then_finetune'"
        first = check_names(who, self.pretrain, tasks)
        second = check_names(who, self.finetune or [task for task in tasks if task not in first], tasks)
        if not first or not second:
            raise RecipeError(
                f"Schedule 'pretrain_then_finetune' needs tasks for both stages: set schedule.pretrain to some of "
                f"{', '.join(tasks)}, not to all."
            )
        if not done:
            return Stage("pretrain", first)
        depths: dict[str, list[int | None]] = {
            "full": [None],
            "frozen": [0],
            "probe_then_full": [0, None],
            "gradual": [*range(n_layers + 1)],
        }
        mine = depths[self.how]
        if len(done) > len(mine):
            return None
        depth = mine[len(done) - 1]
        name = "finetune" if len(mine) == 1 else f"finetune ({_words(depth)})"
        common: dict[str, Any] = {"decay": self.decay, "rate": self.rate, "depth": depth}
        return Stage(name, second, epochs=max(1, epochs // len(mine)) if len(mine) > 1 else None, **common)


def _words(depth: int | None) -> str:
    if depth is None:
        return "all"
    return "heads" if depth == 0 else f"heads and {depth} layer{'s' if depth > 1 else ''}"
