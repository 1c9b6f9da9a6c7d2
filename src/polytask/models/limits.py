"""What numbers an option of an encoder or of a way of sharing may be, by its name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from polytask.errors import RecipeError

__all__ = ["check_limits"]

_POSITIVE = (1, math.inf)
_LIMITS: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("width", "widths", "channels", "base", "n_layers", "n_heads"), _POSITIVE),
    **dict.fromkeys(("expert_widths", "tower_widths", "label_width", "squeeze"), _POSITIVE),
    **dict.fromkeys(("embedding_width", "bottleneck"), (0, math.inf)),
    **dict.fromkeys(("window", "hop"), (1e-6, math.inf)),
    "dropout": (0, 1),
}
"""Smallest and largest; PyTorch's own messages name sizes of tensors and not the option."""


def check_limits(who: str, options: Mapping[str, Any]) -> None:
    """Raise if a number among the options, or in a list among them, is out of its range or not finite.

    Raises:
        RecipeError: Naming the option, its range and what was got.

    Example:
        >>> check_limits("encoder 'mlp'", {"widths": [8, 0]})
        Traceback (most recent call last):
        polytask.errors.RecipeError: Option widths of encoder 'mlp' takes numbers of at least 1; got [8, 0].
    """
    for name, value in options.items():
        low, high = _LIMITS.get(name, (-math.inf, math.inf))
        is_list = isinstance(value, list | tuple)
        for number in value if is_list else [value]:
            if not isinstance(number, int | float) or (math.isfinite(number) and low <= number <= high):
                continue
            ends = f"from {low:g} to {high:g}" if math.isfinite(high) else f"of at least {low:g}"
            kind = ends if math.isfinite(low) else "that are finite" if is_list else "that is finite"
            needs = f"{'numbers' if is_list else 'a number'} {kind}"
            raise RecipeError(f"Option {name} of {who} takes {needs}; got {value!r}.")
