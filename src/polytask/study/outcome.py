"""Everything that a study trained, and what its errors and losses say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from polytask.records import Interval, StudyFold
from polytask.study.scores import Candidate, FoldScores
from polytask.study.statistics import fixed_split, interval_of
from polytask.study.store import Trial
from polytask.study.verdicts import Compared, Pairs, RowPairs
from polytask.tasks.task import Task

__all__ = ["Outcome"]


@dataclass
class Outcome:
    """Everything that was trained.

    Args:
        tasks: The tasks, fitted on all rows.
        folds: The folds, in order.
        trials: Trials by arm, in the order of the folds.
        scores: Answers and truth of each fold.
        is_fixed: Whether the same rows are tested in every repetition.
    """

    tasks: Sequence[Task]
    folds: Sequence[StudyFold]
    trials: Mapping[str, Sequence[Trial]]
    scores: Sequence[FoldScores]
    is_fixed: bool = False

    @property
    def names(self) -> list[str]:
        """Names of the tasks."""
        return [task.name for task in self.tasks]

    @property
    def test_share(self) -> float:
        """Test rows over training rows, a mean over the folds."""
        return float(np.mean([fold.n_test / fold.n_train for fold in self.folds]))

    def errors(self, arm: str, task: str) -> np.ndarray:
        """Relative error on each fold, NaN where there is none."""
        found = [trial.error(task) for trial in self.trials[arm]]
        return np.array([np.nan if error is None else error for error in found], dtype=np.float64)

    def losses(self, candidates: Sequence[Candidate | None], task: str) -> np.ndarray | None:
        """Losses on the test rows over the constant's, a row for each repetition; ``None`` if not served in all."""
        found = []
        for scores, candidate in zip(self.scores, candidates, strict=True):
            there = candidate is not None and task in scores.kept.tasks
            losses = scores.losses(candidate, task, "test") if there and candidate is not None else None
            constant = scores.constant_loss(task) if losses is not None else 0.0
            if losses is None or not len(losses) or constant <= 0:
                return None
            found.append(losses / constant)
        return np.stack(found)

    def interval(
        self, errors: Sequence[float | None] | np.ndarray, candidates: Sequence[Candidate | None], task: str
    ) -> Interval:
        """Mean of a task's errors over the folds, with its interval."""
        if not self.is_fixed:
            return interval_of(errors, self.test_share)
        mean = interval_of(errors, self.test_share).mean
        losses = self.losses(candidates, task)
        if mean is None or losses is None:
            return Interval(mean, None, None)
        tested = fixed_split(losses, self.scores[0].groups(task), self.test_share)
        half = tested.high - tested.mean
        return Interval(mean, mean - half, mean + half) if np.isfinite(half) else Interval(mean, None, None)

    def pairs(self, joint: str, single: str, task: str) -> Compared:
        """What the verdict on a task is about."""
        if self.is_fixed:
            n = len(self.folds)
            both = [self.losses([(arm,)] * n, task) for arm in (joint, single)]
            if both[0] is not None and both[1] is not None:
                return RowPairs(both[0], both[1], self.scores[0].groups(task), self.test_share)
            return RowPairs(np.zeros((0, 0)), np.zeros((0, 0)), np.zeros(0, dtype=np.int64), self.test_share)
        return Pairs(self.errors(joint, task), self.errors(single, task), self.test_share)

    def mean_error(self, arm: str, task: str) -> float:
        """Mean of the errors; NaN if the arm did not serve the task on each fold where it could."""
        errors = self.errors(arm, task)
        could = [task not in fold.absent for fold in self.folds]
        return float(errors[could].mean()) if any(could) else np.nan
