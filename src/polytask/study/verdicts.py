"""The verdict on each task: did learning it jointly help, hurt, or is there no evidence?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from polytask.records import Verdict
from polytask.study.statistics import Paired, corrected_t, holm

__all__ = ["Pairs", "judge"]

LEVEL = 0.05
"""Largest corrected p value of a verdict other than no evidence."""


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


def judge(
    pairs: Mapping[str, Pairs], joint: str, single: str, recommended: Mapping[str, str] | None = None
) -> dict[str, Verdict]:
    """A verdict for each task, from the corrected resampled t test, with Holm's correction for the number of tasks.

    Args:
        pairs: Errors by task.
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
    tests = {task: corrected_t(p.single - p.joint, p.test_share) for task, p in pairs.items()}
    corrected = dict(zip(tests, holm([test.p for test in tests.values()]), strict=True))
    verdicts = {}
    for task, test in tests.items():
        both = ~(np.isnan(pairs[task].joint) | np.isnan(pairs[task].single))
        level = float(pairs[task].single[both].mean()) if both.any() else 0.0
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
            words=_words(task, name, gain, low, high, test),
        )
    return verdicts


def _numbers(test: Paired) -> Sequence[float]:
    return test.mean, test.low, test.high


def _words(task: str, verdict: str, gain: float | None, low: float | None, high: float | None, test: Paired) -> str:
    if gain is None:
        return f"{task}: no evidence; the joint and the single model were not both tested on any fold."
    if low is None or high is None:
        return f"{task}: no evidence; {test.n} paired tests are too few to tell."
    size = f"{abs(gain):.1f} %"
    sure = f"95 % interval {low:+.1f} to {high:+.1f} %, {test.n} paired tests"
    if verdict == "helped":
        return f"{task}: learning jointly helped; the error is {size} smaller than alone ({sure})."
    if verdict == "hurt":
        return f"{task}: learning jointly hurt; the error is {size} larger than alone ({sure})."
    way = "smaller" if gain >= 0 else "larger"
    return f"{task}: no evidence; the error is {size} {way} than alone, which may be chance ({sure})."
