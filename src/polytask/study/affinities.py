"""What arms made from affinity have in common: measuring inside the fold, networks that serve part of their tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from polytask.affinity.ground import half
from polytask.affinity.measures import registry
from polytask.affinity.readings import grounds, read_all
from polytask.affinity.record import Found
from polytask.bundle import Network
from polytask.errors import DataError, RecipeError
from polytask.study.arm import FoldData
from polytask.study.networks import best_epochs, curves_of, train
from polytask.training.run import Fitted

__all__ = ["DEFAULT_MEASURE", "Served", "affinity_of", "described", "whole_number", "why_not_measure"]

DEFAULT_MEASURE = "gradient_cosine"
_READINGS = 2


def affinity_of(fold: FoldData, measure: str) -> Found:
    """What a measure finds on the fold's training (and validation) rows.

    Two readings, each of half of the rows; one of all rows where groups cannot be halved. An arm is left out of a fold
    for that, so it happens only in the last training, on all rows, which is not to end a study that is done.
    """
    one = registry.create(measure)
    readings = 1 if why_not_measure(fold, measure) else _READINGS
    on = grounds(fold.prepared, fold.plan, readings, fold.seed, one.halves, groups=fold.terms.groups)
    return read_all({measure: one}, on, fold.seed)[measure]


def why_not_measure(fold: FoldData, measure: str) -> str:
    """Why the training rows cannot be read in two halves, such as groups that are too few; empty if they can."""
    if fold.terms.groups is None or not registry.create(measure).halves:
        return ""
    try:
        half(fold.prepared, fold.seed, 0, fold.terms.groups)
    except DataError as error:
        return f"it measures affinity on the training rows of a fold, and that fails: {error}"
    return ""


def described(
    measure: str, found: Found, names: Sequence[str], groups: Sequence[Sequence[str]], serves: Any
) -> dict[str, Any]:
    """The finding as the study's record keeps it."""
    return {
        "measure": measure,
        "words": found.words,
        "directed": found.directed,
        "tasks": list(names),
        "values": [list(row) for row in found.values],
        "structure": found.structure.words,
        "groups": [list(group) for group in groups],
        "serves": [list(served) for served in serves],
    }


class Served:
    """Networks of groups, each of which answers part of the tasks that it has learned.

    Args:
        fold: The rows.
        settled: What earlier folds settled.
    """

    def __init__(self, fold: FoldData, settled: Mapping[str, float] | None):
        self.fold, self._settled = fold, settled or {}
        self.models: list[Network] = []
        self.curves: dict[str, Any] = {}
        self.settled: dict[str, float] = {}
        self.notes: list[str] = []

    def train(self, group: Sequence[str], serves: Sequence[str], stop_rule: str | None = None) -> None:
        """Train the network of a group; epochs are settled by the tasks it serves."""
        mine = self.fold.only(group)
        plan = mine.plan if len(group) > 1 else mine.plan.alone()
        if stop_rule is not None:
            plan = replace(plan, settings=replace(plan.settings, stop_rule=stop_rule))
        known = [self._settled[f"epochs {task}"] for task in serves if f"epochs {task}" in self._settled]
        title = f"{', '.join(serves[:3])}{' ...' if len(serves) > 3 else ''} in a group of {len(group)}"
        fitted: Fitted = train(mine, plan, title, sum(known) / len(known) if known else None)
        for network in fitted.bundle.networks:
            if served := tuple(task for task in network.tasks if task in serves):
                self.models.append(replace(network, serves=served))
        self.curves |= curves_of(fitted.history, list(serves))
        self.settled |= {f"epochs {task}": best_epochs(fitted) for task in serves}
        self.notes += fitted.notes


def whole_number(name: str, text: str | None) -> int | None:
    """What stands after ``@`` as a number of at least one.

    Raises:
        RecipeError: If it is none.
    """
    if text is None:
        return None
    if not text.isdigit() or int(text) < 1:
        raise RecipeError(f"{name!r}: what follows @ must be a whole number of at least 1, got {text!r}.")
    return int(text)
