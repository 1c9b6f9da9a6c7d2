"""When an epoch is the best so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from polytask.errors import RecipeError

__all__ = ["is_better", "is_better_within", "is_over"]


def is_better(
    rule: str,
    epochs: Sequence[Mapping[str, float]],
    best: int | None,
    constant: Mapping[str, float],
) -> bool:
    """Whether the newest epoch should take the place of the best one kept.

    Args:
        rule: ``mean_rank``: the mean over tasks of the epoch's rank among all epochs so far is lower; ``mean``: the
            mean over tasks of the loss, relative to the constant prediction's, is lower; ``worst``: the highest such
            is lower; ``task:NAME``: that task's loss is lower.
        epochs: Each epoch's validation losses, the newest last. NaN counts as worst; a task without
            validation labels is not among them.
        best: Index of the epoch that is kept, or ``None``.
        constant: Each task's validation loss of its best constant prediction.

    Raises:
        RecipeError: If the rule names a task that has no validation labels.

    Example:
        >>> epochs = [{"a": 1.0, "b": 3.0}, {"a": 0.9, "b": 3.5}]
        >>> is_better("worst", epochs, 0, {"a": 1.0, "b": 4.0}), is_better("task:b", epochs, 0, {"a": 1.0, "b": 4.0})
        (True, False)
    """
    tasks = list(epochs[-1])
    if not tasks:
        return True
    losses = np.array([[epoch[task] for task in tasks] for epoch in epochs], dtype=float)
    losses = np.where(np.isnan(losses), np.inf, losses)
    if best is None:
        return True
    if rule == "mean_rank":
        # A rank is one plus the number of epochs that are lower, plus half the ties: O(epochs * T).
        new, kept = losses[-1], losses[best]
        return bool(_mean_rank(losses, new) < _mean_rank(losses, kept))
    if rule.startswith("task:"):
        name = rule.removeprefix("task:")
        if name not in tasks:
            raise RecipeError(f"stop_rule {rule!r} names no task with validation labels; there are {tasks}.")
        column = tasks.index(name)
        return bool(losses[-1, column] < losses[best, column])
    scale = np.array([max(constant[task], 1e-12) for task in tasks])
    summary = np.mean if rule == "mean" else np.max
    return bool(summary(losses[-1] / scale) < summary(losses[best] / scale))


def is_better_within(
    rule: str | None,
    epochs: Sequence[Mapping[str, float]],
    violations: Sequence[float],
    best: int | None,
    constant: Mapping[str, float],
) -> bool:
    """The same under constraints: a feasible epoch is better than any other, and of two others the one closer to it.

    Args:
        rule: Decides between feasible epochs, see :func:`is_better`; the newer one is better if ``None``.
        epochs: Each epoch's validation losses, the newest last.
        violations: How much each epoch violates the constraints in all; 0 if it is feasible.
        best: Index of the epoch that is kept, or ``None``.
        constant: Each task's validation loss of its best constant prediction.

    Example:
        >>> epochs = [{"a": 1.0}, {"a": 0.5}, {"a": 0.8}]
        >>> is_better_within("mean", epochs[:2], [0.0, 0.2], 0, {"a": 1.0})
        False
        >>> is_better_within("mean", epochs, [0.0, 0.2, 0.0], 0, {"a": 1.0})
        True

    References:
        Deb, An Efficient Constraint Handling Method for Genetic Algorithms, CMAME 2000 (feasible first).
    """
    if best is None:
        return True
    new, kept = violations[-1], violations[best]
    if new > 0.0 or kept > 0.0:
        return new < kept
    if rule is None:
        return True
    feasible = [i for i, violation in enumerate(violations) if violation == 0.0]
    return is_better(rule, [epochs[i] for i in feasible], feasible.index(best), constant)


def is_over(since: int, best: int, patience: int, share: float = 0.0) -> bool:
    """Whether a training has waited long enough for an epoch that is better than its best.

    Args:
        since: Epochs after the best one.
        best: Index of the best one.
        patience: Epochs to wait at least.
        share: Of the epochs up to the best one, to wait where that is more.

    Example:
        >>> is_over(16, 53, patience=16), is_over(16, 53, patience=16, share=0.5), is_over(27, 53, 16, 0.5)
        (True, False, True)
    """
    return since >= max(patience, share * (best + 1))


def _mean_rank(losses: np.ndarray, row: np.ndarray) -> float:
    lower = (losses < row).sum(axis=0)
    ties = (losses == row).sum(axis=0)
    return float(np.mean(lower + (ties + 1) / 2))
