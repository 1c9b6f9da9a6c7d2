"""What was found out about the tasks' affinity, as plain data; no torch is loaded to read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from polytask.records import SCHEMA, load_form, read_form, without_nan

__all__ = ["AffinityRecord", "Arrangement", "Found", "Grouping", "Matrix", "Structure", "as_good_as", "how_verified"]

Matrix = tuple[tuple[float | None, ...], ...]
"""``[T, T]``; ``None`` where not known."""


@dataclass(frozen=True)
class Structure:
    """Whether pairs of tasks differ in more than chance.

    Args:
        is_found: Whether they do, at the level 0.05.
        p: Of a permutation test; ``None`` if there is too little to permute.
        agreement: Correlation of the pairs' values between independent readings.
        words: The finding in a sentence.
    """

    is_found: bool
    p: float | None
    agreement: float | None
    words: str


@dataclass(frozen=True)
class Found:
    """What one measure found.

    Args:
        words: What a value means.
        directed: Whether row i, column j may differ from row j, column i.
        has_zero: Whether zero separates help from harm.
        values: ``[T, T]``, mean over the seeds: row i, column j is what task i does for task j.
        spread: ``[T, T]``, standard deviation over the seeds.
        gains: ``[T, T]``, what grouping adds up.
        seeds: Number of seeds.
        cost: ``forward`` and ``backward`` passes over all training rows, ``trainings``, ``seconds``; of all seeds.
        structure: Whether there is any.
        notes: Why values are not known, and the like.
    """

    words: str
    directed: bool
    has_zero: bool
    values: Matrix
    spread: Matrix
    gains: Matrix
    seeds: int
    cost: Mapping[str, float]
    structure: Structure
    notes: tuple[str, ...] = ()

    @property
    def array(self) -> np.ndarray:
        """The values with NaN where not known."""
        return np.array([[np.nan if v is None else v for v in row] for row in self.values], dtype=float)


@dataclass(frozen=True)
class Arrangement:
    """Groups of tasks that are learned together, and which group serves which task.

    Args:
        groups: The tasks of each group.
        serves: For each group, the tasks that it answers; the others only help.
        predicted: Mean over the tasks of the gain that the affinity predicts, in the measure's units; 0 is alone.
        verified: Mean over tasks (and seeds) of the skill on test rows that no measure saw: the share of the constant
            prediction's loss that is taken away. ``None`` if not trained.
        skill: The same for each task.
        spread: Standard deviation of ``verified`` over the seeds.
        models: Networks to train and to run.
        cost: Cost by the budget's rule.
    """

    groups: tuple[tuple[str, ...], ...]
    serves: tuple[tuple[str, ...], ...]
    predicted: float | None
    verified: float | None = None
    skill: Mapping[str, float | None] = field(default_factory=dict)
    spread: float | None = None
    models: int = 0
    cost: float = 0.0


@dataclass(frozen=True)
class Grouping:
    """The best arrangement within a budget, beside controls.

    Args:
        measure: The measure it is made from.
        budget: ``models`` and ``cost``, as asked for.
        is_exact: Whether no arrangement of a better predicted score exists within the budget.
        chosen: The arrangement.
        controls: ``all together``, ``all alone``, ``random 1`` ...: groups of the same sizes at random.
        words: What came out, in sentences.
        notes: What a reader should know.
    """

    measure: str
    budget: Mapping[str, float | None]
    is_exact: bool
    chosen: Arrangement
    controls: Mapping[str, Arrangement]
    words: str
    notes: tuple[str, ...] = ()


def as_good_as(chosen: Arrangement, controls: Mapping[str, Arrangement]) -> str:
    """The best control, if it was verified to be no worse than the chosen groups; empty otherwise."""
    verified = {name: control.verified for name, control in controls.items() if control.verified is not None}
    if chosen.verified is None or not verified:
        return ""
    best = max(verified, key=lambda name: verified[name])
    return best if verified[best] >= chosen.verified else ""


def how_verified(chosen: Arrangement, controls: Mapping[str, Arrangement]) -> str:
    """How the chosen groups did beside the controls, in a sentence or two; empty if they were not verified."""
    if chosen.verified is None:
        return ""
    drawn = [c.verified for name, c in controls.items() if name.startswith("random") and c.verified is not None]
    beside = [f"{name} {c.verified:.3f}" for name, c in controls.items() if not name.startswith("random")]
    if drawn:
        beside.append(f"random groups {sum(drawn) / len(drawn):.3f}")
    text = f"Skill on test rows: these groups {chosen.verified:.3f}; {', '.join(beside)}."
    better = as_good_as(chosen, controls)
    return f"{text} The groups are no better than {better}." if better else text


@dataclass(frozen=True)
class AffinityRecord:
    """Which tasks belong together, as far as was found out.

    Args:
        tasks: Per task ``kind`` and ``n_labels`` (training rows).
        measures: What each measure found.
        harm: Pairs that hurt each other, in words, the worst first.
        grouping: Groups, if they were asked for.
        data: Per source, where it came from, its rows, its columns and a hash.
        settings: What was asked for.
        environment: Versions.
        seconds: Time of everything.
        made: When, ISO 8601.
        notes: What a reader should know.
        schema: Version of this form.
    """

    tasks: Mapping[str, Mapping[str, Any]]
    measures: Mapping[str, Found]
    harm: tuple[str, ...] = ()
    grouping: Grouping | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    made: str = ""
    notes: tuple[str, ...] = ()
    schema: int = SCHEMA

    def to_json(self) -> dict[str, Any]:
        """As JSON can hold it."""
        plain: dict[str, Any] = without_nan(asdict(self))
        return {"form": "affinity", **plain}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> AffinityRecord:
        """Take back what :meth:`to_json` gave.

        Raises:
            DataError: If it is no record of affinity, or one of a newer form.
        """
        return read_form(cls, data, "affinity")

    @classmethod
    def load(cls, path: str | Path) -> AffinityRecord:
        """Read an ``affinity.json``, or that of a folder.

        Raises:
            DataError: If there is none, or it cannot be read.
        """
        return load_form(cls, path, "affinity")
