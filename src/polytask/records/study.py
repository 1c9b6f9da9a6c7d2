"""What a study found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from polytask.records.forms import SCHEMA, load_form, read_form, without_nan

__all__ = ["ArmResult", "Interval", "Recommendation", "StudyFold", "StudyRecord", "StudyTask", "Verdict"]


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
        mean_rank: Its place among the arms: 1 plus the number of arms that are better, a mean over tasks.
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
