"""Records: what a run found, as plain data that any page or program can read."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from polytask.errors import DataError

__all__ = [
    "ArmResult",
    "ConstraintResult",
    "ExtensionRecord",
    "Interval",
    "Recommendation",
    "RunRecord",
    "SequenceResult",
    "StageRecord",
    "StudyFold",
    "StudyRecord",
    "StudyTask",
    "TaskResult",
    "Verdict",
    "load_form",
    "read_form",
    "without_nan",
]

SCHEMA = 1

Form = TypeVar("Form")

_WORDS = {"study": "a study"}


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
        if data.get("schema", 0) > SCHEMA:
            raise DataError(
                f"This record has schema {data['schema']}, this polytask reads up to {SCHEMA}: upgrade polytask."
            )
        tasks = {name: TaskResult(**result) for name, result in data["tasks"].items()}
        found = data.get("sequence")
        sequence = None if found is None else _read(SequenceResult, found)
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
        """Read a ``record.json``."""
        return cls.from_json(json.loads(Path(path).read_text(encoding="utf-8")))


@dataclass(frozen=True)
class StudyTask:
    """A task of a study, and the labels there are.

    Args:
        kind: The task's kind.
        metric: Name of its first metric.
        higher_is_better: That metric's direction.
        n_labels: Rows with an observed label.
        n_rows: Rows of the data.
        levels: Names of the classes; empty for numbers.
        note: How the kind was chosen, if it was inferred.
    """

    kind: str
    metric: str
    higher_is_better: bool
    n_labels: int
    n_rows: int
    levels: tuple[Any, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class StudyFold:
    """One division of the rows; every arm was trained and tested on it.

    Args:
        repeat: Which repetition of the folds, from 0.
        fold: Which fold of the repetition, from 0.
        seed: Seed of all the trainings on it.
        n_train: Training rows.
        n_validation: Rows for early stopping, tuning and choosing.
        n_test: Test rows.
        absent: Tasks without enough labels on this fold, and why.
    """

    repeat: int
    fold: int
    seed: int
    n_train: int
    n_validation: int
    n_test: int
    absent: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval; ``None`` where it is not defined.

    Args:
        mean: The estimate.
        low: Lower end.
        high: Upper end.
    """

    mean: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class ArmResult:
    """How one way of learning the tasks did.

    Args:
        role: ``joint``, ``single``, ``pooled``, ``linear``, ``forest`` or ``outsider``.
        words: What it is, in a sentence.
        errors: Per task, the relative error on each fold (0 is perfect, 1 is the best constant); ``None`` where the
            task is absent.
        error: Per task, the mean relative error.
        metrics: Per task and metric, the mean over the folds.
        mean_rank: Rank among the arms (1 is best), a mean over tasks.
        gain: Relative gain over the single models, a mean over tasks, in percent; ``None`` without single models.
        seconds: Time of a training on one fold, a mean.
        predict_seconds: Time to predict 1,000 rows for all tasks, a mean.
        parameters: Numbers that it learned, a mean.
        notes: What else to know.
    """

    role: str
    words: str
    errors: Mapping[str, tuple[float | None, ...]]
    error: Mapping[str, Interval]
    metrics: Mapping[str, Mapping[str, Interval]]
    mean_rank: float | None
    gain: float | None
    seconds: float
    predict_seconds: float
    parameters: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """Whether learning a task jointly was better than learning it alone, with the same network and budget.

    Args:
        verdict: ``helped``, ``hurt`` or ``no evidence``.
        gain: Relative gain of the joint model over the single one, in percent of the single one's error.
        interval: 95 % interval of the gain, not corrected for the number of tasks.
        p: Of the corrected resampled t test, two-sided.
        p_corrected: The same after Holm's correction for the number of tasks.
        n_pairs: Folds (and seeds) on which both were tested.
        joint: Name of the joint arm.
        single: Name of the single arm.
        recommendation: The arm that should serve this task.
        words: The verdict in a sentence.
    """

    verdict: str
    gain: float | None
    interval: tuple[float | None, float | None]
    p: float | None
    p_corrected: float | None
    n_pairs: int
    joint: str
    single: str
    recommendation: str
    words: str


@dataclass(frozen=True)
class Recommendation:
    """Which arm should serve which task, and what that choice is worth.

    Args:
        arms: The arm of each task.
        words: The whole in a few sentences.
        errors: Per task, the relative error on each fold when the choice is made inside the fold, from its validation
            rows alone.
        error: Per task, the mean.
        mean_rank: Rank if it were one more arm.
        gain: Relative gain over the single models, in percent.
        chosen: Per task, how often each arm was chosen inside the folds.
        best_outsider: The outsider with the smallest mean error over the tasks.
    """

    arms: Mapping[str, str]
    words: str
    errors: Mapping[str, tuple[float | None, ...]]
    error: Mapping[str, Interval]
    mean_rank: float | None
    gain: float | None
    chosen: Mapping[str, Mapping[str, int]]
    best_outsider: str | None = None


@dataclass(frozen=True)
class StudyRecord:
    """What a study was and what it found: enough to draw its page.

    Args:
        tasks: The tasks.
        folds: The folds, in the order of every list of errors.
        arms: The arms, in the order in which they were run.
        verdicts: A verdict for each task; empty if joint or single models were left out.
        recommendation: Which arm for which task.
        left_out: Arms that were not run to the end, or folds that were not run, and why.
        warnings: Signs of leaks and the like, worst first: ``{"kind", "severity", "task", "columns", "words"}``.
        curves: Per arm and task, losses ``{"epoch", "train", "validation"}`` of the first fold, as lists.
        weights: Per arm, ``{"epoch": [...], "tasks": {task: [...]}}`` of the first fold: weights of the losses.
        conflict: Per arm, ``{"epoch": [...], "pairs": {"a | b": [...]}}``: cosines between the tasks' gradients.
        gates: Per arm and task, the share of each expert.
        affinity: Per arm that is made from it, what the tasks do for each other, and the groups (of the first fold).
        calibration: Per classification task, for each class ``{"class", "predicted", "observed", "count"}`` as lists:
            reliability of the recommended arm on test rows.
        residuals: Per regression task, ``{"predicted", "observed"}`` of at most 500 test rows, and
            ``"quantiles"`` of the residuals by probability.
        search: Per arm that searched: ``"where"`` in words, per fold how many trials and the best one, the space, and
            every trial of the first fold that was trained to its end: its configuration, errors, whether on the front.
        sharing_curves: Per arm that cross-validated its sharing ratio, for each fold ``{"ratio", "mean", "spread"}`` as
            lists, ``"chosen"``, and the number of inner ``"folds"``.
        coverage: ``{"tasks": [...], "share": [...], "together": [[...]]}``: share of rows with a label, and with both.
        formulas: How each number that needs it is defined.
        data: Path, rows, columns and hash of the data.
        settings: What was asked for: targets, arms, folds, seed, budget.
        environment: Versions and machine.
        engine: Where it was trained: ``{"name", "workers", "threads", "deaths"}``; the last names what was
            trained again because its worker died.
        seconds: Time of all the trainings, in sum over the workers.
        made: When, ISO 8601.
        schema: Version of this form.
    """

    tasks: Mapping[str, StudyTask]
    folds: tuple[StudyFold, ...]
    arms: Mapping[str, ArmResult]
    verdicts: Mapping[str, Verdict]
    recommendation: Recommendation
    left_out: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[Mapping[str, Any], ...] = ()
    curves: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    weights: Mapping[str, Any] = field(default_factory=dict)
    conflict: Mapping[str, Any] = field(default_factory=dict)
    gates: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    affinity: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    calibration: Mapping[str, Any] = field(default_factory=dict)
    residuals: Mapping[str, Any] = field(default_factory=dict)
    search: Mapping[str, Any] = field(default_factory=dict)
    sharing_curves: Mapping[str, Any] = field(default_factory=dict)
    coverage: Mapping[str, Any] = field(default_factory=dict)
    formulas: Mapping[str, str] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    engine: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    made: str = ""
    schema: int = SCHEMA

    def to_json(self) -> dict[str, Any]:
        """As JSON can hold it."""
        plain: dict[str, Any] = without_nan(asdict(self))
        return {"form": "study", **plain}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> StudyRecord:
        """Take back what :meth:`to_json` gave.

        Raises:
            DataError: If it is no study record, or one of a newer form.
        """
        return read_form(cls, data, "study")

    @classmethod
    def load(cls, path: str | Path) -> StudyRecord:
        """Read a ``study.json``, or that of a study folder.

        Raises:
            DataError: If there is none, or it cannot be read.
        """
        return load_form(cls, path, "study")


def read_form(kind: type[Form], data: Mapping[str, Any], form: str) -> Form:
    """A record from JSON.

    Args:
        kind: Its class.
        data: What its ``to_json`` gave.
        form: What it says of itself, which is also the verb that writes it.

    Raises:
        DataError: If it is of another form, or of a newer schema.
    """
    if data.get("form") != form:
        raise DataError(f"This is no record of {_WORDS.get(form, form)}; {_writes(form)}")
    if data["schema"] > SCHEMA:
        raise DataError(
            f"This record has schema {data['schema']}, this polytask reads up to {SCHEMA}: upgrade polytask."
        )
    read: Form = _read(kind, {key: value for key, value in data.items() if key != "form"})
    return read


def load_form(kind: type[Form], path: str | Path, form: str) -> Form:
    """A record from its file, or from that in a folder; see :func:`read_form`.

    Raises:
        DataError: If there is none, or it cannot be read.
    """
    file = Path(path)
    file = file / f"{form}.json" if file.is_dir() else file
    try:
        return read_form(kind, json.loads(file.read_text(encoding="utf-8")), form)
    except FileNotFoundError:
        raise DataError(f"{file} does not exist; {_writes(form)}") from None
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise DataError(f"{file} is damaged or no record of {_WORDS.get(form, form)}: {error}") from error


def _writes(form: str) -> str:
    return f"`polytask {form} --out RUN` writes RUN/{form}.json."


def _read(form: Any, value: Any) -> Any:
    """A value from JSON in the form that an annotation asks for."""
    if is_dataclass(form) and isinstance(form, type):
        hints = get_type_hints(form)
        return form(**{key: _read(hints[key], item) for key, item in value.items()})
    origin, inner = get_origin(form), get_args(form)
    if origin is tuple:
        return tuple(_read(inner[0], item) for item in value)
    if origin in (Union, UnionType):
        (chosen,) = {*inner} - {NoneType} if len(inner) == 2 and NoneType in inner else (Any,)
        return None if value is None else _read(chosen, value)
    if origin is Mapping:
        return {key: _read(inner[1], item) for key, item in value.items()}
    return value


def without_nan(value: Any) -> Any:
    """The same data with ``None`` for NaN and infinity, for which JSON has no form.

    Example:
        >>> without_nan({"a": [1.0, float("nan")], "b": ("x",)})
        {'a': [1.0, None], 'b': ['x']}
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return value
