"""The whole way: data to measures, harm in words, groups and their verification, one record."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from polytask.affinity.grouping import GroupBudget
from polytask.affinity.groups import gains_of, make_grouping
from polytask.affinity.keeping import Kept
from polytask.affinity.measure import Measure
from polytask.affinity.measures import registry
from polytask.affinity.opening import open_prepared
from polytask.affinity.readings import grounds, read_all
from polytask.affinity.record import AffinityRecord, Arrangement, Found
from polytask.affinity.verification import verified
from polytask.errors import RecipeError
from polytask.records import without_nan
from polytask.storage import write_json
from polytask.training.planning import plan_of
from polytask.training.preparation import Prepared
from polytask.training.progress import Progress
from polytask.training.run_folder import RunFolder, environment

__all__ = ["DEFAULT_MEASURES", "find_affinity"]

DEFAULT_MEASURES = ("gradient_cosine", "label_correlation")
_MOST_HARM = 50
_RECORD = "affinity.json"


def find_affinity(
    data: Any,
    targets: Any = None,
    *,
    measures: Sequence[str] = DEFAULT_MEASURES,
    budget: GroupBudget | Callable[[int], GroupBudget | None] | None = None,
    group_by: str | None = None,
    verify: bool = True,
    seeds: int = 2,
    seed: int = 0,
    seconds: float | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    by: str | None = None,
    group: str | None = None,
    **options: Any,
) -> AffinityRecord:
    """Which tasks belong together: measures, pairs that hurt each other, groups.

    Args:
        data: A table (a path, a data frame), data sets by name, or a :class:`polytask.Recipe` that names its data.
        targets: Target columns; or options by task name, as in :class:`polytask.Recipe`, which has its own.
        measures: Names of measures.
        budget: What may be spent on groups, or a function that says so from the number of tasks; none are made if
            ``None``.
        group_by: The measure that groups are made from; the first if ``None``.
        verify: Whether groups and their controls are trained, and tested on rows that no measure saw.
        seeds: Readings of each measure, and trainings of each group.
        seed: The first of them, and that of the split.
        seconds: Time that a measure may take in one reading, for those that can do with less.
        out: Folder for the record; nothing is written if ``None``.
        resume: Go on in a folder that exists. Each reading of a measure and each group's training is kept when it is
            done, and is not done again. ``verify`` may be another than before.
        progress: Told about the trainings.
        by: Column of a long table: each value of it is a task with rows of its own.
        group: Column of groups, such as patients: none is on two sides, neither among the rows that measures read and
            those that verify, nor among the halves that the readings compare; in whatever sources its rows are, each
            of which has the column.
        **options: Settings of :class:`polytask.Recipe`; ``inputs``, ``drop`` and the like of the one table.

    Raises:
        PolytaskError: If data or settings cannot be used, or the folder is in use.

    Example:
        >>> from polytask.data.generators import clustered_tasks
        >>> made = clustered_tasks((2, 2), 600, n_inputs=8)
        >>> record = find_affinity(made.frame, list(made.targets), measures=["label_correlation"],
        ...                        budget=GroupBudget(models=2), verify=False)
        >>> record.grouping.chosen.groups
        (('y0', 'y1'), ('y2', 'y3'))
    """
    began = time.perf_counter()
    if not measures:
        raise RecipeError(f"Name at least one measure: {', '.join(registry.names())}.")
    if seeds < 1:
        raise RecipeError(f"Measures need at least one seed, got {seeds}.")
    chosen = group_by or measures[0]
    made: dict[str, Measure] = {name: registry.create(name) for name in dict.fromkeys([*measures, chosen])}
    folder = RunFolder(out) if out is not None else None
    if folder is not None:
        folder.check(resume=resume)  # before data are read
    with closing(folder) if folder is not None else nullcontext():
        recipe, prepared, groups = open_prepared(data, targets, seed, options, by, group)
        plan = plan_of(recipe, prepared)
        names = [task.name for task in prepared.tasks]
        spend = budget(len(names)) if callable(budget) else budget
        settings = {
            "recipe": recipe.plain(),
            "measures": list(measures),
            "group_by": chosen,
            "seeds": seeds,
            "seed": seed,
            "verify": verify,
        }
        kept = Kept()
        if folder is not None:
            # Whether groups are verified may be decided anew: the measures before it are the same.
            asked = {key: value for key, value in settings.items() if key != "verify"}
            asked |= {"budget": None if spend is None else asdict(spend), "seconds": seconds, "tasks": names}
            folder.open(without_nan({**asked, "data": prepared.data}), resume=resume)
            if (folder.path / _RECORD).exists():
                known = AffinityRecord.load(folder.path)
                if known.settings.get("verify") or not verify:
                    return known
            kept = Kept(folder.path / "done")
        found: dict[str, Found] = {}
        for halves in (True, False):
            same = {name: one for name, one in made.items() if one.halves == halves}
            if same:
                on = grounds(prepared, plan, seeds, seed, halves, groups=groups, seconds=seconds, progress=progress)
                found |= read_all(same, on, seed, kept)
        found = {name: found[name] for name in made}

        def check(arrangements: Mapping[str, Arrangement]) -> dict[str, Arrangement]:
            return verified(arrangements, prepared, plan, range(seed, seed + seeds), progress, kept, groups)

        grouping = None
        if spend is not None:
            trained = check if verify and prepared.test else None
            grouping = make_grouping(chosen, found[chosen], names, spend, verify=trained, seed=seed, progress=progress)
        record = AffinityRecord(
            tasks=_described(prepared),
            measures=found,
            harm=tuple(harm_of(found, names)),
            grouping=grouping,
            data=prepared.data,
            settings=settings,
            environment=environment(),
            seconds=round(time.perf_counter() - began, 3),
            made=datetime.now(UTC).isoformat(timespec="seconds"),
            notes=tuple(prepared.notes),
        )
        if folder is not None:
            write_json(folder.path / _RECORD, record.to_json())
        return record


def _described(prepared: Prepared) -> dict[str, dict[str, Any]]:
    """Kind and number of training labels of each task."""
    labels = {
        task.name: sum(int(s.observed[task.name].sum()) for s in prepared.train.values() if task.name in s.tasks)
        for task in prepared.tasks
    }
    return {task.name: {"kind": task.kind, "n_labels": labels[task.name]} for task in prepared.tasks}


def harm_of(found: Mapping[str, Found], names: Sequence[str]) -> list[str]:
    """Pairs in which one task hurts the other, by measures that have a zero, the worst of each measure first.

    A pair counts if it is below zero by more than the spread over the seeds, and the measure was not found to be
    chance: among thousands of pairs some are below zero in every reading whatever the truth is.
    """
    said: list[str] = []
    for measure, one in found.items():
        is_chance = one.structure.p is not None and not one.structure.is_found
        if not one.has_zero or is_chance:
            continue
        gains = gains_of(one)
        spread = np.array([[np.nan if v is None else v for v in row] for row in one.spread], dtype=float)
        below = np.isfinite(gains) & (gains < -np.nan_to_num(spread)) & ~np.eye(len(names), dtype=bool)
        if not one.directed:
            below = np.triu(below)
        pairs = sorted(zip(*np.nonzero(below), strict=True), key=lambda pair: gains[pair])
        for i, j in pairs[: _MOST_HARM // len(found)]:
            verb = "hurts" if one.directed else "and"
            tail = "" if one.directed else " pull against each other"
            sure = "" if np.isnan(spread[i, j]) else f" ± {spread[i, j]:.2g}"
            said.append(f"{names[i]} {verb} {names[j]}{tail}: {measure} {one.array[i, j]:.3g}{sure}.")
    return said
