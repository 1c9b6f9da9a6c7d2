"""What a run found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from polytask.records.forms import SCHEMA, as_annotated, check_schema, read_file, without_nan

__all__ = ["ConstraintResult", "ExtensionRecord", "RunRecord", "SequenceResult", "StageRecord", "TaskResult"]


@dataclass(frozen=True)
class TaskResult:
    """How well one task was learned, on rows that no training saw.

    Args:
        kind: The task's kind.
        metric: Name of the metric that counts.
        higher_is_better: Its direction.
        metrics: Every metric by name; ``None`` where it is not defined.
        single: The same of a model of this task alone, with the same budget; ``None`` if none was trained.
        n_train: Observed training labels.
        n_test: Observed test labels.
        joint: Where the tasks were trained in stages: the same of a model that was trained on all of them at once.
    """

    kind: str
    metric: str
    higher_is_better: bool
    metrics: Mapping[str, float | None]
    single: Mapping[str, float | None] | None = None
    n_train: int = 0
    n_test: int = 0
    joint: Mapping[str, float | None] | None = None


@dataclass(frozen=True)
class StageRecord:
    """How every task stood after a stage.

    Args:
        name: The stage.
        tasks: The tasks that it trained.
        metrics: Every metric of every task on the held-out rows.
        epochs: Epochs trained.
        best_epoch: The epoch that was kept, counted from 0 in the stage.
        seconds: Time of the training.
    """

    name: str
    tasks: tuple[str, ...]
    metrics: Mapping[str, Mapping[str, float | None]]
    epochs: int = 0
    best_epoch: int | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class SequenceResult:
    """What learning in stages left and cost; higher is better for all but ``forgetting`` and ``intransigence``.

    Differences are of each task's first metric, signed so that a positive one means a better metric; ``None`` where
    one is not defined.

    Args:
        schedule: Name of the schedule.
        remedies: Names of the remedies against forgetting.
        before: Every metric of every task before the first stage.
        stages: The stages in order.
        backward: Per task, its metric after the last stage less that after the last stage that trained it.
        forward: Per task, its metric before the first stage that trained it less that before the first stage.
        forgetting: Per task, its best metric after any stage but the last, less that after the last.
        intransigence: Per task, the joint model's metric less that after the last stage that trained the task.
        means: Of the four over the tasks for which they are defined, if all tasks have the same metric.
    """

    schedule: str
    remedies: tuple[str, ...]
    before: Mapping[str, Mapping[str, float | None]]
    stages: tuple[StageRecord, ...]
    backward: Mapping[str, float | None] = field(default_factory=dict)
    forward: Mapping[str, float | None] = field(default_factory=dict)
    forgetting: Mapping[str, float | None] = field(default_factory=dict)
    intransigence: Mapping[str, float | None] = field(default_factory=dict)
    means: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class ConstraintResult:
    """What came of one constraint.

    Args:
        task: The task.
        metric: What was measured.
        bound: The number that it is bounded by.
        is_upper: Whether the value is to be at most the bound, not at least.
        rows: The rows that the epoch was chosen by: ``validation``, or ``training`` if there were none.
        value: The value on them; ``None`` where it is not defined.
        test: The value on test rows.
        error: Its standard error.
        multiplier: How hard the constraint pulled in the kept epoch, a mean over its steps; 0 if it was not active.
        is_kept: Whether it is kept on the rows that the epoch was chosen by, and not clearly broken on the test rows.
        words: The same in words.
        values: The value after each epoch, on the rows that the epoch was chosen by.
        multipliers: How hard the constraint pulled in each epoch.
    """

    task: str
    metric: str
    bound: float
    is_upper: bool
    rows: str
    value: float | None
    test: float | None
    error: float | None
    multiplier: float | None
    is_kept: bool
    words: str
    values: tuple[float | None, ...] = ()
    multipliers: tuple[float | None, ...] = ()

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ConstraintResult:
        """From the parsed JSON of :meth:`RunRecord.to_json`."""
        curves = {name: tuple(data.get(name, ())) for name in ("values", "multipliers")}
        return cls(**{**data, **curves})


@dataclass(frozen=True)
class ExtensionRecord:
    """How tasks were added to a trained model, and what that changed for the tasks that it had.

    Args:
        origin: The run that was extended.
        is_frozen: Whether the old network stayed as it was.
        rows_compared: Rows on which the old tasks' outputs before and after were compared.
        change: Per old task, the largest change of an output on them; 0 means that all bits are equal.
        before: Every metric of the old tasks on their kept rows, before; empty if not measured.
        after: The same afterwards.
        resemblance: Per new task, its resemblance to each old task, the closest first.
        start: Per new task, where its head started.
        starts: For each start that was tried, the validation loss of the new tasks at its start and at its end.
    """

    origin: str
    is_frozen: bool
    rows_compared: int = 0
    change: Mapping[str, float] = field(default_factory=dict)
    before: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    after: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    resemblance: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    start: Mapping[str, str] = field(default_factory=dict)
    starts: Mapping[str, Mapping[str, Mapping[str, float | None]]] = field(default_factory=dict)


@dataclass(frozen=True)
class RunRecord:
    """What a run was and what it found.

    Args:
        tasks: Result of each task.
        recipe: The recipe's plain data.
        recipe_hash: Its hash.
        data: Per source, where it came from, its rows, its columns and a hash.
        epochs: Epochs trained.
        best_epoch: The epoch whose parameters were kept, counted from 0.
        seconds: Time of the training.
        parameters: Counts ``shared``, ``private`` and ``heads``.
        sampling: An epoch in words.
        notes: What a reader should know: columns left out, labels dropped, fallbacks.
        environment: Versions.
        sequence: What the stages of the schedule left, if there were several.
        constraints: What came of each constraint, by name.
        extension: What was extended, if the tasks were added to a trained model.
        schema: Version of this form.
    """

    tasks: Mapping[str, TaskResult]
    recipe: Mapping[str, Any]
    recipe_hash: str
    data: Mapping[str, Mapping[str, Any]]
    epochs: int
    best_epoch: int | None
    seconds: float
    parameters: Mapping[str, int]
    sampling: str = ""
    notes: tuple[str, ...] = ()
    environment: Mapping[str, Any] = field(default_factory=dict)
    sequence: SequenceResult | None = None
    constraints: Mapping[str, ConstraintResult] = field(default_factory=dict)
    extension: ExtensionRecord | None = None
    schema: int = SCHEMA

    @property
    def how(self) -> str:
        """How the tasks were trained, in a word: ``joint``, ``added``, or the name of the schedule of their stages."""
        if self.extension is not None:
            return "added"
        return "joint" if self.sequence is None else self.sequence.schedule

    @property
    def broken(self) -> list[str]:
        """Names of the constraints that are not kept."""
        return [name for name, result in self.constraints.items() if not result.is_kept]

    def to_json(self) -> dict[str, Any]:
        """As JSON can hold it."""
        plain: dict[str, Any] = without_nan(asdict(self))
        return plain

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> RunRecord:
        """Take back what :meth:`to_json` gave.

        Raises:
            DataError: If the record is of a newer form.
        """
        check_schema(data.get("schema", 0))
        tasks = {name: TaskResult(**result) for name, result in data["tasks"].items()}
        found = data.get("sequence")
        sequence = None if found is None else as_annotated(SequenceResult, found)
        added = data.get("extension")
        read = {
            "tasks": tasks,
            "notes": tuple(data["notes"]),
            "sequence": sequence,
            "constraints": {
                name: ConstraintResult.from_json(result) for name, result in data.get("constraints", {}).items()
            },
            "extension": None if added is None else ExtensionRecord(**added),
        }
        return cls(**{**data, **read})

    @classmethod
    def load(cls, path: str | Path) -> RunRecord:
        """Read a ``record.json``.

        Raises:
            DataError: If there is none, it cannot be read, or it is of a newer form.
        """
        return read_file(path, cls.from_json, "run", "`polytask fit --out RUN` writes RUN/record.json.")
