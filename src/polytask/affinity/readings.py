"""A measure over several seeds: mean, spread, cost, and whether there is structure."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np

from polytask.affinity.ground import Cost, Ground, Groups, half
from polytask.affinity.keeping import Kept
from polytask.affinity.measure import Measure
from polytask.affinity.measures import registry
from polytask.affinity.record import Found, Matrix
from polytask.affinity.structure import structure_of
from polytask.affinity.trace import mean_over
from polytask.recipe import Recipe
from polytask.training.opening import prepare_recipe
from polytask.training.planning import plan_of
from polytask.training.preparation import Prepared
from polytask.training.progress import Progress
from polytask.training.run import Plan

__all__ = ["as_matrix", "grounds", "measure_affinity", "read_all"]


def measure_affinity(data: Any, targets: Any, name: str, *, seeds: int = 2, seed: int = 0, **settings: Any) -> Found:
    """What one measure finds in a table.

    Args:
        data: A table (a path, a data frame), or data sets by name.
        targets: Target columns; or options by task name, as in :class:`polytask.Recipe`.
        name: Name of the measure.
        seeds: Number of readings.
        seed: The first of them.
        **settings: Options of the measure in ``options``; settings of :class:`polytask.Recipe` otherwise.

    Raises:
        PolytaskError: If data or settings cannot be used.
    """
    options: Mapping[str, Any] = settings.pop("options", {})
    made: Measure = registry.create(name, **options)
    recipe = Recipe(tasks=targets, seed=seed, **settings)
    prepared = prepare_recipe(recipe, data)
    plan = plan_of(recipe, prepared)
    return read_all({name: made}, grounds(prepared, plan, seeds, seed, made.halves), seed)[name]


def grounds(
    prepared: Prepared,
    plan: Plan,
    seeds: int,
    seed: int = 0,
    halves: bool = True,
    *,
    groups: Groups | None = None,
    seconds: float | None = None,
    progress: Progress | None = None,
) -> list[Ground]:
    """A ground for each seed; with ``halves``, each two seeds read two halves of the rows. One seed reads all."""
    made = []
    for k in range(seeds):
        rows, mine = prepared, groups
        if halves and seeds > 1:
            rows, mine = half(prepared, seed + k // 2, k % 2, groups)
        made.append(Ground(rows, plan, seed + k, groups=mine, seconds=seconds, progress=progress))
    return made


def read_all(
    measures: Mapping[str, Measure], on: Sequence[Ground], seed: int = 0, kept: Kept | None = None
) -> dict[str, Found]:
    """What each measure finds on the given grounds, on which measures share their trainings.

    A reading that is kept already is not made again.
    """
    store = kept or Kept()
    found = {}
    for name, one in measures.items():
        total, values, notes = Cost(), [], dict[str, None]()
        for ground in on:
            reading = store.once({"reading": name, "seed": ground.seed}, partial(_reading, one, ground))
            total.add(Cost(**reading["cost"]))
            values.append(np.array(reading["values"], dtype=np.float64))  # None is NaN
            notes |= dict.fromkeys(reading["notes"])
        found[name] = _found(one, values, total, tuple(notes), seed, on[0].progress)
    return found


def _reading(one: Measure, ground: Ground) -> dict[str, Any]:
    """Values, notes and cost of one seed as plain data, exact to the last bit."""
    ground.cost = Cost()
    began = time.perf_counter()
    reading = one.read(ground)
    # What was made before for another measure is charged with the seconds that it took.
    ground.cost.seconds += time.perf_counter() - began
    values = [[float(v) if np.isfinite(v) else None for v in row] for row in reading.values]
    return {"values": values, "notes": list(reading.notes), "cost": asdict(ground.cost)}


def _found(
    one: Measure,
    values: Sequence[np.ndarray],
    cost: Cost,
    notes: tuple[str, ...],
    seed: int,
    progress: Progress | None,
) -> Found:
    each = np.stack(values)
    mean = mean_over(each)
    count = np.isfinite(each).sum(0)
    variance = mean_over((each - mean) ** 2) * count / np.maximum(count - 1, 1)
    spread = np.where(count > 1, np.sqrt(variance), np.nan)
    return Found(
        words=one.words,
        directed=one.directed,
        has_zero=one.has_zero,
        values=as_matrix(mean),
        spread=as_matrix(spread),
        gains=as_matrix(one.gains(mean)),
        seeds=len(values),
        cost={key: round(value, 4) for key, value in asdict(cost).items()},
        structure=structure_of(values, halves=one.halves, seed=seed, progress=progress),
        notes=notes,
    )


def as_matrix(values: np.ndarray) -> Matrix:
    """Numbers with six digits, ``None`` for those that are not known."""
    return tuple(tuple(float(f"{v:.6g}") if np.isfinite(v) else None for v in row) for row in values)
