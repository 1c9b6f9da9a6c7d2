"""A chart of the gains of many tasks at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from polytask.records import Verdict
from polytask.report.figures import COLOURS, Figure, axis, label
from polytask.report.words import finite, percent, possible

__all__ = ["gains"]

_FORMS = {
    "helped": (COLOURS[0], "triangle-up"),
    "hurt": (COLOURS[1], "triangle-down"),
    "no evidence": (COLOURS[4], "circle-open"),
}


def gains(verdicts: Mapping[str, Verdict]) -> Figure | None:
    """The gain of each task with its interval, from the smallest to the largest.

    Args:
        verdicts: By task.
    """
    known = sorted((gain, task) for task, v in verdicts.items() if (gain := finite(v.gain)) is not None)
    if not known:
        return None
    places = {task: place + 1 for place, (_, task) in enumerate(known)}
    data = []
    for name, (colour, symbol) in _FORMS.items():
        mine = [(gain, task) for gain, task in known if verdicts[task].verdict == name]
        if mine:
            data.append(_points(name, mine, places, verdicts, colour, symbol))
    layout = {
        "xaxis": axis("tasks, by gain"),
        "yaxis": axis("gain in % of the error alone", zeroline=True),
        "showlegend": True,
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        "shapes": [{"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": 0, "y1": 0, "line": {"width": 1}}],
    }
    middle = known[len(known) // 2][0]
    alt = (
        f"Gains of {len(known)} tasks with their intervals, from {percent(known[0][0])} ({known[0][1]}) over a median "
        f"of {percent(middle)} to {percent(known[-1][0])} ({known[-1][1]})."
    )
    return Figure("All tasks at once", alt, data, layout, 360)


def _points(
    name: str,
    mine: list[tuple[float, str]],
    places: Mapping[str, int],
    verdicts: Mapping[str, Verdict],
    colour: str,
    symbol: str,
) -> dict[str, Any]:
    ends = [(finite(verdicts[task].interval[0]), possible(verdicts[task].interval[1])) for _, task in mine]
    return {
        "type": "scatter", "mode": "markers", "name": name,
        "x": [places[task] for _, task in mine], "y": [gain for gain, _ in mine],
        "text": [label(task) for _, task in mine],
        "hovertemplate": "%{text}: %{y:.1f} %<extra></extra>",
        "marker": {"color": colour, "symbol": symbol, "size": 7},
        "error_y": {
            "type": "data", "symmetric": False, "thickness": 1, "width": 0, "color": colour,
            "array": [0.0 if high is None else high - gain for (gain, _), (_, high) in zip(mine, ends, strict=True)],
            "arrayminus": [0.0 if low is None else gain - low for (gain, _), (low, _) in zip(mine, ends, strict=True)],
        },
    }  # fmt: skip
