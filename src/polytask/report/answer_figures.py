"""Charts of what the models answered for test rows: errors, calibration, residuals; and which labels there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from polytask.records import Interval
from polytask.report.figures import COLOURS, Figure, axis, heat_height, label, line, ticks
from polytask.report.words import finite, number, span

__all__ = ["calibration", "coverage", "errors", "residuals"]

_CLASSES = 6
"""At most this many classes have a line; those with the most rows."""


def errors(task: str, found: Mapping[str, Interval], best: str | None) -> Figure | None:
    """Relative errors of the arms with their intervals, the best on top.

    Args:
        task: The task.
        found: Error of each arm.
        best: The arm with the smallest error, drawn as a star.
    """
    means = {arm: mean for arm, interval in found.items() if (mean := finite(interval.mean)) is not None}
    if not means:
        return None
    arms = sorted(means, key=lambda arm: -means[arm])
    values = [means[arm] for arm in arms]
    trace = {
        "type": "scatter", "mode": "markers", "x": values, "y": list(range(len(arms))), "name": "relative error",
        "marker": {
            "color": [COLOURS[0] if arm == best else COLOURS[4] for arm in arms],
            "symbol": ["star" if arm == best else "circle" for arm in arms],
            "size": [13 if arm == best else 8 for arm in arms],
            "opacity": 1,
            "line": {"width": 0},
        },
        "error_x": {
            "type": "data", "symmetric": False, "thickness": 1.5, "width": 4, "color": COLOURS[4],
            "array": [_apart(found[arm].high, means[arm]) for arm in arms],
            "arrayminus": [_apart(means[arm], _above_zero(found[arm].low)) for arm in arms],
        },
        "hovertemplate": "%{x:.4f}<extra></extra>",
    }  # fmt: skip
    names = [f"★ {label(arm, 22)}" if arm == best else label(arm, 24) for arm in arms]
    layout = {
        "xaxis": axis("relative error (less is better)"),
        "yaxis": axis("", tickvals=trace["y"], ticktext=names, showgrid=False),
        "showlegend": False,
    }
    alt = "Relative error, best first: " + "; ".join(f"{arm} {number(means[arm])}" for arm in reversed(arms)) + "."
    return Figure(task, alt, [trace], layout, 96 + 24 * len(arms), task)


def _above_zero(end: float | None) -> float | None:
    """The lower end of an interval of an error, which is never below zero; as in the tables."""
    found = finite(end)
    return None if found is None else max(found, 0.0)


def _apart(upper: float | None, lower: float | None) -> float:
    a, b = finite(upper), finite(lower)
    return 0.0 if a is None or b is None else max(a - b, 0.0)


def calibration(task: str, classes: Sequence[Mapping[str, Any]]) -> Figure | None:
    """Observed shares against predicted probabilities; on the diagonal they agree."""
    there = [found for found in classes if any(finite(v) is not None for v in found.get("observed") or [])]
    if not there:
        return None
    shown = sorted(there, key=lambda found: -sum(finite(c) or 0 for c in found.get("count") or []))[:_CLASSES]
    shown = [found for found in there if any(found is kept for kept in shown)]
    data: list[dict[str, Any]] = [_diagonal([0, 1], [0, 1])]
    told = []
    for index, found in enumerate(shown):
        trace = line(found["predicted"], [finite(v) for v in found["observed"]], str(found["class"]), index)
        most = max((finite(c) or 0 for c in found.get("count") or []), default=0) or 1
        trace["mode"] = "lines+markers"
        trace["line"]["width"] = 1.5
        trace["marker"]["opacity"] = 1
        trace["marker"]["size"] = [4 + 8 * ((finite(c) or 0) / most) ** 0.5 for c in found.get("count") or []] or 6
        data.append(trace)
        gaps = [
            abs(p - o)
            for a, b in zip(found["predicted"], found["observed"], strict=True)
            if (p := finite(a)) is not None and (o := finite(b)) is not None
        ]
        told.append(f"{found['class']}: widest gap {number(max(gaps, default=None), 2)}")
    legend = {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0}
    layout = {
        "xaxis": axis("predicted probability", range=[-0.03, 1.03]),
        "yaxis": axis("observed share", range=[-0.03, 1.03]),
        "showlegend": True,
        "legend": legend,
    }
    more = f"The {_CLASSES} of {len(there)} classes with the most rows." if len(there) > _CLASSES else ""
    alt = f"Observed share by predicted probability. {'; '.join(told)}."
    return Figure(task, alt, data, layout, 300, task, more)


def residuals(task: str, found: Mapping[str, Any]) -> Figure | None:
    """Observed minus predicted, by what was predicted; around zero the answers are unbiased."""
    pairs = [
        (p, o - p)
        for a, b in zip(found.get("predicted") or [], found.get("observed") or [], strict=True)
        if (p := finite(a)) is not None and (o := finite(b)) is not None
    ]
    if not pairs:
        return None
    x, y = [p for p, _ in pairs], [r for _, r in pairs]
    points = {
        "type": "scatter", "mode": "markers", "x": x, "y": y, "name": "test rows",
        "marker": {"color": COLOURS[0], "size": 5, "opacity": 0.45},
    }  # fmt: skip
    layout = {"xaxis": axis("predicted"), "yaxis": axis("observed − predicted"), "showlegend": False}
    quantiles = sorted((float(q), finite(v)) for q, v in (found.get("quantiles") or {}).items())
    caption = ""
    if quantiles:
        caption = "Residuals: " + ", ".join(
            f"{'median' if q == 0.5 else f'{100 * q:g}%'} {number(value)}" for q, value in quantiles
        )
    alt = f"Residuals of {len(pairs)} test rows by prediction, from {number(min(y))} to {number(max(y))}."
    data = [points, _diagonal([min(x), max(x)], [0, 0])]
    return Figure(task, alt, data, layout, 260, task, caption)


def coverage(tasks: Sequence[str], together: Sequence[Sequence[Any]]) -> Figure | None:
    """Share of rows that have the labels of both tasks, as a heat map."""
    if len(tasks) < 2 or len(together) != len(tasks):
        return None
    places = list(range(len(tasks)))
    trace: dict[str, Any] = {
        "type": "heatmap", "x": places, "y": places, "z": [[finite(v) for v in row] for row in together],
        "zmin": 0, "zmax": 1, "meta": "sequential", "xgap": 1, "ygap": 1, "hoverongaps": False,
        "colorbar": {"thickness": 10, "tickformat": ".0%"},
    }  # fmt: skip
    if len(tasks) <= 12:
        trace |= {"texttemplate": "%{z:.0%}", "showscale": False}
    layout = {
        "xaxis": axis("", **ticks(tasks), tickangle=-40, showgrid=False),
        "yaxis": axis("", **ticks(tasks), autorange="reversed", showgrid=False),
        "showlegend": False,
    }
    shares = [s for i, row in enumerate(together) for v in row[:i] if (s := finite(v)) is not None]
    alt = f"Share of rows with the labels of both tasks: {span(min(shares, default=None), max(shares, default=None))}."
    return Figure("Rows with the labels of both tasks", alt, [trace], layout, heat_height(len(tasks)))


def _diagonal(x: Sequence[float], y: Sequence[float]) -> dict[str, Any]:
    return {
        "type": "scatter", "mode": "lines", "x": list(x), "y": list(y), "hoverinfo": "skip", "showlegend": False,
        "line": {"color": COLOURS[4], "dash": "dot", "width": 1},
    }  # fmt: skip
