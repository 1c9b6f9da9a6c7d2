"""Where records come from, flat, and where they differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from polytask.report.words import DASH, listed

__all__ = ["differences", "flat"]


def flat(data: Mapping[str, Any]) -> dict[str, str]:
    """Nested settings as one list of names and texts.

    Example:
        >>> flat({"folds": 5, "packages": {"torch": "2.13"}, "targets": ["a", "b"], "group": None})
        {'folds': '5', 'packages.torch': '2.13', 'targets': 'a and b', 'group': '–'}
    """
    found: dict[str, str] = {}
    for name, value in data.items():
        if isinstance(value, Mapping) and value:
            found |= {f"{name}.{inner}": text for inner, text in flat(value).items()}
        else:
            found[str(name)] = _text(value)
    return found


def _text(value: Any) -> str:
    if value is None or value == "" or value == {}:
        return DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.10g}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return listed([_text(item) for item in value], most=40) or DASH
    return str(value)


def differences(records: Sequence[Mapping[str, Any]]) -> tuple[dict[str, list[str]], int]:
    """Names whose texts are not the same everywhere, with the text of each record, and how many are the same.

    Example:
        >>> differences([{"seed": 0, "folds": 5}, {"seed": 1, "folds": 5}])
        ({'seed': ['0', '1']}, 1)
    """
    read = [flat(record) for record in records]
    names = list(dict.fromkeys(name for one in read for name in one))
    rows = {name: [one.get(name, DASH) for one in read] for name in names}
    apart = {name: texts for name, texts in rows.items() if len(set(texts)) > 1}
    return apart, len(rows) - len(apart)
