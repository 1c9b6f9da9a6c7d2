"""The verdict on each task: did learning it jointly help, hurt, or is there no evidence?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from polytask.records import Verdict
from polytask.study.statistics import Paired, corrected_t, fixed_split, holm

__all__ = ["Compared", "Pairs", "RowPairs", "judge"]

LEVEL = 0.05
"""Largest corrected p value of a verdict other than no evidence."""


class Compared(Protocol):
    """A task learned jointly and alone, tested on the same rows."""

    @property
    def level(self) -> float:
        """Mean error alone, which gains are shares of."""
        ...

    @property
    def words(self) -> str:
        """What the test rests on, such as ``10 folds``."""
        ...

    def test(self) -> Paired:
        """The error alone less the error jointly."""
        ...


@dataclass(frozen=True)
class Pairs:
    """The errors of a task learned jointly and alone, on the same folds with the same seeds.

    Args:
        joint: Relative error on each fold, NaN where the task is absent.
        single: The same of the single model.
        test_share: Test labels over training labels, a mean over the folds.
    """

    joint: np.ndarray
    single: np.ndarray
    test_share: float

    @property
    def level(self) -> float:
        """Mean error alone."""
        both = ~(np.isnan(self.joint) | np.isnan(self.single))
        return float(self.single[both].mean()) if both.any() else 0.0

    @property
    def words(self) -> str:
        """Number of folds."""
        n = int((~(np.isnan(self.joint) | np.isnan(self.single))).sum())
        return f"{n} fold{'s' * (n != 1)}"

    def test(self) -> Paired:
        """By the corrected resampled t test."""
        return corrected_t(self.single - self.joint, self.test_share)


@dataclass(frozen=True)
class RowPairs:
    """The losses of a task learned jointly and alone on the test rows of one split, over several seeds.

    Args:
        joint: Loss of each test label over the mean loss of the best constant, ``[S, N]``.
        single: The same of the single model.
        groups: What each label belongs to, ``[N]``.
        test_share: Test rows over training rows.
    """

    joint: np.ndarray
    single: np.ndarray
    groups: np.ndarray
    test_share: float

    @property
    def level(self) -> float:
        """Mean error alone."""
        return float(self.single.mean()) if self.single.size else 0.0

    @property
    def words(self) -> str:
        """Number of trainings and of test labels."""
        n = len(self.joint)
        return f"{n} training{'s' * (n != 1)} of each, {len(self.groups):,} test labels"

    def test(self) -> Paired:
        """By a bootstrap over groups and seeds."""
        return fixed_split(self.single - self.joint, self.groups, self.test_share)


def judge(
    pairs: Mapping[str, Compared], joint: str, single: str, recommended: Mapping[str, str] | None = None
) -> dict[str, Verdict]:
    """A verdict for each task, from a test of paired differences, with Holm's correction for the number of tasks.

    Args:
        pairs: Errors by task, with their test.
        joint: Name of the joint arm.
        single: Name of the single arm.
        recommended: The arm that should serve each task.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> hard = rng.uniform(0.4, 0.6, 10)
        >>> better = Pairs(hard - 0.1 + 0.01 * rng.normal(size=10), hard, 0.25)
        >>> same = Pairs(hard + 0.01 * rng.normal(size=10), hard, 0.25)
        >>> found = judge({"a": better, "b": same}, "joint", "single")
        >>> found["a"].verdict, found["b"].verdict
        ('helped', 'no evidence')
    """
    tests = {task: p.test() for task, p in pairs.items()}
    corrected = dict(zip(tests, holm([test.p for test in tests.values()]), strict=True))
    verdicts = {}
    for task, test in tests.items():
        level = pairs[task].level
        name = "no evidence"
        if corrected[task] <= LEVEL:
            name = "helped" if test.mean > 0 else "hurt"
        percent = [100 * value / level if level > 0 and np.isfinite(value) else None for value in _numbers(test)]
        gain, low, high = percent
        verdicts[task] = Verdict(
            verdict=name,
            gain=gain,
            interval=(low, high),
            p=test.p,
            p_corrected=corrected[task],
            n_pairs=test.n,
            joint=joint,
            single=single,
            recommendation=(recommended or {}).get(task, ""),
            words=_words(task, name, test, percent, pairs[task].words, (corrected[task], len(tests))),
        )
    return verdicts


def _numbers(test: Paired) -> Sequence[float]:
    return test.mean, test.low, test.high


def _words(
    task: str,
    verdict: str,
    test: Paired,
    percent: Sequence[float | None],
    tested: str,
    together: tuple[float, int] = (1.0, 1),
) -> str:
    """A verdict in a sentence; ``together`` are the corrected p value and the number of tasks."""
    gain, low, high = percent
    if not test.n:
        return f"{task}: no evidence; the joint and the single model were not both tested on any fold."
    if gain is None and verdict == "hurt":
        return f"{task}: learning jointly hurt; the error alone is zero, jointly {-test.mean:.3g} ({tested})."
    if gain is None:
        return f"{task}: no evidence; the error alone is zero, so that no relative gain is defined ({tested})."
    if low is None or high is None:
        return f"{task}: no evidence; there are too few tests to tell ({tested})."
    size = f"{abs(gain):.1f} %"
    # An error cannot get smaller by more than all of it, though the test's interval may say so.
    above = f"{high:+.1f}" if high <= 100 else "at most +100"
    sure = f"gain {gain:+.1f} %, 95 % interval {low:+.1f} to {above} %, {tested}"
    if verdict == "helped":
        return f"{task}: learning jointly helped; the error is {size} smaller than alone ({sure})."
    if verdict == "hurt":
        return f"{task}: learning jointly hurt; the error is {size} larger than alone ({sure})."
    way = "smaller" if gain >= 0 else "larger"
    p, n_tasks = together
    if n_tasks > 1 and not low <= 0 <= high:
        chance = f"which would count if this were the only task, but among {n_tasks} tasks tested at once may be chance"
        return f"{task}: no evidence; the error is {size} {way} than alone, {chance} (corrected p = {p:.2g}; {sure})."
    return f"{task}: no evidence; the error is {size} {way} than alone, which may be chance ({sure})."
