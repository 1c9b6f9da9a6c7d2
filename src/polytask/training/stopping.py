"""When an epoch is the best so far, and when a training is over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from polytask.errors import RecipeError, UnknownNameError
from polytask.tasks.task import Task
from polytask.training.position import Position
from polytask.training.settings import Settings

__all__ = ["StopRule", "is_better", "is_better_within", "is_over"]


_LEAST_STRENGTH = 1 / 16


class StopRule:
    """Decides which epoch to keep and when to stop waiting for a better one; it keeps no state besides the position.

    Args:
        settings: The rule, the patience, the number of epochs.
        tasks: The tasks.
        constant: Validation loss of each task's constant prediction.
        patient: Tasks with a patience of their own, each of which has its own best epoch.
        is_measured: Whether there are validation rows.
        is_bound: Whether there are constraints to be feasible for.

    Raises:
        UnknownNameError: If the rule is a task's without validation labels.
    """

    def __init__(
        self,
        settings: Settings,
        tasks: Sequence[Task],
        constant: Mapping[str, float],
        patient: Sequence[str] = (),
        *,
        is_measured: bool = True,
        is_bound: bool = False,
    ):
        self.settings, self.constant, self.is_bound = settings, constant, is_bound
        # Whether every task has a patience of its own, so that these alone end the training.
        self.each_is_patient = {task.name for task in tasks} <= {*patient}
        self.tracks_best = is_measured and (settings.patience is not None or self.each_is_patient)
        # A task of weight 0 is no objective: it may be as bad as its constraints allow.
        self.wanted = {task.name for task in tasks if task.weight > 0.0}
        if settings.stop_rule.startswith("task:"):
            name = settings.stop_rule.removeprefix("task:")
            self.wanted = {name}
            if is_measured and settings.patience is not None and name not in constant:
                raise UnknownNameError("task with validation labels", name, constant, "stop_rule")
        elif not self.each_is_patient:
            self.wanted -= {*patient}

    def is_best(self, at: Position) -> bool:
        """Whether the newest epoch is to be kept for now."""
        rule = self.settings.stop_rule
        epochs, best = at.validation, at.best
        # Ranks among all epochs are all that looks at more than two of them; those of one task are its losses' order.
        compares_two = rule != "mean_rank" or len(self.wanted) == 1
        if not self.is_bound and compares_two and best is not None:
            epochs, best = [epochs[best], epochs[-1]], 0
        losses = [{name: loss for name, loss in epoch.items() if name in self.wanted} for epoch in epochs]
        if not self.is_bound:
            return self.tracks_best and is_better(rule, losses, best, self.constant)
        return is_better_within(rule if self.tracks_best else None, losses, at.violations, at.best, self.constant)

    def is_patience_over(self, at: Position, strength: float = 1.0) -> bool:
        """Whether the training has waited long enough for an epoch that is better than its best.

        Args:
            at: Where the training is.
            strength: Of its dropout, see :class:`~polytask.training.fading.Fading`, by which the patience is divided:
                where next to nothing is left to be explained there is no noise to be learned by waiting.
        """
        patience, since = self.settings.patience, at.since_best
        if not self.tracks_best or patience is None or self.each_is_patient:
            return False
        # While no epoch is feasible, the multipliers still grow: only the last epoch can tell that none will be.
        if at.violations and at.best is not None and at.violations[at.best] > 0.0:
            return False
        patient = patience / max(strength, _LEAST_STRENGTH)
        return is_over(since, at.epoch - 1 - since, patient, self.settings.patience_share)


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
            raise RecipeError(f"stop_rule {rule!r} needs a task with validation labels: {', '.join(tasks)}.")
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


def is_over(since: int, best: int, patience: float, share: float = 0.0) -> bool:
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
