"""Charts of the training: learning curves, weights of the losses, constraints, conflict of the gradients."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from polytask.records import ConstraintResult
from polytask.report.figures import COLOURS, Figure, axis, heat_height, label, line, ticks
from polytask.report.words import finite, number

__all__ = ["constraint", "cosines", "curve", "matrix", "multipliers", "over_time", "weights"]

_LINES = 8
"""At most this many lines can be told apart; more become a heat map or a band."""
_CELLS = 12
"""Up to this many rows and columns, a heat map has its numbers in the cells."""


def curve(task: str, curves: Mapping[str, Any], arms: Sequence[str]) -> Figure | None:
    """Losses of a task by epoch: an arm a colour, validation solid, training dotted.

    Args:
        task: The task.
        curves: Of the record.
        arms: The arms to show, of which those without a curve are left out.
    """
    data: list[dict[str, Any]] = []
    seen = []
    for index, arm in enumerate(arms):
        found = curves.get(arm, {}).get(task)
        if not found:
            continue
        for part, dash in (("validation", "solid"), ("train", "dot")):
            values = [finite(v) for v in found.get(part) or []]
            if any(v is not None for v in values):
                trace = line(found["epoch"], values, f"{arm}, {part}", index)
                width = 2.2 if part == "validation" else 1.4
                trace["line"] = {"color": COLOURS[index], "dash": dash, "width": width}
                data.append(trace)
                seen.append(_told(arm, part, found["epoch"], values))
    if not data:
        return None
    layout = {"xaxis": axis("epoch"), "yaxis": axis("loss"), "showlegend": False}
    return Figure(task, f"Loss by epoch. {' '.join(seen)}", data, layout, task=task)


def _told(arm: str, part: str, epochs: Sequence[Any], values: Sequence[float | None]) -> str:
    pairs = [(e, v) for e, v in zip(epochs, values, strict=True) if v is not None]
    least = min(pairs, key=lambda pair: pair[1])
    ends = f"from {number(pairs[0][1])} to {number(pairs[-1][1])}"
    return f"{arm}, {part}: {ends}, least {number(least[1])} at epoch {least[0]}."


def weights(arm: str, found: Mapping[str, Any]) -> Figure | None:
    """Weights of the tasks' losses by epoch: lines, or a heat map for many tasks."""
    tasks = {task: [finite(v) for v in values] for task, values in (found.get("tasks") or {}).items()}
    tasks = {task: values for task, values in tasks.items() if any(v is not None for v in values)}
    if not tasks:
        return None
    title, what = f"Weights of the losses, {arm}", f"Weights of {len(tasks)} losses"
    return _by_epoch(title, what, "weight", list(found["epoch"]), tasks)


def constraint(name: str, found: ConstraintResult) -> Figure | None:
    """What a constraint bounds by epoch, and the bound."""
    values = [finite(v) for v in found.values]
    if all(v is None for v in values):
        return None
    epochs = list(range(len(values)))
    bound: list[float | None] = [found.bound] * len(values)
    data = [line(epochs, values, found.rows, 0), line(epochs, bound, "bound", 1)]
    side = "at most" if found.is_upper else "at least"
    alt = f"{_told(name, found.rows, epochs, values)} It is to be {side} {number(found.bound)}."
    return Figure(name, alt, data, _legend(axis("epoch"), axis(found.metric)), 280)


def multipliers(constraints: Mapping[str, ConstraintResult]) -> Figure | None:
    """How hard each constraint pulled by epoch: lines, or a heat map for many constraints."""
    rows = {name: [finite(v) for v in found.multipliers] for name, found in constraints.items()}
    rows = {name: values for name, values in rows.items() if any(v is not None for v in values)}
    if not rows:
        return None
    n_epochs = max(map(len, rows.values()))
    what = f"Multipliers of {len(rows)} constraint{'s' if len(rows) > 1 else ''}"
    return _by_epoch("Multipliers", what, "multiplier", list(range(n_epochs)), rows)


def _by_epoch(title: str, what: str, of: str, epochs: list[Any], rows: Mapping[str, Sequence[float | None]]) -> Figure:
    last = {name: next(v for v in reversed(values) if v is not None) for name, values in rows.items()}
    low, high = min(last, key=lambda t: last[t]), max(last, key=lambda t: last[t])
    alt = (
        f"{what} by epoch. At the end the largest is that of {high}, {number(last[high])}, "
        f"the smallest that of {low}, {number(last[low])}."
    )
    if len(rows) <= _LINES:
        data = [line(epochs, values, name, i) for i, (name, values) in enumerate(rows.items())]
        return Figure(title, alt, data, _legend(axis("epoch"), axis(of)), 320)
    return _heat(title, alt, epochs, rows, axis("epoch"), {"meta": "sequential"})


def cosines(found: Mapping[str, Any], tasks: Sequence[str]) -> dict[tuple[str, str], list[float | None]]:
    """Cosines between the gradients of each pair of tasks by epoch.

    A pair is written ``a | b`` in the record; a name may hold the same sign, so that each place to part it is tried.

    Example:
        >>> cosines({"pairs": {"x | y | z": [0.5]}}, ["x", "y | z"])
        {('x', 'y | z'): [0.5]}
    """
    known = set(tasks)
    read = {}
    for text, values in (found.get("pairs") or {}).items():
        pieces = text.split(" | ")
        parted = [(" | ".join(pieces[:i]), " | ".join(pieces[i:])) for i in range(1, len(pieces))]
        pair = next(((a, b) for a, b in parted if a in known and b in known), None)
        if pair is not None:
            read[pair] = [finite(v) for v in values]
    return read


def matrix(arm: str, pairs: Mapping[tuple[str, str], Sequence[float | None]]) -> Figure | None:
    """Mean cosine of each pair over the training, as a heat map from red (against) to blue (together)."""
    means = {pair: statistics.fmean(seen) for pair, v in pairs.items() if (seen := [c for c in v if c is not None])}
    if not means:
        return None
    names = list(dict.fromkeys(task for pair in means for task in pair))
    rows = {a: [None if a == b else means.get((a, b), means.get((b, a))) for b in names] for a in names}
    against = sum(value < 0 for value in means.values())
    worst = min(means, key=lambda pair: means[pair])
    alt = (
        f"Mean cosine between the gradients of {len(means)} pairs of tasks; {against} are below zero. "
        f"The lowest is {number(means[worst], 2)}, between {worst[0]} and {worst[1]}."
    )
    columns = axis("", **ticks(names), tickangle=-40)
    scale = {"meta": "diverging", "zmin": -1, "zmax": 1}
    return _heat(f"Mean over the training, {arm}", alt, list(range(len(names))), rows, columns, scale)


def over_time(arm: str, epochs: Sequence[Any], pairs: Mapping[tuple[str, str], Sequence[float | None]]) -> Figure:
    """Cosines by epoch: a line a pair, or the lowest, the median and the highest of many pairs."""
    layout = _legend(axis("epoch"), axis("cosine", range=[-1.05, 1.05]))
    zero = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": 0, "y1": 0, "line": {"width": 1, "dash": "dot"}}
    layout["shapes"] = [zero]
    title = f"Over time, {arm}"
    if len(pairs) <= _LINES:
        data = [line(epochs, v, f"{label(a, 16)} | {label(b, 16)}", i) for i, ((a, b), v) in enumerate(pairs.items())]
        for trace, (a, b) in zip(data, pairs, strict=True):
            trace["name"] = f"{label(a, 16)} | {label(b, 16)}"
        alt = f"Cosine of {len(pairs)} pairs of tasks by epoch."
        return Figure(title, alt, data, layout, 280 + 14 * len(pairs))
    columns = [[c for c in column if c is not None] for column in zip(*pairs.values(), strict=True)]
    bands: dict[str, Callable[[list[float]], float]] = {"highest": max, "median": statistics.median, "lowest": min}
    data = [
        line(epochs, [form(column) if column else None for column in columns], name, index)
        for index, (name, form) in enumerate(bands.items())
    ]
    alt = f"The highest, the median and the lowest cosine of {len(pairs)} pairs of tasks by epoch."
    return Figure(title, alt, data, layout, 320, caption=f"{len(pairs):,} pairs are too many for lines of their own.")


def _legend(x: Mapping[str, Any], y: Mapping[str, Any]) -> dict[str, Any]:
    legend = {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0}
    return {"xaxis": dict(x), "yaxis": dict(y), "showlegend": True, "legend": legend}


def _heat(
    title: str,
    alt: str,
    x: list[Any],
    rows: Mapping[str, Sequence[float | None]],
    columns: Mapping[str, Any],
    scale: Mapping[str, Any],
) -> Figure:
    """A heat map; the page puts in the colours, which are others on dark ground."""
    names = list(rows)
    gap = 1 if len(names) <= 40 else 0
    trace: dict[str, Any] = {
        "type": "heatmap", "x": x, "y": list(range(len(names))), "z": [list(rows[name]) for name in names],
        "xgap": gap, "ygap": gap, "hoverongaps": False, "colorbar": {"thickness": 10, "len": 0.9}, **scale,
    }  # fmt: skip
    if max(len(x), len(names)) <= _CELLS:
        trace |= {"texttemplate": "%{z:.2f}", "showscale": False}
    down = axis("", **ticks(names), autorange="reversed", showgrid=False)
    layout = {"xaxis": {**columns, "showgrid": False}, "yaxis": down, "showlegend": False}
    return Figure(title, alt, [trace], layout, heat_height(len(names)))
