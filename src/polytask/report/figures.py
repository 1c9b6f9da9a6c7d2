"""What a figure of the page is: plotly's plain data, and the words that stand for it."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["COLOURS", "DASHES", "Figure", "axis", "heat_height", "label", "line", "mark", "ticks"]

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#b0609a", "#7d7d7d", "#8064d8", "#a6761d", "#3f8fa8")
"""After Okabe & Ito's palette; each has a contrast of 3 to 1 or more to the page's light and dark ground."""
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot", "8px 2px", "2px 6px")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "cross", "star", "bowtie")


@dataclass(frozen=True)
class Figure:
    """A chart, as plotly's script takes it.

    Args:
        title: What it shows, above it.
        alt: What one sees in it, for those who do not see it.
        data: Its traces.
        layout: Its layout without colours and fonts, which are the page's.
        height: In pixels.
        task: The task it belongs to, if to one.
        caption: What to know, below it.
    """

    title: str
    alt: str
    data: Sequence[Mapping[str, Any]]
    layout: Mapping[str, Any]
    height: int = 230
    task: str | None = None
    caption: str = ""

    def plain(self) -> dict[str, Any]:
        """As JSON for plotly."""
        return {"data": list(self.data), "layout": {**self.layout, "height": self.height}}


def label(name: Any, most: int = 26) -> str:
    """A name for use inside a chart: shortened, and no tag of plotly's own markup.

    Example:
        >>> label("<b>x"), label("a" * 30)
        ('&lt;b&gt;x', 'aaaaaaaaaaaaaaaaaaaaaaaaa…')
    """
    text = str(name)
    return html.escape(text if len(text) <= most else f"{text[: most - 1]}…", quote=False)


def axis(title: str = "", **options: Any) -> dict[str, Any]:
    """An axis that makes room for its own labels."""
    return {"title": {"text": title, "standoff": 6}, "automargin": True, "zeroline": False, **options}


def ticks(names: Sequence[Any], most: int = 32) -> dict[str, Any]:
    """Names along an axis of places from 0; only every so many of them where all would overlap.

    Example:
        >>> ticks(["a", "b", "c"], most=2)
        {'tickvals': [0, 2], 'ticktext': ['a', 'c']}
    """
    step = max(-(-len(names) // most), 1)
    return {"tickvals": list(range(0, len(names), step)), "ticktext": [label(name, 14) for name in names[::step]]}


def heat_height(rows: int) -> int:
    """Height of a heat map of so many rows."""
    return min(max(120 + 26 * rows, 280), 900)


def mark(index: int) -> dict[str, str]:
    """Colour and symbol of what comes at this place; after as many as there are colours, in other pairs.

    Example:
        >>> len({tuple(mark(index).values()) for index in range(64)})
        64
    """
    symbol = SYMBOLS[(index + index // len(COLOURS)) % len(SYMBOLS)]
    return {"color": COLOURS[index % len(COLOURS)], "symbol": symbol}


def line(x: Iterable[Any], y: Sequence[Any], name: str, index: int, **options: Any) -> dict[str, Any]:
    """A line, told from the others by colour and dash; a dot for a line of a single point, which would not be seen."""
    alone = sum(value is not None for value in y) == 1
    return {
        "type": "scatter",
        "x": list(x),
        "y": list(y),
        "name": label(name),
        "mode": "markers" if alone else "lines",
        "marker": {**mark(index), "size": 7},
        "line": {"color": COLOURS[index % len(COLOURS)], "dash": DASHES[index % len(DASHES)], "width": 2},
        **options,
    }
