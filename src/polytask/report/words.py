"""Numbers and findings as a person reads them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup, escape

__all__ = [
    "amount",
    "breakable",
    "by_reason",
    "configuration",
    "duration",
    "error",
    "finite",
    "is_of_stacks",
    "listed",
    "number",
    "percent",
    "possible",
    "share",
    "span",
    "sureness",
    "unbroken",
    "unmet",
    "when",
]

DASH = "–"
MINUS = "−"


def finite(value: Any) -> float | None:
    """A number, or ``None`` for what is none: missing, NaN, infinite, text."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def number(value: Any, digits: int = 3) -> str:
    """A number in so many significant digits, with a true minus; a dash for what is not there.

    Example:
        >>> number(0.12345), number(-1234.5), number(float("nan")), number(None), number(1e-7)
        ('0.123', '−1,234', '–', '–', '1e-07')
    """
    found = finite(value)
    if found is None:
        return DASH
    if found and not 1e-4 <= abs(found) < 1e6:
        text = f"{found:.{digits}g}"
    else:
        exponent = math.floor(math.log10(abs(found))) if found else digits - 1
        text = f"{found:,.{max(digits - 1 - exponent, 0)}f}"
    return f"{MINUS}{text[1:]}" if text.startswith("-") else text


def amount(value: Any) -> str:
    """A count, shortened where only its size matters.

    Example:
        >>> amount(52), amount(12400), amount(3_200_000)
        ('52', '12,400', '3.2 M')
    """
    found = finite(value)
    if found is None:
        return DASH
    return f"{found:,.0f}" if abs(found) < 1e6 else f"{number(found / 1e6, 2 if found < 1e7 else 3)} M"


def error(value: Any) -> str:
    """A relative error, or an end of its interval: three decimals, so that a column of them can be compared.

    An error is never below zero, so that an interval ends there.

    Example:
        >>> error(0.0452), error(-0.0099), error(12.3456), error(None)
        ('0.045', '0.000', '12.3', '–')
    """
    found = finite(value)
    if found is None:
        return DASH
    return f"{max(found, 0.0):.3f}" if found < 9.9995 else number(found)


def breakable(name: Any) -> Markup:
    """A name that may be broken over lines after the signs that part its words.

    Example:
        >>> str(breakable("worst_area")), str(breakable("<b>"))
        ('worst_<wbr>area', '&lt;b&gt;')
    """
    return Markup("").join(Markup(f"{escape(sign)}<wbr>") if sign in "_-./" else escape(sign) for sign in str(name))


def unbroken(text: Any) -> Markup:
    """A sentence in which an option of the command line, as `--group`, is not broken over lines after its hyphens.

    Example:
        >>> str(unbroken("give --group, or <b>"))
        'give <span class="option">--group</span>, or &lt;b&gt;'
    """
    parts = re.split(r"(--[a-z][a-z-]*)", str(text))
    return Markup("").join(
        Markup('<span class="option">{}</span>').format(part) if i % 2 else escape(part) for i, part in enumerate(parts)
    )


def percent(value: Any) -> str:
    """A signed percentage that is in percent already.

    Example:
        >>> percent(8.6), percent(-5.52), percent(0.0), percent(None), percent(0.04), percent(123.4)
        ('+8.6%', '−5.5%', '0.0%', '–', '0.0%', '+123%')
    """
    found = finite(value)
    if found is None:
        return DASH
    text = f"{abs(found):.0f}" if abs(found) >= 99.95 else f"{abs(found):.1f}"
    sign = "" if float(text) == 0 else "+" if found > 0 else MINUS
    return f"{sign}{text}%"


def possible(gain: Any) -> float | None:
    """The upper end of a gain's interval as it is shown: an error cannot get smaller by more than 100 %.

    Example:
        >>> possible(328.9), possible(12.0), possible(None)
        (100.0, 12.0, None)
    """
    found = finite(gain)
    return None if found is None else min(found, 100.0)


def share(value: Any) -> str:
    """A share between 0 and 1 as a percentage; never rounded to all or nothing.

    Example:
        >>> share(0.7115), share(0.9999), share(0.0001), share(1), share(None)
        ('71%', '>99%', '<1%', '100%', '–')
    """
    found = finite(value)
    if found is None:
        return DASH
    rounded = round(100 * found)
    if rounded == 100 and found < 1:
        return ">99%"
    return "<1%" if rounded == 0 and found > 0 else f"{rounded}%"


def span(low: Any, high: Any, form: Any = number) -> str:
    """Both ends of an interval, in a form; a dash if there is none.

    Example:
        >>> span(0.123, 0.456), span(-2.0, None, percent), span(None, None)
        ('0.123 to 0.456', '−2.0% to –', '–')
    """
    if finite(low) is None and finite(high) is None:
        return DASH
    return f"{form(low)} to {form(high)}"


def duration(seconds: Any) -> str:
    """A time.

    Example:
        >>> duration(0.0213), duration(9.5), duration(512.4), duration(7384), duration(None)
        ('21 ms', '9.5 s', '8 min 32 s', '2 h 3 min', '–')
    """
    found = finite(seconds)
    if found is None:
        return DASH
    if found < 1:
        return f"{number(1000 * found, 2)} ms"
    if found < 100:
        return f"{number(found, 2)} s"
    minutes, rest = divmod(round(found), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def is_of_stacks(note: str) -> bool:
    """Whether a note of an arm says with what its networks were trained, which is for the record alone.

    Example:
        >>> is_of_stacks("2 networks of one shape were trained at once."), is_of_stacks("Stopped by its patience.")
        (True, False)
    """
    return bool(_OF_STACKS.search(note))


_OF_STACKS = re.compile(r"networks? (of one shape were|was) trained at |^Trained (in a|by itself and in no) stack ")


def listed(names: Sequence[Any], most: int = 4) -> str:
    """Names in a sentence, the first few of them; classes may be numbers.

    Example:
        >>> listed(["a"]), listed(["a", "b", "c"]), listed(list("abcdefg")), listed([0.0, 1.0])
        ('a', 'a, b and c', 'a, b, c, d and 3 more', '0 and 1')
    """
    shown = [f"{name:g}" if isinstance(name, float) else str(name) for name in names[:most]]
    if len(names) > most:
        return f"{', '.join(shown)} and {len(names) - most} more"
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


def when(made: str) -> str:
    """A time of ISO 8601 to the minute.

    Example:
        >>> when("2026-01-01T12:00:00+00:00"), when("")
        ('2026-01-01 12:00 UTC', '')
    """
    day, separator, clock = made.partition("T")
    zone = " UTC" if clock.endswith(("+00:00", "Z")) else ""
    return f"{day} {clock[:5]}{zone}" if separator else made


def sureness(verdict: str, p: Any, low: Any, high: Any, n_tasks: int) -> str:
    """How sure a verdict is, in words; ``p`` is corrected for the number of tasks.

    Example:
        >>> sureness("helped", 0.0028, 4.9, 12.3, 4)
        'Strong evidence: p = 0.0028, corrected for 4 tasks.'
        >>> sureness("no evidence", 0.84, -2.0, 2.3, 4)
        'The gain may be anything from −2.0% to +2.3% (p = 0.84).'
        >>> sureness("no evidence", 0.12, 0.3, 2.3, 40)
        'Evidence if this were the only task, but not among 40 tasks tested at once (corrected p = 0.12).'
    """
    found, below, above = finite(p), finite(low), finite(high)
    if found is None or below is None or above is None:
        return "Too few tests to say."
    size = "p < 0.0001" if found < 1e-4 else f"p = {number(found, 2)}"
    if verdict == "no evidence":
        if below <= 0 <= above:
            most = percent(above) if above <= 100 else "at most +100%"
            return f"The gain may be anything from {percent(below)} to {most} ({size})."
        return f"Evidence if this were the only task, but not among {n_tasks} tasks tested at once (corrected {size})."
    strength = "Very strong evidence" if found < 0.001 else "Strong evidence" if found < 0.01 else "Evidence"
    corrected = f", corrected for {n_tasks} tasks" if n_tasks > 1 else ""
    return f"{strength}: {size}{corrected}."


_MOST_WEIGHTS = 8


def configuration(found: Mapping[str, Any]) -> str:
    """What a search found, in a line.

    Example:
        >>> configuration({"sharing": {"name": "hard", "ratio": 0.5}, "training": {"learning_rate": 2.0}})
        'hard (ratio 0.5); training times (learning_rate 2)'
    """
    parts = []
    for role, options in found.items():
        inner = {key: value for key, value in options.items() if key != "name"}
        weights = inner.pop("weights", None)
        if weights:
            inner |= weights if len(weights) <= _MOST_WEIGHTS else {"weights": f"of {len(weights)} tasks"}
        shown = ", ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in inner.items())
        parts.append(f"{options.get('name', role + ' times')}{f' ({shown})' if shown else ''}")
    return "; ".join(parts)


def by_reason(left_out: Mapping[str, str]) -> dict[str, list[str]]:
    """Why arms were left out, and which of them for the same reason.

    Example:
        >>> by_reason({"chains": "not tried", "pooled": "one task only", "forest": "not tried"})
        {'not tried': ['chains', 'forest'], 'one task only': ['pooled']}
    """
    found: dict[str, list[str]] = {}
    for arm, reason in left_out.items():
        found.setdefault(reason, []).append(arm)
    return found


def unmet(by_name: Sequence[str], left_out: Mapping[str, str]) -> str:
    """That arms which were asked for by name did not run, and why; empty if all of them did.

    Example:
        >>> unmet(["joint", "searched"], {"searched": "not tried", "chains": "not tried"})
        'Asked for and not run: searched (not tried).'
        >>> unmet(["forest"], {"forest": "3 s of the budget are left"})
        'Asked for and not run: forest (3 s of the budget are left). Give a larger --budget with --resume for that.'
        >>> unmet(["joint"], {"chains": "not tried"})
        ''
    """
    missing = [f"{arm} ({left_out[arm].rstrip('.')})" for arm in dict.fromkeys(by_name) if arm in left_out]
    if not missing:
        return ""
    more = " Give a larger --budget with --resume for that." if any(" budget" in text for text in missing) else ""
    return f"Asked for and not run: {'; '.join(missing)}.{more}"
