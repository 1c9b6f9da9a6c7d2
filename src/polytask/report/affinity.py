"""What the page of affinity shows, worked out from its record; and the heat map that a study's page shows too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from polytask.affinity.record import AffinityRecord, Grouping, as_good_as, how_verified
from polytask.report.figures import Figure, axis, heat_height, label, ticks
from polytask.report.gallery import Gallery
from polytask.report.provenance import flat
from polytask.report.words import finite, number

__all__ = ["affinity_view", "clustered_order", "heat_map"]

_CELLS = 12
_PAIRS = 6
_IN_A_SENTENCE = 4
"""Groups at most that the sentence under the headline names."""
_OUTLIERS = 0.98
"""Colours reach their ends at this quantile of the absolute values, so that one large value does not pale the rest."""


def affinity_view(record: AffinityRecord) -> dict[str, Any]:
    """Everything that the template of an affinity page needs.

    Args:
        record: What was found.
    """
    names = list(record.tasks)
    gallery = Gallery()
    for measure, found in record.measures.items():
        gallery.add("matrices", heat_map(measure, found.words, names, found.values))
    return {
        "record": record,
        "headline": _headline(record),
        "lead": _lead(record.grouping) if record.grouping else "",
        "names": names,
        "ends": {
            measure: _ends(names, found.values, found.spread, found.directed)
            for measure, found in record.measures.items()
        },
        "groups": _groups(record.grouping) if record.grouping else [],
        "arrangements": _arrangements(record.grouping) if record.grouping else [],
        "numbers": {task: index for index, task in enumerate(names)},
        "filter_tasks": [],
        "gallery": gallery,
        "provenance": {
            **{f"Source {name}": flat(found) for name, found in record.data.items()},
            "Settings": flat(record.settings),
            "Environment": flat(record.environment),
        },
    }


def heat_map(measure: str, words: str, tasks: Sequence[str], values: Sequence[Sequence[float | None]]) -> Figure | None:
    """A matrix of tasks by tasks with like tasks side by side.

    Blue is for, red against where values have both signs; dark is more where they have one; a hole is not known.
    """
    known = [(v, i, j) for i, row in enumerate(values) for j, v in enumerate(row) if finite(v) is not None and i != j]
    if not known:
        return None
    order = clustered_order(values)
    names = [tasks[i] for i in order]
    rows = [[None if i == j else finite(values[i][j]) for j in order] for i in order]
    sizes = [abs(v) for v, _, _ in known if v is not None]
    limit = float(np.quantile(sizes, _OUTLIERS)) or max(sizes) or 1.0
    has_signs = any(v is not None and v < 0 for v, _, _ in known)
    high, low = max(known, key=lambda k: k[0] or 0.0), min(known, key=lambda k: k[0] or 0.0)
    gap = 1 if len(names) <= 40 else 0
    trace: dict[str, Any] = {
        "type": "heatmap",
        "x": list(range(len(names))),
        "y": list(range(len(names))),
        "z": rows,
        "hovertext": [
            [f"{label(a)} → {label(b)}: {number(v)}" for b, v in zip(names, row, strict=True)]
            for a, row in zip(names, rows, strict=True)
        ],
        "hoverinfo": "text",
        "hoverongaps": False,
        "xgap": gap,
        "ygap": gap,
        "colorbar": {"thickness": 10, "len": 0.9},
        "meta": "diverging" if has_signs else "sequential",
        "zmin": -limit if has_signs else 0.0,
        "zmax": limit,
    }
    if len(names) <= _CELLS:
        trace |= {"texttemplate": "%{z:.2g}", "showscale": False}
    alt = (
        f"{len(known)} values between {len(names)} tasks. The largest is {number(high[0])}, of {tasks[high[1]]} for "
        f"{tasks[high[2]]}; the smallest {number(low[0])}, of {tasks[low[1]]} for {tasks[low[2]]}."
    )
    layout = {
        "xaxis": {**axis("task j", **ticks(names), tickangle=-40), "showgrid": False},
        "yaxis": axis("task i", **ticks(names), autorange="reversed", showgrid=False),
        "showlegend": False,
    }
    few = len(ticks(names)["tickvals"]) < len(names)
    some = " Only some names are shown; pointing at a cell names its tasks." if few else ""
    caption = f"{words[:1].upper()}{words[1:]}; row i, column j; similar tasks stand side by side.{some}"
    return Figure(measure, alt, [trace], layout, heat_height(len(names)), caption=caption)


def clustered_order(values: Sequence[Sequence[float | None]]) -> list[int]:
    """An order in which tasks of high values between them stand side by side: the leaves of an average-link tree.

    Example:
        >>> clustered_order([[None, 0, 1], [0, None, 0], [1, 0, None]]) in ([0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1])
        True
    """
    matrix = np.array([[np.nan if v is None else v for v in row] for row in values], dtype=float)
    if len(matrix) < 3:
        return list(range(len(matrix)))
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    both = np.nan_to_num((matrix + matrix.T) / 2, nan=0.0)
    distance = both.max() - both
    np.fill_diagonal(distance, 0.0)
    tree = linkage(squareform(distance, checks=False), "average", optimal_ordering=True)
    return [int(i) for i in leaves_list(tree)]


def _headline(record: AffinityRecord) -> str:
    grouping = record.grouping
    n_harm = len(record.harm)
    harm = f"negative transfer in {n_harm} {'pair' if n_harm == 1 else 'pairs'}" if n_harm else "no negative transfer"
    if grouping is None:
        return f"Affinity of {len(record.tasks)} tasks: {harm}."
    found = record.measures[grouping.measure].structure
    n = len(grouping.chosen.groups)
    groups = f"{n} {'group' if n == 1 else 'groups'} of {len(record.tasks)} tasks"
    unsure = "" if found.is_found else ", which may be chance"
    if found.is_found and (control := as_good_as(grouping.chosen, grouping.controls)):
        unsure = f", no better than {control}"
    return f"{groups} by {grouping.measure}{unsure}; {harm}."


def _lead(grouping: Grouping) -> str:
    """The finding; many groups stand in the table alone."""
    if len(grouping.chosen.groups) <= _IN_A_SENTENCE:
        return grouping.words
    return how_verified(grouping.chosen, grouping.controls) or "The groups were not verified by training."


def _ends(
    names: Sequence[str],
    values: Sequence[Sequence[float | None]],
    spread: Sequence[Sequence[float | None]],
    directed: bool,
) -> dict[str, list[tuple[str, str, float, float | None]]]:
    """The pairs of the largest and the smallest values."""
    pairs = [
        (names[i], names[j], v, finite(spread[i][j]))
        for i, row in enumerate(values)
        for j, v in enumerate(row)
        if v is not None and (i != j if directed else i < j)
    ]
    pairs.sort(key=lambda pair: -pair[2])
    if len(pairs) <= 2 * _PAIRS:
        return {"all pairs": pairs} if pairs else {}
    return {f"the {_PAIRS} highest of {len(pairs):,}": pairs[:_PAIRS], f"the {_PAIRS} lowest": pairs[::-1][:_PAIRS]}


def _groups(grouping: Grouping) -> list[dict[str, Any]]:
    chosen = grouping.chosen
    return [
        {
            "serves": serves,
            "helpers": [task for task in tasks if task not in serves],
        }
        for tasks, serves in zip(chosen.groups, chosen.serves, strict=True)
    ]


def _arrangements(grouping: Grouping) -> list[Mapping[str, Any]]:
    every = {"these groups": grouping.chosen, **grouping.controls}
    return [{"name": name, "found": one} for name, one in every.items()]
