"""The charts of a page, numbered, by the section they are in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from polytask.report.figures import Figure

__all__ = ["Gallery", "embedded"]


@dataclass
class Gallery:
    """Charts by section, each with the number by which the page's script finds its data.

    Args:
        sections: Per section, number and chart.
        data: The charts as plotly takes them, by number.
    """

    sections: dict[str, list[tuple[int, Figure]]] = field(default_factory=dict)
    data: list[Mapping[str, Any]] = field(default_factory=list)

    def add(self, section: str, figure: Figure | None) -> None:
        """Hang a chart, if there is one."""
        if figure is not None:
            self.sections.setdefault(section, []).append((len(self.data), figure))
            self.data.append(figure.plain())

    def of(self, section: str) -> list[tuple[int, Figure]]:
        """The charts of a section."""
        return self.sections.get(section, [])


def embedded(data: Any) -> str:
    r"""JSON that can stand inside a ``script`` element, whatever names are in it.

    Example:
        >>> embedded({"</script>": 1})
        '{"\\u003c/script\\u003e":1}'
    """
    text = json.dumps(data, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e").replace("\u2028", "\\u2028")
