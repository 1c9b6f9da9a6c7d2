"""How well scores rank the rows of each group, such as the items shown to one user."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from polytask.tasks.task import Metric

__all__ = ["RANKING_METRICS", "group_auroc", "ndcg", "ranking_metrics"]

RANKING_METRICS = (Metric("group_auroc", higher_is_better=True), Metric("ndcg_10", higher_is_better=True))


def group_auroc(scores: np.ndarray, truth: np.ndarray, groups: np.ndarray) -> float:
    """Mean area under the ROC curve within the groups, each weighted by its rows; NaN if none has both classes.

    Example:
        >>> round(group_auroc(np.array([0.9, 0.1, 0.2, 0.8]), np.array([1, 0, 1, 0]), np.array([7, 7, 8, 8])), 2)
        0.5

    References:
        Zhou et al., Deep Interest Network for Click-Through Rate Prediction, KDD 2018, section 6.2 (equation 7, with
        impressions as weights).
    """
    codes, n_groups = _codes(groups)
    events = np.asarray(truth) > 0
    ranks = pd.Series(scores).groupby(codes).rank().to_numpy()
    rows = np.bincount(codes, minlength=n_groups)
    positive = np.bincount(codes[events], minlength=n_groups)
    negative = rows - positive
    sums = np.bincount(codes[events], ranks[events], minlength=n_groups)
    both = (positive > 0) & (negative > 0)
    if not both.any():
        return math.nan
    areas = (sums - positive * (positive + 1) / 2)[both] / (positive * negative)[both]
    return float(np.average(areas, weights=rows[both]))


def ndcg(scores: np.ndarray, relevance: np.ndarray, groups: np.ndarray, first: int = 10) -> float:
    r"""Mean over the groups of the discounted gain of the first rows by score, over that of the best order.

    .. math:: \mathrm{DCG} = \sum_{i \le k} \frac{r_i}{\log_2 (i + 1)}

    Rows of equal scores share the mean discount of their places. Groups without relevant rows do not count; NaN if
    there is no other, or a relevance is negative.

    Example:
        >>> ndcg(np.array([0.9, 0.1]), np.array([1.0, 0.0]), np.array([1, 1]))
        1.0

    References:
        Järvelin and Kekäläinen, Cumulated Gain-Based Evaluation of IR Techniques, 2002; McSherry and Najork, Computing
        Information Retrieval Performance Measures Efficiently in the Presence of Tied Scores, 2008.
    """
    codes, n_groups = _codes(groups)
    gain = np.asarray(relevance, dtype=np.float64)
    if (gain < 0).any():
        return math.nan
    longest = int(np.bincount(codes).max())
    discounts = np.zeros(longest)
    discounts[:first] = 1 / np.log2(np.arange(2, min(first, longest) + 2))
    cumulated = np.concatenate([[0.0], np.cumsum(discounts)])
    by_group = pd.Series(scores).groupby(codes)
    low = by_group.rank(method="min", ascending=False).to_numpy().astype(np.int64) - 1
    high = by_group.rank(method="max", ascending=False).to_numpy().astype(np.int64)
    found = np.bincount(codes, gain * (cumulated[high] - cumulated[low]) / (high - low), minlength=n_groups)
    places = pd.Series(gain).groupby(codes).rank(method="first", ascending=False).to_numpy().astype(np.int64)
    best = np.bincount(codes, gain * discounts[places - 1], minlength=n_groups)
    some = best > 0
    return float((found[some] / best[some]).mean()) if some.any() else math.nan


def ranking_metrics(scores: np.ndarray, relevance: np.ndarray, groups: np.ndarray, *, binary: bool) -> dict[str, float]:
    """The metrics of :data:`RANKING_METRICS` over the rows that have a group (whose code is not negative).

    The first is left out where relevance is more than yes and no.
    """
    known = np.asarray(groups) >= 0
    scores, relevance, groups = scores[known], relevance[known], groups[known]
    broken = not known.any() or not np.isfinite(scores).all()
    found = {"group_auroc": math.nan if broken else group_auroc(scores, relevance, groups)} if binary else {}
    return {**found, "ndcg_10": math.nan if broken else ndcg(scores, relevance, groups)}


def _codes(groups: np.ndarray) -> tuple[np.ndarray, int]:
    codes, distinct = pd.factorize(np.asarray(groups))
    return codes, len(distinct)
