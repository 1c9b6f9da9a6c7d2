"""Which arm should serve which task, and what that way of choosing is worth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import torch

from polytask.bundle.blend import blended
from polytask.shapes import Tensor
from polytask.study.trials import Answers, KeptFold, Trial, losses_of

__all__ = ["Candidate", "Chosen", "FoldScores", "choose", "choose_all", "name_of"]

Candidate = tuple[str, ...]
"""Arms whose mean answer serves a task; mostly one."""

_BLENDED = 3
"""The best so many arms are also tried in pairs."""


def name_of(candidate: Candidate) -> str:
    """As it is shown: ``boosting + joint``."""
    return " + ".join(candidate)


def choose(
    errors: Mapping[Candidate, Mapping[str, float]], losses: Mapping[Candidate, Mapping[str, np.ndarray]]
) -> dict[str, Candidate]:
    """A candidate for each task, from what they did on validation rows.

    The candidate with the smallest mean error over all tasks serves every task, but for those where another one is
    better by more than one standard error of the paired difference of the losses: the best for each task on its
    own would often be the luckiest.

    Args:
        errors: Relative error by candidate and task; NaN or left out where a candidate does not serve a task.
        losses: The loss of each validation label, in the same order for all candidates.

    Example:
        >>> errors = {("a",): {"x": 0.5, "y": 0.4}, ("b",): {"x": 0.4, "y": 0.8}}
        >>> losses = {("a",): {"x": np.full(9, 0.5)}, ("b",): {"x": np.linspace(0.39, 0.41, 9)}}
        >>> choose(errors, losses)
        {'x': ('b',), 'y': ('a',)}
    """
    names = list(errors)
    tasks = list(dict.fromkeys(task for by_task in errors.values() for task in by_task))
    table = np.array([[errors[name].get(task, np.nan) for task in tasks] for name in names], dtype=np.float64)
    known = ~np.isnan(table)
    full = np.flatnonzero(known.sum(1) == known.sum(1).max())
    means = [table[row][known[row]].mean() if known[row].any() else np.inf for row in full]
    base = int(full[int(np.argmin(means))])
    chosen = {}
    for position, task in enumerate(tasks):
        column = table[:, position]
        if not known[:, position].any():
            chosen[task] = names[base]
            continue
        best = int(np.nanargmin(column))
        if not known[base, position] or (
            best != base and _is_clear(losses[names[base]].get(task), losses[names[best]].get(task))
        ):
            chosen[task] = names[best]
        else:
            chosen[task] = names[base]
    return chosen


def _is_clear(worse: np.ndarray | None, better: np.ndarray | None) -> bool:
    """Whether the second losses are lower than the first by more than one standard error of the difference."""
    if worse is None or better is None or len(worse) < 2:
        return False
    difference = worse - better
    return bool(difference.mean() > difference.std(ddof=1) / np.sqrt(len(difference)))


class FoldScores:
    """Errors and losses of arms, and of means of arms, on one fold.

    Args:
        kept: The fold.
        trials: What the arms did on it, by name.
        answers: Their answers.
    """

    def __init__(self, kept: KeptFold, trials: Mapping[str, Trial], answers: Mapping[str, Answers]):
        self.kept, self.trials, self.answers = kept, trials, answers
        self._outputs: dict[tuple[Candidate, str, str], Tensor | None] = {}
        self._errors: dict[tuple[Candidate, str, str], float] = {}

    def outputs(self, candidate: Candidate, part: str, task: str) -> Tensor | None:
        """Outputs on the rows with an observed label; ``None`` if the candidate does not serve the task here."""
        key = (candidate, part, task)
        if key not in self._outputs:
            parts = [self.answers[arm].get(part, {}).get(task) for arm in candidate]
            there = [out for out in parts if out is not None and bool(out.isfinite().all())]
            self._outputs[key] = blended(self.kept.tasks[task], there) if len(there) == len(parts) else None
        return self._outputs[key]

    def error(self, candidate: Candidate, part: str, task: str) -> float:
        """Relative error; NaN if the candidate does not serve the task here."""
        key = (candidate, part, task)
        if key not in self._errors:
            out = self.outputs(candidate, part, task)
            found = np.nan
            if out is not None and len(out):
                targets, observed = self.kept.truth[part][task]
                found = self.kept.tasks[task].evaluate(out, targets, observed)["relative_error"]
            self._errors[key] = found
        return self._errors[key]

    def losses(self, candidate: Candidate, task: str, part: str = "validation") -> np.ndarray | None:
        """The loss of each label of a part."""
        out = self.outputs(candidate, part, task)
        return None if out is None else losses_of(self.kept, part, task, out)

    def groups(self, task: str) -> np.ndarray:
        """The number of what each test label belongs to: its group, or its row where there are no groups."""
        observed = self.kept.truth["test"][task][1]
        rows = (observed.nonzero()[:, 0] if observed.ndim > 1 else torch.arange(len(observed))).numpy()
        known = self.kept.groups.get(task)
        return rows if known is None else known[rows]

    def constant_loss(self, task: str) -> float:
        """Mean loss of the best constant of the training labels on the test rows."""
        bias = self.kept.tasks[task].initial_bias()
        constant = bias.expand(len(self.kept.truth["test"][task][0]), -1)
        return float(losses_of(self.kept, "test", task, constant).mean())


class Chosen:
    """The choice of a study.

    Args:
        final: The candidate of each task, from the validation rows of all folds.
        errors: Per task, the relative error on the test rows of each fold of what was chosen inside that fold.
        counts: Per task, how often each candidate was chosen inside the folds.
        inside: For each fold, the candidate of each task that was chosen inside it.
    """

    def __init__(
        self,
        final: dict[str, Candidate],
        errors: dict[str, list[float]],
        counts: dict[str, dict[str, int]],
        inside: Sequence[Mapping[str, Candidate]] = (),
    ):
        self.final, self.errors, self.counts, self.inside = final, errors, counts, inside


def choose_all(folds: Sequence[FoldScores], arms: Sequence[str], tasks: Sequence[str]) -> Chosen:
    """Choose inside each fold and test that choice there; then choose from all folds together.

    Args:
        folds: The folds.
        arms: The arms to choose among.
        tasks: All tasks.
    """
    errors: dict[str, list[float]] = {task: [] for task in tasks}
    counts: dict[str, Counter[str]] = {task: Counter() for task in tasks}
    every = []
    for scores in folds:
        inside = _choose_from([scores], arms, tasks)
        every.append(inside)
        for task in tasks:
            candidate = inside.get(task)
            errors[task].append(np.nan if candidate is None else scores.error(candidate, "test", task))
            if candidate is not None and task in scores.kept.tasks:
                counts[task][name_of(candidate)] += 1
    final = _choose_from(folds, arms, tasks)
    return Chosen(final, errors, {task: dict(count.most_common()) for task, count in counts.items()}, every)


def _choose_from(folds: Sequence[FoldScores], arms: Sequence[str], tasks: Sequence[str]) -> dict[str, Candidate]:
    candidates: list[Candidate] = [(arm,) for arm in arms]
    errors = {candidate: _mean_errors(folds, candidate, tasks) for candidate in candidates}
    best = sorted(candidates, key=lambda c: _overall(errors[c], tasks))[:_BLENDED]
    for one, other in combinations(sorted(best, key=candidates.index), 2):
        pair = (*one, *other)
        candidates.append(pair)
        errors[pair] = _mean_errors(folds, pair, tasks)
    losses = {candidate: _losses(folds, candidate, tasks) for candidate in candidates}
    return choose(errors, losses)


def _mean_errors(folds: Sequence[FoldScores], candidate: Candidate, tasks: Sequence[str]) -> dict[str, float]:
    found = {}
    for task in tasks:
        there = [scores for scores in folds if task in scores.kept.tasks]
        # One that does not serve the task on every fold cannot be relied on.
        is_served = all(scores.outputs(candidate, "validation", task) is not None for scores in there)
        values = np.array([scores.error(candidate, "validation", task) for scores in there if is_served], np.float64)
        values = values[~np.isnan(values)]
        found[task] = float(values.mean()) if len(values) else np.nan
    return found


def _overall(errors: Mapping[str, float], tasks: Sequence[str]) -> tuple[int, float]:
    values = np.array([errors[task] for task in tasks])
    known = values[~np.isnan(values)]
    return len(values) - len(known), float(known.mean()) if len(known) else np.inf


def _losses(folds: Sequence[FoldScores], candidate: Candidate, tasks: Sequence[str]) -> dict[str, np.ndarray]:
    found = {}
    for task in tasks:
        parts = [scores.losses(candidate, task) for scores in folds if task in scores.kept.tasks]
        whole = [part for part in parts if part is not None]
        if whole and len(whole) == len(parts):
            found[task] = np.concatenate(whole)
    return found
