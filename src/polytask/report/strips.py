"""An interval as a small drawing inside a table row: no script, no request, and it prints."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from markupsafe import Markup

from polytask.report.words import finite

__all__ = ["Scale", "scale_of"]

_WIDTH, _HEIGHT, _EDGE = 180, 22, 8


@dataclass(frozen=True)
class Scale:
    """The axis that the strips of a table share: from ``-limit`` to ``limit`` percent, zero in the middle.

    Args:
        limit: Its end.
    """

    limit: float

    def strip(self, mean: float | None, low: float | None, high: float | None, kind: str) -> Markup:
        """A dot with its interval; what lies beyond the axis ends in an arrow.

        Args:
            mean: The dot.
            low: Lower end.
            high: Upper end.
            kind: Class for the colour.
        """
        middle = _HEIGHT / 2
        parts = [f'<line class="zero" x1="{_WIDTH / 2}" x2="{_WIDTH / 2}" y1="1" y2="{_HEIGHT - 1}"/>']
        dot, ends = finite(mean), (finite(low), finite(high))
        if dot is not None:
            if ends[0] is not None and ends[1] is not None:
                left, right = self._place(ends[0]), self._place(ends[1])
                parts.append(f'<line class="bar" x1="{left}" x2="{right}" y1="{middle}" y2="{middle}"/>')
                parts += [self._end(value, side) for value, side in zip(ends, (-1, 1), strict=True)]
            parts.append(f'<circle cx="{self._place(dot)}" cy="{middle}" r="4.5"/>')
        # The text beside the strip says the same, so that readers of the page aloud skip the drawing.
        return Markup(
            f'<svg class="strip {kind}" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" '
            f'aria-hidden="true" focusable="false">{"".join(parts)}</svg>'
        )

    def _place(self, value: float) -> float:
        inside = max(-self.limit, min(self.limit, value))
        return round(_WIDTH / 2 + inside / self.limit * (_WIDTH / 2 - _EDGE), 1)

    def _end(self, value: float | None, side: int) -> str:
        if value is None:
            return ""
        x, middle = self._place(value), _HEIGHT / 2
        if abs(value) > self.limit and (value > 0) == (side > 0):
            return f'<path d="M{x - 3 * side},{middle - 5} L{x + 4 * side},{middle} L{x - 3 * side},{middle + 5} Z"/>'
        return f'<line class="bar" x1="{x}" x2="{x}" y1="{middle - 4}" y2="{middle + 4}"/>'


def scale_of(gains: Iterable[tuple[float | None, float | None, float | None]]) -> Scale:
    """A round limit that holds every gain and as much of the intervals as leaves the gains legible.

    Args:
        gains: Mean, low and high of each row, in percent.

    Example:
        >>> scale_of([(8.6, 4.9, 12.3), (0.2, -2.0, 2.3)]).limit
        15
        >>> scale_of([(1.0, -180.0, 180.0)]).limit
        10
    """
    rows = [[finite(value) for value in row] for row in gains]
    means = max((abs(row[0]) for row in rows if row[0] is not None), default=0.0)
    ends = max((abs(value) for row in rows for value in row if value is not None), default=0.0)
    wanted = max(min(ends, max(4 * means, 10.0)), means, 1.0)
    return Scale(next((step for step in (1, 2, 5, 10, 15, 20, 30, 50, 75, 100, 150) if step >= wanted), 200))
