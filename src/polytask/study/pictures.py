"""What a page draws of the recommended models: reliability, residuals, coverage of the labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from polytask.study.scores import Candidate, FoldScores
from polytask.tasks._survival import beyond_by_kaplan_meier
from polytask.tasks.survival import Survival

__all__ = ["calibration", "coverage", "residuals", "risk_calibration"]

_BINS = 10
_MOST_POINTS = 500
_MOST_CLASSES = 8
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def calibration(folds: Sequence[FoldScores], candidate: Candidate, task: str) -> list[dict[str, Any]]:
    """For each class, mean predicted probability and observed share in bins of equal width, on test rows."""
    shares, truths, labels = [], [], ()
    for scores in folds:
        out = scores.outputs(candidate, "test", task) if task in scores.kept.tasks else None
        if out is None:
            continue
        answer = scores.kept.tasks[task].decode(out)
        targets, observed = scores.kept.truth["test"][task]
        assert answer.probabilities is not None
        labels = answer.labels
        if targets.ndim == 1:
            truth = targets.long().numpy()[:, None] == np.arange(answer.probabilities.shape[1])
            shares.append(answer.probabilities)
            truths.append(truth.astype(float))
        else:
            shares.append(answer.probabilities)
            truths.append(np.where(observed.numpy(), targets.numpy(), np.nan))
    if not shares:
        return []
    p, y = np.vstack(shares), np.vstack(truths)
    # The first of two classes says the same as the second.
    first = 1 if p.shape[1] == 2 and y.shape[1] == 2 and not np.isnan(y).any() and (y.sum(1) == 1).all() else 0
    found = []
    for k in range(first, min(p.shape[1], _MOST_CLASSES)):
        seen = ~np.isnan(y[:, k])
        found.append({"class": labels[k], **_binned(p[seen, k], y[seen, k])})
    return found


def risk_calibration(folds: Sequence[FoldScores], candidate: Candidate, task: str) -> list[dict[str, Any]]:
    """Predicted chance of the event by the middle edge, and its Kaplan-Meier estimate, in bins of equal width.

    Each fold has edges of its own, so that times are counted in units of its middle edge.
    """
    risks, times, events = [], [], []
    horizon = 0.0
    for scores in folds:
        out = scores.outputs(candidate, "test", task) if task in scores.kept.tasks else None
        if out is None:
            continue
        survival = scores.kept.tasks[task]
        assert isinstance(survival, Survival)
        middle = len(survival.edges_) // 2
        horizon = survival.edges_[middle]
        probabilities = survival.decode(out).probabilities
        assert probabilities is not None
        signed = scores.kept.truth["test"][task][0].double().numpy()
        risks.append(1 - probabilities[:, middle])
        times.append((np.abs(signed) - 1) / (horizon or 1.0))
        events.append(signed > 0)
    if not risks:
        return []
    p, t, came = np.concatenate(risks), np.concatenate(times), np.concatenate(events)
    bins = np.minimum((p * _BINS).astype(int), _BINS - 1)
    rows = [bins == b for b in range(_BINS) if (bins == b).any()]
    ends = np.array([1.0 if horizon else 0.0])
    observed = [1 - float(beyond_by_kaplan_meier(t[mine], came[mine], ends)[0]) for mine in rows]
    return [
        {
            "class": f"within {horizon:g}",
            "predicted": [round(float(p[mine].mean()), 4) for mine in rows],
            "observed": [round(value, 4) for value in observed],
            "count": [int(mine.sum()) for mine in rows],
        }
    ]


def _binned(p: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    bins = np.minimum((p * _BINS).astype(int), _BINS - 1)
    count = np.bincount(bins, minlength=_BINS)
    there = count > 0
    predicted = np.bincount(bins, weights=p, minlength=_BINS)[there] / count[there]
    observed = np.bincount(bins, weights=y, minlength=_BINS)[there] / count[there]
    return {
        "predicted": predicted.round(4).tolist(),
        "observed": observed.round(4).tolist(),
        "count": count[there].tolist(),
    }


def residuals(folds: Sequence[FoldScores], candidate: Candidate, task: str, seed: int) -> dict[str, Any]:
    """Predicted and observed numbers of at most 500 test rows, and quantiles of observed minus predicted."""
    predicted, observed = [], []
    for scores in folds:
        out = scores.outputs(candidate, "test", task) if task in scores.kept.tasks else None
        if out is None:
            continue
        fitted, targets = scores.kept.tasks[task], scores.kept.truth["test"][task][0]
        values = fitted.decode(out).values
        predicted.append(values if values.ndim == 1 else values[:, values.shape[1] // 2])
        observed.append(fitted.in_units(targets))
    if not predicted:
        return {}
    p, y = np.concatenate(predicted).astype(float), np.concatenate(observed).astype(float)
    left = y - p
    quantiles = {str(q): float(f"{np.quantile(left, q):.5g}") for q in _QUANTILES}
    kept = np.sort(np.random.default_rng(seed).permutation(len(p))[:_MOST_POINTS])
    return {
        "predicted": [float(f"{v:.5g}") for v in p[kept]],
        "observed": [float(f"{v:.5g}") for v in y[kept]],
        "quantiles": quantiles,
    }


def coverage(observed: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Share of rows with a label of each task, and of each two tasks."""
    names = list(observed)
    matrix = np.column_stack([observed[name] for name in names]).astype(np.float64)
    together = matrix.T @ matrix / len(matrix)
    return {"tasks": names, "share": matrix.mean(0).round(4).tolist(), "together": together.round(4).tolist()}
