"""Which arm should serve which task, and what that way of choosing is worth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from polytask.study.scores import CONSTANT, Candidate, FoldScores, name_of

__all__ = ["Chosen", "choose", "choose_all"]

_BLENDED = 3
"""The best so many arms are also tried in pairs."""
_MOST = 4
"""At most so many arms serve one task together: each has to be trained, kept and asked."""
_CLEAR = 2.0
"""By so many standard errors another candidate must be better for a task than the one that serves all."""


def choose(
    base: Candidate,
    errors: Mapping[Candidate, Mapping[str, float]],
    losses: Mapping[Candidate, Mapping[str, np.ndarray]],
    groups: Mapping[str, np.ndarray] | None = None,
) -> dict[str, Candidate]:
    """A candidate for each task, from what they did on validation rows.

    One candidate serves every task, but for those where another one is clearly better: the best for each task on its
    own would often be the luckiest. The constant is such another one; if labels come in groups, it serves every task
    where nothing is clearly better than it, unless the base is, over all tasks together.

    Args:
        base: The candidate that serves every task, unless there is a reason.
        errors: Relative error by candidate and task; NaN or left out where a candidate does not serve a task.
        losses: The loss of each validation label, in the same order for all candidates; those of :data:`CONSTANT`, if
            it is to be chosen where nothing was learned.
        groups: By task, what each label belongs to; each label is its own group for tasks that are not named.

    Example:
        >>> errors = {("a",): {"x": 0.5, "y": 0.4}, ("b",): {"x": 0.4, "y": 0.8}}
        >>> losses = {("a",): {"x": np.full(9, 0.5)}, ("b",): {"x": np.linspace(0.39, 0.41, 9)}}
        >>> choose(("a",), errors, losses)
        {'x': ('b',), 'y': ('a',)}
    """
    of = groups or {}
    # What few groups have in common looks like knowledge on a handful of others: there it is the lead over the
    # constant that has to be clear. Elsewhere it is the constant's, which is one more candidate. A task alone has
    # seldom enough groups to tell; all of them together have.
    has_learned = _is_better_overall(losses.get(CONSTANT, {}), losses[base], of)
    chosen = {}
    for task in dict.fromkeys(task for by_task in errors.values() for task in by_task):
        known = {c: by_task[task] for c, by_task in errors.items() if not np.isnan(by_task.get(task, np.nan))}
        best = min(known, key=lambda c: known[c], default=base)
        mine, other, group = losses[base].get(task), losses[best].get(task), of.get(task)
        is_other = base not in known or (best != base and _is_better(mine, other, group))
        chosen[task] = best if is_other else base
        constant = losses.get(CONSTANT, {}).get(task)
        own = losses[chosen[task]].get(task)
        is_proven = group is None or has_learned
        is_constant = _is_better(own, constant, group) if is_proven else not _is_better(constant, own, group)
        if constant is not None and is_constant:
            chosen[task] = CONSTANT
    return chosen


def _is_better(worse: np.ndarray | None, better: np.ndarray | None, groups: np.ndarray | None) -> bool:
    """Whether the second losses are clearly lower than the first."""
    if worse is None or better is None:
        return False
    mean, error = _difference(worse, better, groups)
    return mean > _CLEAR * error


def _is_better_overall(
    worse: Mapping[str, np.ndarray], better: Mapping[str, np.ndarray], groups: Mapping[str, np.ndarray]
) -> bool:
    """Whether the second losses are clearly lower over all tasks with groups together, each in units of the first."""
    tasks = [task for task in groups if task in better and len(worse.get(task, ()))]
    if not tasks:
        return False
    scales = {task: len(tasks) * len(worse[task]) * max(float(worse[task].mean()), 1e-12) for task in tasks}
    parts = [(worse[task] - better[task]) / scales[task] for task in tasks]
    codes = np.unique(np.concatenate([groups[task] for task in tasks]), return_inverse=True)[1]
    n_groups = int(codes.max()) + 1
    if n_groups < 2:
        return False
    sums = np.bincount(codes, weights=np.concatenate([part - part.mean() for part in parts]), minlength=n_groups)
    error = float(np.sqrt((sums**2).sum() * n_groups / (n_groups - 1)))
    return float(sum(part.sum() for part in parts)) > _CLEAR * error


def _difference(one: np.ndarray, other: np.ndarray, groups: np.ndarray | None) -> tuple[float, float]:
    """Mean of the paired differences, and its standard error.

    Labels of one group, such as a patient's, have their luck in common: the error is that of a mean over groups drawn
    at random.
    """
    difference = one - other
    codes = np.unique(np.arange(len(difference)) if groups is None else groups, return_inverse=True)[1]
    n_groups = int(codes.max(initial=-1)) + 1
    if n_groups < 2:
        return float(difference.mean()) if len(difference) else 0.0, np.inf
    sums = np.bincount(codes, weights=difference - difference.mean(), minlength=n_groups)
    return float(difference.mean()), float(np.sqrt((sums**2).sum() * n_groups / (n_groups - 1)) / len(difference))


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
        tasks: All tasks; those that the same arms serve are chosen for together.
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
    chosen: dict[str, Candidate] = {}
    for mine, served in _served_alike(folds, arms, tasks):
        chosen |= _choose_among(folds, mine, served)
    return {task: chosen[task] for task in tasks if task in chosen}


def _served_alike(
    folds: Sequence[FoldScores], arms: Sequence[str], tasks: Sequence[str]
) -> list[tuple[list[str], list[str]]]:
    """The arms that serve the same tasks, with these tasks: an arm is compared on those that it serves.

    A task that no arm serves, such as one that is absent from the folds, goes with the first others.
    """
    of = {task: tuple(arm for arm in arms if _is_served(folds, (arm,), task)) for task in tasks}
    first = next((mine for mine in of.values() if mine), tuple(arms))
    found: dict[tuple[str, ...], list[str]] = {}
    for task in tasks:
        found.setdefault(of[task] or first, []).append(task)
    return [(list(mine), served) for mine, served in found.items()]


def _choose_among(folds: Sequence[FoldScores], arms: Sequence[str], tasks: Sequence[str]) -> dict[str, Candidate]:
    candidates: list[Candidate] = [(arm,) for arm in arms]
    errors = {candidate: _mean_errors(folds, candidate, tasks) for candidate in candidates}
    best = sorted(candidates, key=lambda c: _overall(errors[c], tasks))[:_BLENDED]
    for one, other in combinations(sorted(best, key=candidates.index), 2):
        pair = (*one, *other)
        candidates.append(pair)
        errors[pair] = _mean_errors(folds, pair, tasks)
    losses = {candidate: _losses(folds, candidate, tasks) for candidate in (*candidates, CONSTANT)}
    groups = _groups(folds, tasks)
    base = _good_enough([(arm,) for arm in arms], errors, losses, groups, tasks)
    if base not in errors:
        errors[base], losses[base] = _mean_errors(folds, base, tasks), _losses(folds, base, tasks)
    return choose(base, errors, losses, groups)


def _good_enough(
    arms: Sequence[Candidate],
    errors: Mapping[Candidate, Mapping[str, float]],
    losses: Mapping[Candidate, Mapping[str, np.ndarray]],
    groups: Mapping[str, np.ndarray],
    tasks: Sequence[str],
) -> Candidate:
    """The mean of the arms that may be the best: no more than one standard error behind it, over all tasks together.

    All of them serve all of the tasks, but for tasks that none serves.

    Which of them is the best is mostly chance on few validation rows, and their mean is mostly better than each.
    """
    order = sorted(arms, key=lambda c: _overall(errors[c], tasks))
    best, members = order[0], []
    for arm in order:
        behind, chance = [], []
        for task in tasks:
            one, other, constant = (losses[c].get(task) for c in (arm, best, CONSTANT))
            if one is None or other is None or not len(other):
                continue
            mean, error = _difference(one, other, groups.get(task))
            scale = max(float((other if constant is None else constant).mean()), 1e-12)
            behind.append(mean / scale)
            chance.append(error / scale)
        if arm == best or (behind and np.mean(behind) <= np.mean(chance)):
            members.append(arm)
    chosen = sorted(members[:_MOST], key=arms.index)
    return tuple(name for arm in chosen for name in arm)


def _mean_errors(folds: Sequence[FoldScores], candidate: Candidate, tasks: Sequence[str]) -> dict[str, float]:
    found = {}
    for task in tasks:
        there = [scores for scores in folds if task in scores.kept.tasks]
        is_served = _is_served(folds, candidate, task)
        values = np.array([scores.error(candidate, "validation", task) for scores in there if is_served], np.float64)
        values = values[~np.isnan(values)]
        found[task] = float(values.mean()) if len(values) else np.nan
    return found


def _is_served(folds: Sequence[FoldScores], candidate: Candidate, task: str) -> bool:
    """Whether it answers the task on every fold that has it, with labels to compare or not."""
    there = [scores for scores in folds if task in scores.kept.tasks]
    return bool(there) and all(scores.outputs(candidate, "validation", task) is not None for scores in there)


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


def _groups(folds: Sequence[FoldScores], tasks: Sequence[str]) -> dict[str, np.ndarray]:
    """What the labels of :func:`_losses` belong to; a group that is in several folds is one all the same."""
    found = {}
    for task in tasks:
        parts = [scores.validation_groups.get(task) for scores in folds if task in scores.kept.tasks]
        whole = [part for part in parts if part is not None]
        if whole and len(whole) == len(parts):
            together = np.concatenate(whole)
            if len(np.unique(together)) < len(together):  # labels that are each their own group are labels
                found[task] = together
    return found
