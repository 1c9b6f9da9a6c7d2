"""Bounds that a training keeps, resolved against its tasks, groups and single models."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from polytask.data.batch import ArraySource, Batch
from polytask.errors import RecipeError, UnknownNameError
from polytask.shapes import Bool, Float, Shaped, Tensor
from polytask.tasks._ranking import RANKING_METRICS
from polytask.tasks.task import Task
from polytask.training.constraint_spec import ALL, ConstraintSpec
from polytask.training.rates import RATES, Terms, is_mean, terms_of

__all__ = ["Bound", "Part", "bounds_of", "mean_and_error", "stacked"]


@dataclass(frozen=True)
class Part:
    """One term of a measured value: the measure among all rows, or among those of a group.

    Args:
        factor: 1 or -1.
        column: Column of groups; empty for all rows.
        code: The group's code in that column.
    """

    factor: float = 1.0
    column: str = ""
    code: int = 0

    def rows(self, rows: Batch | ArraySource, observed: Bool[Tensor, "N ..."]) -> Bool[Tensor, "N ..."]:
        """The observed labels that count."""
        if not self.column:
            return observed
        inside = rows.groups[self.column] == self.code
        return observed & inside.view(-1, *[1] * (observed.ndim - 1)).to(observed.device)


_AT_MOST_1 = frozenset(
    {
        "accuracy",
        "ap",
        "ap_50",
        "auroc",
        "average_precision",
        "balanced_accuracy",
        "concordance",
        "d2",
        "f1",
        "macro_f1",
        "mean_iou",
        "pixel_accuracy",
        "quadratic_kappa",
        "r2",
        "recall_at_1",
        "recall_at_5",
        "span_f1",
    }
)
"""Metrics whose best value is 1."""


@dataclass(frozen=True)
class Bound:
    """One inequality: a measured value is at most, or at least, a number.

    Args:
        name: As history, terminal and record call it.
        task: The task.
        metric: What is measured.
        bound: The number.
        side: 1 if the value is to be at most the bound, -1 if at least.
        parts: What the value is the sum of.
        margin: How much better than the bound the training aims to be, or ``auto``.
        follows_validation: Whether the multiplier follows validation rows.
    """

    name: str
    task: Task
    metric: str
    bound: float
    side: float = 1.0
    parts: tuple[Part, ...] = (Part(),)
    margin: float | str = 0.0
    follows_validation: bool = False

    @property
    def is_mean(self) -> bool:
        """Whether a batch gives an unbiased estimate of the value."""
        return is_mean(self.metric)

    @property
    def scale(self) -> float:
        """What violations are divided by before those of several constraints are added."""
        has_unit = self.metric == "loss" or any(
            m.name == self.metric and not m.baseline_free for m in self.task.metrics
        )
        return max(abs(self.bound), 0.05) if has_unit else 1.0

    def violation(self, value: Any) -> Any:
        """How far a value is beyond the bound; not positive if it is kept."""
        return self.side * (value - self.bound)

    def terms(
        self,
        outputs: Float[Tensor, "N O"],
        targets: Shaped[Tensor, "N ..."],
        observed: Bool[Tensor, "N ..."],
        rows: Batch | ArraySource,
    ) -> list[Terms]:
        """The measure of each label that counts, for each part."""
        return [terms_of(self.metric, self.task, outputs, targets, part.rows(rows, observed)) for part in self.parts]


def bounds_of(
    specs: Sequence[ConstraintSpec],
    tasks: Sequence[Task],
    groups: Mapping[str, Sequence[Any]],
    single_losses: Mapping[str, float],
) -> list[Bound]:
    """Every inequality of the constraints.

    Args:
        specs: The constraints.
        tasks: The tasks of the run.
        groups: The levels of each column of groups; a group's code is its place among them.
        single_losses: Validation losses of the single models, for constraints that compare with them.

    Raises:
        RecipeError: If a task, a metric or a group is not known, or a constraint comes twice.
    """
    bounds = [bound for spec in specs for bound in _bounds(spec, tasks, groups, single_losses)]
    names = [bound.name for bound in bounds]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise RecipeError(f"The constraint {twice[0]} comes twice; once is enough.")
    _check_together(bounds)
    return bounds


def _check_together(bounds: Sequence[Bound]) -> None:
    """Raise if a value would have to be above one bound and below another."""
    for low, high in itertools.permutations(bounds, 2):
        same = low.task.name == high.task.name and low.metric == high.metric and low.parts == high.parts
        if same and low.side < 0 < high.side and low.bound > high.bound:
            raise RecipeError(f"No model keeps {low.name} and {high.name} together: take one of them out, or move it.")


def _bounds(
    spec: ConstraintSpec, tasks: Sequence[Task], groups: Mapping[str, Sequence[Any]], single: Mapping[str, float]
) -> Iterator[Bound]:
    by_name = {task.name: task for task in tasks}
    if spec.task != ALL and spec.task not in by_name:
        raise UnknownNameError("task", spec.task, [*by_name, ALL], f"a constraint on {spec.task}.{spec.metric}")
    for task in tasks if spec.task == ALL and ALL not in by_name else [by_name[spec.task]]:
        _check_metric(spec, task)
        compares = spec.worse_than_single_by is not None
        watch = spec.watch or ("validation" if compares or not is_mean(spec.metric) else "train")
        made = partial(
            Bound, task=task, metric=spec.metric, margin=spec.margin, follows_validation=watch == "validation"
        )
        what = f"{task.name}.{spec.metric}"
        if spec.within is not None:
            for pair, parts in _pairs(spec, groups):
                yield made(f"{what} {pair}<={spec.within:g}", bound=spec.within, parts=parts)
        elif compares:
            if task.name not in single:
                raise RecipeError(
                    f"{task.name} is compared with its single model, which has no validation loss: give "
                    "split.validation a share above 0, and the task labels there."
                )
            loss = single[task.name]
            yield made(f"{what}<=single+{100 * spec.share:.4g}%", bound=loss + spec.share * abs(loss))
        elif spec.at_most is not None:
            yield made(f"{what}<={spec.at_most:g}", bound=spec.at_most)
        else:
            yield made(f"{what}>={spec.at_least:g}", bound=float(spec.at_least or 0.0), side=-1.0)


def _check_metric(spec: ConstraintSpec, task: Task) -> None:
    if spec.metric == "loss":
        return
    bounds = {n: v for n in ("at_most", "at_least", "within") if (v := getattr(spec, n)) is not None}
    if spec.metric in RATES:
        for name, value in bounds.items():
            if not 0.0 <= value <= 1.0:
                raise RecipeError(
                    f"{spec.metric} of task {task.name!r} is a share from 0 to 1, and so is a bound on it; got "
                    f"{name} {value:g}. Write 95 % as 0.95 or 95%."
                )
        if task.kind != "binary":
            raise RecipeError(
                f"{spec.metric} is a rate of binary tasks, and {task.name!r} is {task.kind}. "
                f"It has: loss, {', '.join(m.name for m in task.metrics)}."
            )
        return
    known = [m.name for m in task.metrics]
    if spec.metric in [m.name for m in RANKING_METRICS]:
        raise RecipeError(
            f"{spec.metric} of task {task.name!r} is measured within each user's rows after the training, and no "
            f"constraint can follow it. What can: loss, {', '.join(known)}."
        )
    if spec.metric not in known:
        rates = list(RATES) if task.kind == "binary" else []
        raise UnknownNameError(f"metric of task {task.name!r}", spec.metric, ["loss", *rates, *known])
    (higher,) = (m.higher_is_better for m in task.metrics if m.name == spec.metric)
    if (spec.at_most if higher else spec.at_least) is not None:
        raise RecipeError(
            f"{task.name}.{spec.metric} is better the {'higher' if higher else 'lower'} it is, and its constraint is "
            f"followed by lowering the task's loss; so it takes {'at_least (>=)' if higher else 'at_most (<=)'} only."
        )
    if spec.metric in _AT_MOST_1 and spec.at_least is not None and spec.at_least > 1.0:
        raise RecipeError(
            f"{task.name}.{spec.metric} is never above 1, so no model keeps a bound of at least {spec.at_least:g}."
        )
    if spec.within is not None:
        raise RecipeError(
            f"Groups are compared by the loss or by a rate ({', '.join(RATES)}), not by {spec.metric}: it is no mean "
            "over rows."
        )


def _pairs(spec: ConstraintSpec, groups: Mapping[str, Sequence[Any]]) -> Iterator[tuple[str, tuple[Part, ...]]]:
    """Both differences of each pair of groups: a bound on the absolute value is two inequalities."""
    column = str(spec.by)
    levels = list(groups[column])
    for group in spec.between:
        if group not in levels:
            raise UnknownNameError(f"group in column {column!r}", str(group), map(str, levels))
    chosen = list(spec.between) or levels
    if len(chosen) < 2:
        found = f"one group only, {chosen[0]!r}" if chosen else "no value at all"
        raise RecipeError(
            f"A constraint by {column!r} compares groups, and the training rows have {found} in that column: name a "
            "column of two groups or more, or take the constraint out."
        )
    # 1 and "1" may be two groups of one column, and look alike but for their quotes.
    show = str if len({str(group) for group in levels}) == len(levels) else repr
    for a, b in itertools.permutations(chosen, 2):
        parts = (Part(1.0, column, levels.index(a)), Part(-1.0, column, levels.index(b)))
        yield f"({column}: {show(a)} - {show(b)})", parts


def mean_and_error(parts: Sequence[Part], terms: Sequence[Tensor]) -> tuple[float, float]:
    """The value and its standard error; NaN if some part has no label, and an infinite error if one has one only."""
    value, variance = 0.0, 0.0
    for part, numbers in zip(parts, terms, strict=True):
        n = numbers.numel()
        if n == 0:
            return math.nan, math.nan
        value += part.factor * numbers.double().mean().item()
        variance += numbers.double().var().item() / n if n > 1 else math.inf
    return value, math.sqrt(variance)


def stacked(pieces: Sequence[Terms]) -> Terms:
    """The labels of several batches together."""
    return Terms(torch.cat([p.proxy for p in pieces]), torch.cat([p.truth for p in pieces]))
