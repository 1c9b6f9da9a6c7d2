"""Charts of what was searched inside the folds: trade-offs between tasks, and error over sharing ratio."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from polytask.report.figures import COLOURS, Figure, axis, label, mark
from polytask.report.words import configuration

__all__ = ["ratios", "trade_off"]


def trade_off(arm: str, found: Mapping[str, Any]) -> Figure | None:
    """The trials of a search by their errors on the two tasks that pull most against each other.

    Args:
        arm: The arm that searched.
        found: What the record has of it.
    """
    trials = found["trials"]
    tasks = [task for task in trials[0]["errors"] if all(task in trial["errors"] for trial in trials)] if trials else []
    if len(tasks) < 2 or len(trials) < 3:
        return None
    a, b = _opposed(trials, tasks)
    names = list(dict.fromkeys(trial["configuration"]["balancer"]["name"] for trial in trials))
    data = []
    for index, name in enumerate(names):
        mine = [trial for trial in trials if trial["configuration"]["balancer"]["name"] == name]
        data.append(_points(name, mine, trials, (a, b), index))
    best = found["folds"][0]["best"]["errors"]
    data.append(_ring("found", best[a], best[b]))
    on_front = sum(bool(trial["is_on_front"]) for trial in trials)
    alt = (
        f"{len(trials)} trials by their errors on {a} (from {_least(trials, a)} up) and {b} (from {_least(trials, b)} "
        f"up); {on_front} of them are behind no other on all {len(tasks)} tasks. "
        f"Found: {best[a]:.3f} and {best[b]:.3f}."
    )
    layout = {
        "xaxis": axis(f"error of {label(a)}"),
        "yaxis": axis(f"error of {label(b)}"),
        "showlegend": True,
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
    }
    caption = (
        "Relative errors on inner validation rows of the first fold, of the two tasks that pull most against each "
        "other. Full marks: no other trial is better on one of the two and no worse on the other."
    )
    return Figure(f"Trade-offs between tasks: {arm}", alt, data, layout, 380, caption=caption)


def ratios(arm: str, found: Sequence[Mapping[str, Any]]) -> Figure | None:
    """Cross-validated error over sharing ratio: a line a fold, with the spread of the inner folds.

    Args:
        arm: The arm that chose its ratio.
        found: Its curve on each fold.
    """
    if not found:
        return None
    data: list[dict[str, Any]] = []
    for number, curve in enumerate(found):
        data.append(
            {
                "type": "scatter", "mode": "lines+markers", "name": f"fold {number + 1}", "showlegend": False,
                "x": list(curve["ratio"]), "y": list(curve["mean"]),
                "line": {"color": COLOURS[number % len(COLOURS)], "width": 2},
                "marker": {**mark(number), "size": 6},
                "error_y": {"type": "data", "array": list(curve["spread"]), "thickness": 1, "width": 4},
            }
        )  # fmt: skip
        data.append(_ring("chosen", curve["chosen"], _at(curve, curve["chosen"]), is_first=number == 0))
    chosen = [curve["chosen"] for curve in found]
    counts = ", ".join(f"{ratio:g} in {chosen.count(ratio)}" for ratio in sorted(set(chosen)))
    first = found[0]
    shown = ", ".join(f"{ratio:g}: {mean:.3f}" for ratio, mean in zip(first["ratio"], first["mean"], strict=True))
    alt = f"Of {len(found)} folds, ratio {counts}. Error over ratio on the first fold: {shown}."
    layout = {
        "xaxis": axis("sharing ratio"),
        "yaxis": axis("mean relative error"),
        "showlegend": True,
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
    }
    caption = (
        "0 shares nothing, 1 all but the heads. A line a fold, with the standard deviation over "
        f"{first['folds']} inner folds of its training rows; that with the smallest mean was trained on all of them."
    )
    return Figure(f"How much to share: {arm}", alt, data, layout, 320, caption=caption)


def _points(
    name: str,
    mine: Sequence[Mapping[str, Any]],
    trials: Sequence[Mapping[str, Any]],
    tasks: tuple[str, str],
    index: int,
) -> dict[str, Any]:
    """Some of the trials; with many tasks hardly one is behind another on all, so that marks tell of these two."""
    table = np.array([[trial["errors"][task] for task in tasks] for trial in trials])
    own = np.array([[trial["errors"][task] for task in tasks] for trial in mine])
    behind = [bool(((table <= row).all(1) & (table < row).any(1)).any()) for row in own]
    colour, symbol = mark(index).values()
    return {
        "type": "scatter", "mode": "markers", "name": label(name),
        "x": own[:, 0].tolist(), "y": own[:, 1].tolist(),
        "text": [label(configuration(trial["configuration"]), 160) for trial in mine],
        "hovertemplate": "%{x:.3f}, %{y:.3f}: %{text}<extra></extra>",
        "marker": {
            "color": colour, "size": 9,
            "symbol": [f"{symbol}-open" if is_behind else symbol for is_behind in behind],
        },
    }  # fmt: skip


def _ring(name: str, x: float, y: float, *, is_first: bool = True) -> dict[str, Any]:
    marker = {"symbol": "circle-open", "size": 18, "color": COLOURS[4], "line": {"width": 2}}
    return {"type": "scatter", "mode": "markers", "name": name, "x": [x], "y": [y], "marker": marker,
            "showlegend": is_first, "hoverinfo": "skip"}  # fmt: skip


def _opposed(trials: Sequence[Mapping[str, Any]], tasks: Sequence[str]) -> tuple[str, str]:
    """The pair of tasks whose errors over the trials have the lowest correlation of ranks."""
    table = np.array([[trial["errors"][task] for task in tasks] for trial in trials])
    ranks = table.argsort(0).argsort(0) - (len(trials) - 1) / 2
    scale = (ranks**2).sum(0)
    a, b = min(
        combinations(range(len(tasks)), 2),
        key=lambda pair: float(
            (ranks[:, pair[0]] * ranks[:, pair[1]]).sum() / np.sqrt(scale[pair[0]] * scale[pair[1]])
        ),
    )
    return tasks[a], tasks[b]


def _least(trials: Sequence[Mapping[str, Any]], task: str) -> str:
    return f"{min(trial['errors'][task] for trial in trials):.3f}"


def _at(curve: Mapping[str, Any], ratio: float) -> float:
    mean: float = curve["mean"][list(curve["ratio"]).index(ratio)]
    return mean
