"""What came of a run's constraints, measured on the rows that it kept its epoch by and on test rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from polytask.models.model import MultiTaskModel
from polytask.records import ConstraintResult
from polytask.training.bounds import Bound
from polytask.training.constraints import Constraints, Measured
from polytask.training.preparation import Prepared

__all__ = ["margin_notes", "results_of"]

_INTERVAL = 1.96


def results_of(
    constraints: Constraints,
    model: MultiTaskModel,
    prepared: Prepared,
    last: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]],
) -> dict[str, ConstraintResult]:
    """The result of each constraint: its values, and whether it is kept.

    A constraint is broken if it is violated on the validation rows, by which the epoch was chosen (on the training rows
    if there are none), or so far on the test rows that chance does not explain it: by more than 1.96 standard errors.

    Args:
        constraints: The constraints.
        model: The network that was kept.
        prepared: The data.
        last: The kept epoch's line of the history, for the multipliers.
        history: The lines of all epochs, for the curves.
    """
    rows = "validation" if prepared.validation else "training"
    seen = constraints.measure(model, prepared.validation or prepared.train)
    nothing = [Measured(math.nan, math.nan, math.nan)] * len(seen)
    held = constraints.measure(model, prepared.test, sure=True) if prepared.test else nothing
    return {
        bound.name: replace(
            _result(bound, one, other, rows, _at(last, bound, "multiplier")),
            values=tuple(_at(line, bound, "value") for line in history),
            multipliers=tuple(_at(line, bound, "multiplier") for line in history),
        )
        for bound, one, other in zip(constraints.bounds, seen, held, strict=True)
    }


def margin_notes(bounds: Sequence[Bound], history: Sequence[Mapping[str, Any]], rows: str) -> list[str]:
    """A sentence for each ``auto`` margin that stayed 0 because nothing could be measured.

    Args:
        bounds: The constraints.
        history: The lines of all epochs.
        rows: Which rows the constraints were measured on, in a word.
    """
    return [
        f"The margin of {bound.name} is auto and stayed 0: two {rows} rows at least must have the labels that it is "
        "measured by, of each group if it compares some."
        for bound in bounds
        if bound.margin == "auto" and all(_at(line, bound, "error") is None for line in history)
    ]


def _at(line: Mapping[str, Any], bound: Bound, name: str) -> float | None:
    """A number of a line of the history; ``None`` where the epoch's stage did not have the constraint."""
    found: float | None = line.get("constraints", {}).get(bound.name, {}).get(name)
    return found


def _result(bound: Bound, seen: Measured, held: Measured, rows: str, multiplier: float | None) -> ConstraintResult:
    clearly = math.isfinite(held.violation) and held.violation > _INTERVAL * (held.error if held.error >= 0 else 0.0)
    measured = math.isfinite(seen.violation) or math.isfinite(held.violation)
    is_kept = measured and not seen.violation > 0.0 and not clearly
    return ConstraintResult(
        task=bound.task.name,
        metric=bound.metric,
        bound=bound.bound,
        is_upper=bound.side > 0,
        rows=rows,
        value=seen.value,
        test=held.value,
        error=held.error,
        multiplier=multiplier,
        is_kept=is_kept,
        words=_words(seen, held, rows, is_kept),
    )


def _words(seen: Measured, held: Measured, rows: str, is_kept: bool) -> str:
    found = [
        f"{measured.value:.4g}{_around(measured)} on {name} rows{_beyond(measured)}"
        for name, measured in ((rows, seen), ("test", held))
        if math.isfinite(measured.value)
    ]
    if not found:
        return "cannot be measured: no row has the labels that it needs"
    return f"{'kept' if is_kept else 'broken'}: {'; '.join(found)}"


def _around(measured: Measured) -> str:
    return f" ± {_INTERVAL * measured.error:.2g}" if math.isfinite(measured.error) else ""


def _beyond(measured: Measured) -> str:
    if not measured.violation > 0.0:
        return ""
    within = math.isfinite(measured.error) and measured.violation <= _INTERVAL * measured.error
    by = f", {measured.violation:.2g} beyond the bound"
    return f"{by} on these rows (a difference within chance)" if within else by
