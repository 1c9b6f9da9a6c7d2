"""The statistics of a study: paired differences over resamples, many tasks at once, scores of arms."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from polytask.records import Interval

__all__ = ["Paired", "corrected_t", "fixed_split", "holm", "interval_of", "mean_ranks", "place_among", "relative_gain"]

_LEVEL = 0.95
_FEWEST = 3
"""Fewest paired differences from which anything is concluded."""
_DRAWS = 1000


@dataclass(frozen=True)
class Paired:
    """What paired differences say.

    Args:
        mean: Their mean.
        low: Lower end of its 95 % interval.
        high: Upper end.
        p: Two-sided p value of the mean being zero; 1 if there are too few differences.
        n: Number of differences.
    """

    mean: float
    low: float
    high: float
    p: float
    n: int


def corrected_t(differences: Sequence[float] | np.ndarray, test_share: float) -> Paired:
    r"""The corrected resampled t test of paired differences over overlapping training sets.

    .. math:: t = \frac{\bar d}{\sqrt{\left(\frac{1}{J} + \frac{n_\text{test}}{n_\text{train}}\right) s^2}}

    with the variance :math:`s^2` of the :math:`J` differences and :math:`J - 1` degrees of freedom.

    Args:
        differences: One for each fold and repetition; NaN where one is not defined.
        test_share: :math:`n_\text{test} / n_\text{train}`.

    Example:
        >>> found = corrected_t([0.10, 0.12, 0.08, 0.11, 0.09], test_share=0.25)
        >>> round(found.mean, 3), round(found.p, 4)
        (0.1, 0.0007)

    Note:
        The training sets of folds overlap, so that their differences are correlated and the plain t test takes chance
        for an effect far too often; the second term in the root is the correction. Fewer than 3 differences
        prove nothing: p is 1 and the interval infinite.

    References:
        Nadeau & Bengio, Inference for the Generalization Error, Machine Learning 52, 2003, section 3.
    """
    d = np.asarray(differences, dtype=np.float64)
    d = d[~np.isnan(d)]
    if len(d) < _FEWEST:
        mean = float(d.mean()) if len(d) else float("nan")
        return Paired(mean, -np.inf, np.inf, 1.0, len(d))
    mean, freedom = float(d.mean()), len(d) - 1
    error = float(np.sqrt((1 / len(d) + test_share) * d.var(ddof=1)))
    if error == 0:
        return Paired(mean, mean, mean, 1.0 if mean == 0 else 0.0, len(d))
    half = float(stats.t.ppf((1 + _LEVEL) / 2, freedom)) * error
    return Paired(mean, mean - half, mean + half, float(2 * stats.t.sf(abs(mean) / error, freedom)), len(d))


def fixed_split(values: np.ndarray, groups: np.ndarray, test_share: float, seed: int = 0) -> Paired:
    r"""The mean of values of test labels under several trainings on one split, by a bootstrap over groups and seeds.

    .. math::
        \text{Var}(\bar d)
        = \Big(1 + \frac{n_\text{test}}{n_\text{train}}\Big) v_\text{rows} + \frac{1}{S} s^2_\text{seeds}

    where :math:`v_\text{rows}` is the variance of the mean over bootstrap draws of whole groups, and
    :math:`s^2_\text{seeds}` that between the :math:`S` trainings. Both have few degrees of freedom, which are put
    together as Welch and Satterthwaite do.

    Args:
        values: A value for each training and test label, such as the difference of two models' losses.
        groups: What each label belongs to; labels of one group are drawn together.
        test_share: :math:`n_\text{test} / n_\text{train}`.
        seed: Of the draws.

    Shape:
        ``values`` [S, N], ``groups`` [N]

    Note:
        Drawing three seeds again and again knows nothing of the others, so that their variance is estimated and not
        drawn. A split has one set of training rows, whose luck cannot be seen in it; the factor allows for it as
        in :func:`corrected_t`. Fewer than 3 trainings prove nothing: p is 1 and the interval infinite.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> found = fixed_split(0.1 + 0.1 * rng.normal(size=(3, 400)), np.arange(400), test_share=0.25)
        >>> round(found.mean, 2), found.p < 0.01, found.n
        (0.1, True, 3)

    References:
        Satterthwaite, An Approximate Distribution of Estimates of Variance Components, Biometrics Bulletin 2, 1946.
        Field & Welsh, Bootstrapping Clustered Data, Journal of the Royal Statistical Society B 69, 2007.
    """
    codes = np.unique(groups, return_inverse=True)[1]
    n_groups, mean = int(codes.max(initial=-1)) + 1, float(values.mean()) if values.size else float("nan")
    if len(values) < _FEWEST or n_groups < _FEWEST:
        return Paired(mean, -np.inf, np.inf, 1.0, len(values))
    sums = np.bincount(codes, weights=values.mean(0), minlength=n_groups)
    sizes = np.bincount(codes, minlength=n_groups).astype(np.float64)
    rng = np.random.default_rng([seed, n_groups])
    drawn = [rng.integers(0, n_groups, n_groups) for _ in range(_DRAWS)]
    means = np.array([sums[rows].sum() / sizes[rows].sum() for rows in drawn])
    # A draw of n from n has the variance of n - 1.
    by_rows = (1 + test_share) * means.var(ddof=1) * n_groups / (n_groups - 1)
    by_seeds = values.mean(1).var(ddof=1) / len(values)
    total = by_rows + by_seeds
    if total == 0:
        return Paired(mean, mean, mean, 1.0 if mean == 0 else 0.0, len(values))
    freedom = total**2 / (by_rows**2 / (n_groups - 1) + by_seeds**2 / (len(values) - 1))
    error = float(np.sqrt(total))
    half = float(stats.t.ppf((1 + _LEVEL) / 2, freedom)) * error
    return Paired(mean, mean - half, mean + half, float(2 * stats.t.sf(abs(mean) / error, freedom)), len(values))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction: p values that may be compared with the level for all tasks together.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]

    References:
        Holm, A Simple Sequentially Rejective Multiple Test Procedure, Scandinavian Journal of Statistics 6, 1979.
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    corrected = np.empty(len(p))
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected[order] = np.minimum(stepped, 1.0)
    return [float(value) for value in corrected]


def interval_of(values: Sequence[float | None] | np.ndarray, test_share: float) -> Interval:
    """Mean over the folds with its 95 % interval, by :func:`corrected_t`; ``None`` where there is nothing to say."""
    found = corrected_t(np.array([np.nan if v is None else v for v in values], dtype=np.float64), test_share)
    finite = [float(v) if np.isfinite(v) else None for v in (found.mean, found.low, found.high)]
    return Interval(*finite)


def mean_ranks(errors: np.ndarray) -> np.ndarray:
    """Each arm's rank among the arms (1 is best, ties share the mean rank), a mean over the tasks that it serves.

    Args:
        errors: NaN where an arm does not serve a task; such an arm has no rank there.

    Shape:
        ``errors`` [arms, tasks] -> [arms]; NaN for an arm without any task.

    Note:
        Ranks need no common scale and no baseline, so that one task with wild errors cannot decide.

    Example:
        >>> mean_ranks(np.array([[0.1, 0.5], [0.2, 0.5], [0.3, np.nan]])).tolist()
        [1.25, 1.75, 3.0]
    """
    ranks = np.full(errors.shape, np.nan)
    for task in range(errors.shape[1]):
        there = ~np.isnan(errors[:, task])
        ranks[there, task] = stats.rankdata(errors[there, task])
    served = ~np.isnan(ranks)
    total = np.where(served, ranks, 0.0).sum(1)
    means: np.ndarray = np.divide(total, served.sum(1), out=np.full(len(errors), np.nan), where=served.any(1))
    return means


def place_among(errors: np.ndarray, own: np.ndarray) -> float:
    """The place that errors have among those of arms: 1 plus the arms that are better, a mean over tasks.

    What was chosen from the arms is itself one of them, or a mean of some, so that it takes no place from its own arm.

    Args:
        errors: ``[arms, tasks]``; NaN where an arm does not serve a task.
        own: ``[tasks]``; NaN where there is none.

    Example:
        >>> place_among(np.array([[0.1, 0.5], [0.2, 0.4]]), np.array([0.1, 0.5]))
        1.5
    """
    there = ~np.isnan(own)
    better = errors[:, there] < own[there] * (1 - 1e-9)  # rounding is no place
    return float((1 + better.sum(0)).mean()) if there.any() else math.nan


def relative_gain(errors: np.ndarray, baseline: np.ndarray) -> float:
    r"""How much smaller errors are than a baseline's, in percent, a mean over the tasks.

    .. math:: 100\,\% \cdot \frac{1}{T} \sum_t \frac{b_t - e_t}{(b_t + e_t) / 2}

    Args:
        errors: Mean relative error by task, NaN where there is none.
        baseline: The baseline's.

    Shape:
        both [tasks]

    Note:
        It is about errors, which are never negative, and divides by the mean of both, so that it lies between -200 %
        and 200 % and is defined whatever the signs and zeros of metrics are; two perfect arms differ by 0.

    Example:
        >>> round(relative_gain(np.array([0.9, 0.0]), np.array([1.1, 0.0])), 6)
        10.0
    """
    both = ~(np.isnan(errors) | np.isnan(baseline))
    e, b = errors[both], baseline[both]
    if not len(e):
        return float("nan")
    middle = (e + b) / 2
    return float(100 * np.divide(b - e, middle, out=np.zeros_like(middle), where=middle > 0).mean())


def gain_of(errors: Mapping[str, float | None], baseline: Mapping[str, float | None]) -> float | None:
    """:func:`relative_gain` of errors by task; ``None`` if no task has both."""
    names = [name for name in baseline if errors.get(name) is not None and baseline[name] is not None]
    if not names:
        return None
    return relative_gain(np.array([errors[n] for n in names], float), np.array([baseline[n] for n in names], float))
