"""Measures of survival answers when some times are known only to be longer than what was watched."""

from __future__ import annotations

import numpy as np

__all__ = ["beyond_by_kaplan_meier", "concordance", "integrated_brier"]


def concordance(times: np.ndarray, events: np.ndarray, expected: np.ndarray) -> float:
    r"""Share of comparable pairs that are in the right order, ties of the answers counting half (Harrell's C).

    A pair is comparable if the earlier time is that of an event; of equal times only an event and a censored one.

    Args:
        times: When each row's event came, or when it was last watched.
        events: Whether it was an event.
        expected: Any answer that is larger for a longer expected time.

    Shape:
        all ``[N]`` -> a number; NaN without a comparable pair.

    Example:
        >>> concordance(np.array([1.0, 2.0, 3.0]), np.array([True, True, False]), np.array([0.1, 0.5, 0.4]))
        0.6666666666666666

    Note:
        Counted with a binary indexed tree over ranks, ``O(N log N)``.

    References:
        Harrell et al., Evaluating the Yield of Medical Tests, JAMA 1982.
    """
    _, ranks = np.unique(expected, return_inverse=True)
    n_ranks = int(ranks.max(initial=-1)) + 1
    tree = [0] * (n_ranks + 1)
    order = np.lexsort((events, -times))  # latest first; of equal times the censored ones before the events
    right = comparable = 0.0
    position = inside = 0
    while position < len(order):
        end = position
        first = order[position]
        while end < len(order) and times[order[end]] == times[first] and events[order[end]] == events[first]:
            end += 1
        tied = [int(ranks[row]) for row in order[position:end]]
        if events[first]:
            for rank in tied:
                longer_or_same = inside - _sum(tree, rank)
                longer = inside - _sum(tree, rank + 1)
                right += longer + 0.5 * (longer_or_same - longer)
                comparable += inside
        for rank in tied:
            _add(tree, rank)
        inside += len(tied)
        position = end
    return right / comparable if comparable else float("nan")


def _add(tree: list[int], rank: int) -> None:
    rank += 1
    while rank < len(tree):
        tree[rank] += 1
        rank += rank & -rank


def _sum(tree: list[int], rank: int) -> int:
    """How many of the ranks below ``rank`` are in the tree."""
    total = 0
    while rank > 0:
        total += tree[rank]
        rank -= rank & -rank
    return total


def beyond_by_kaplan_meier(
    times: np.ndarray, events: np.ndarray, at: np.ndarray, *, before: bool = False
) -> np.ndarray:
    """The Kaplan-Meier estimate of the chance to last longer than each of ``at``; at least so long if ``before``.

    Shape:
        ``[N]``, ``[N]``, ``[M]`` -> ``[M]``

    Example:
        >>> beyond_by_kaplan_meier(np.array([1.0, 2.0, 3.0]), np.array([True, False, True]), np.array([1.5, 3.0]))
        array([0.66666667, 0.        ])

    References:
        Kaplan and Meier, Nonparametric Estimation from Incomplete Observations, JASA 1958.
    """
    moments, positions = np.unique(times, return_inverse=True)
    ended = np.bincount(positions, weights=events, minlength=len(moments))
    watched = len(times) - np.concatenate([[0], np.cumsum(np.bincount(positions, minlength=len(moments)))[:-1]])
    curve = np.concatenate([[1.0], np.cumprod(1 - ended / watched)])
    return np.asarray(curve[np.searchsorted(moments, at, side="left" if before else "right")])


def integrated_brier(times: np.ndarray, events: np.ndarray, beyond: np.ndarray, edges: np.ndarray) -> float:
    r"""Squared error of the chances to last beyond each edge, weighted for censoring, a mean over time.

    With the chance :math:`G` not to be censored, estimated from the same rows, the error at :math:`t` is

    .. math:: \frac{1}{N} \sum_i \frac{S_i(t)^2 \, [t_i \le t, \text{event}]}{G(t_i^-)}
              + \frac{(1 - S_i(t))^2 \, [t_i > t]}{G(t)}

    and each edge counts by the width of the interval that ends there.

    Args:
        times: As for :func:`concordance`, as for events.
        events: See there.
        beyond: Chances to last beyond each edge.
        edges: The edges, increasing.

    Shape:
        ``[N]``, ``[N]``, ``[N, K]``, ``[K]`` -> a number

    References:
        Graf et al., Assessment and Comparison of Prognostic Classification Schemes for Survival Data, 1999, section 4.
    """
    # Of equal times the event comes first: a row that is censored when another ends was watched until then.
    moments, positions = np.unique(times, return_inverse=True)
    order = 2 * positions + ~events
    at_own = beyond_by_kaplan_meier(order, ~events, order, before=True)
    at_edges = beyond_by_kaplan_meier(order, ~events, 2 * np.searchsorted(moments, edges, side="right"), before=True)
    ended = events[:, None] & (times[:, None] <= edges)
    lasted = times[:, None] > edges
    of_ended = np.divide(beyond**2, at_own[:, None], out=np.zeros_like(beyond), where=ended)
    of_lasted = np.divide((1 - beyond) ** 2, at_edges, out=np.zeros_like(beyond), where=lasted)
    errors = (of_ended + of_lasted).mean(0)
    widths = np.diff(np.concatenate([[0.0], edges]))
    return float(np.average(errors, weights=widths)) if widths.sum() > 0 else float(errors.mean())
