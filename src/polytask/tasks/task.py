"""The task's contract: labels in, tensors to a loss, outputs back to the user's units."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch

from polytask.errors import RecipeError, TargetError
from polytask.shapes import Bool, Float, Inputs, Shaped, Tensor, labelled
from polytask.tasks.prediction import Column, Prediction

__all__ = ["Metric", "Prediction", "Task", "task_from_options"]

Learned = TypeVar("Learned")

_SURE = 1e-12
"""How near to 0 and 1 a probability may come before its logarithm is taken."""


@dataclass(frozen=True)
class Metric:
    """One number that says how good predictions are, and in which direction.

    Args:
        name: As it is printed: ``auroc``, ``mae``.
        higher_is_better: Its direction.
        baseline_free: False if its scale depends on the task's units, so that it is not compared between tasks.
    """

    name: str
    higher_is_better: bool
    baseline_free: bool = True


@dataclass(kw_only=True)
class Task(ABC):
    """One thing to predict: a name, the labels it learns from, a loss, metrics.

    The codec is fitted on training labels only (:meth:`fit`); what it learns ends in ``_`` and is what
    :meth:`state` stores. Missing labels are ``NaN``, ``None`` or ``pandas.NA`` in the user's data, and
    ``observed=False`` afterwards; they never reach :meth:`label_losses`' result, the gradient or a metric.

    Args:
        name: The task's name, unique in a run.
        target: Column that holds the labels (several for multilabel tasks); the task's name if empty.
        weight: Factor on the task's loss in the joint loss.
        source: Name of the data set that has the labels; ``None`` means every source that has the target.
        inputs: Names of the input columns that this task reads; ``None`` means all of them.
    """

    name: str
    target: str | tuple[str, ...] = ""
    weight: float = 1.0
    source: str | None = None
    inputs: tuple[str, ...] | None = None

    kind: ClassVar[str]
    decoding: ClassVar[str] = "as the task's kind says"
    """How outputs become answers, for programs without polytask: ``graph.json`` says it beside an exported graph.
    What it reads of :meth:`state` is named by its keys, as in ``state.scaler.scale``."""
    metrics: ClassVar[tuple[Metric, ...]]
    """The first is the one that early stopping and verdicts use."""
    has_probabilities: ClassVar[bool] = False
    is_number: ClassVar[bool] = False
    """Whether a label is a number, so that answers have residuals."""
    ranks_rows: ClassVar[bool] = False
    """Whether the output is one score, by which rows can be ranked."""
    settled: ClassVar[tuple[str, str]] = ("", "")
    """The option that names the classes, and the attribute that has them after :meth:`fit`."""
    has_mean: ClassVar[bool] = True
    """Whether the mean of several models' answers is an answer; not of tags, boxes, voices in any order."""
    of_inputs: ClassVar[bool] = False
    """Whether the targets are the inputs themselves, so that every row has them and no column names them."""
    of_elements: ClassVar[bool] = False
    """Whether each element of a row, such as a word, is answered: outputs ``[N, L, O]``. A label is a sequence of as
    many answers, or what all of them say together."""
    of_pixels: ClassVar[bool] = False
    """Whether these elements are the pixels of an image: outputs ``[N, H, W, O]``."""
    example_labels: ClassVar[Sequence[Any]] = (0, 1, 1, 0, 1, 0, 0, 1, 1, 1)
    """Labels that the kind takes, 8 rows or more and at least two different, on which its contract is checked."""
    link: ClassVar[str] = "identity"
    """What the outputs stand for, so that members of an ensemble can be averaged, see :mod:`polytask.tasks.members`."""

    def __post_init__(self) -> None:
        if not self.name:
            raise TargetError("A task needs a name, got an empty one.")
        if not (self.weight >= 0 and np.isfinite(self.weight)):
            raise TargetError(f"Task {self.name!r} needs a finite weight of at least 0, got {self.weight!r}.")
        # A recipe read from a file has lists where Python code has tuples.
        if not isinstance(self.target, str):
            self.target = tuple(self.target)
        if self.inputs is not None:
            self.inputs = tuple(self.inputs)
        if not self.target:
            self.target = self.name

    @property
    def targets(self) -> tuple[str, ...]:
        """The target columns, as a tuple whatever their number."""
        return (self.target,) if isinstance(self.target, str) else self.target

    @property
    def who(self) -> str:
        """The task as messages name it."""
        columns = "" if self.targets == (self.name,) else f" (column {', '.join(self.targets[:5])})"
        return f"Task {self.name!r}{columns}"

    def fitted(self, learned: Learned | None) -> Learned:
        """What :meth:`fit` learned, once it is sure that it did.

        Raises:
            TargetError: If the task is not fitted.
        """
        if learned is None:
            raise TargetError(f"{self.who} has no codec yet. Call fit(labels) or load_state(state) first.")
        return learned

    def probabilities_of(self, prediction: Prediction) -> Float[Tensor, "N K"]:
        """The probabilities of a prediction, kept off 0 and 1, in float64.

        Raises:
            TargetError: If it has none, or they are no probabilities.
        """
        found = prediction.probabilities
        if found is None:
            raise TargetError(f"{self.who} needs probabilities, got values only.")
        given = np.asarray(found, dtype=np.float64)
        if not ((given >= 0) & (given <= 1)).all():
            raise TargetError(f"{self.who} needs probabilities between 0 and 1.")
        return torch.from_numpy(np.clip(given, _SURE, 1 - _SURE))

    @abstractmethod
    def fit(self, labels: np.ndarray) -> None:
        """Learn the codec from training labels.

        Args:
            labels: ``[N]`` or ``[N, K]``, in the user's units, missing ones included.

        Raises:
            TargetError: If all labels are missing, there is only one class, or the labels are not of this kind.
        """

    @abstractmethod
    def encode(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Labels to ``(targets, observed)``; targets hold a harmless finite value where not observed.

        Raises:
            TargetError: If a label was never seen in training, or is not of this kind.
        """

    def is_known(self, labels: np.ndarray) -> np.ndarray:
        """Which of the labels :meth:`encode` takes or passes over as missing; ``[N]``.

        False for a class that training did not see, so that a caller may count it as not observed.
        """
        return np.ones(len(labels), dtype=bool)

    @property
    @abstractmethod
    def n_outputs(self) -> int:
        """Width of the head; known after :meth:`fit`."""

    @abstractmethod
    def label_losses(self, outputs: Float[Tensor, "*N O"], targets: Shaped[Tensor, "*N"]) -> Float[Tensor, "*N"]:
        """The loss of each label, with the shape of ``observed``; class weights and smoothing included.

        Called with observed rows only when :meth:`loss` calls it; finite for any finite outputs and any
        targets that :meth:`encode` returns, so that masked evaluation is safe too.
        """

    def loss(
        self, outputs: Float[Tensor, "B O"], targets: Shaped[Tensor, "B ..."], observed: Bool[Tensor, "B ..."]
    ) -> Float[Tensor, " N"]:
        """One value per observed label; an empty tensor, still attached to the graph, if there is none."""
        if observed.all():  # selecting copies and costs more than the loss itself
            return self.label_losses(outputs, targets).flatten()
        if observed.ndim > 1:
            rows = labelled(observed)
            return self.label_losses(outputs[rows], targets[rows])[observed[rows]]
        return self.label_losses(outputs[observed], targets[observed])

    @abstractmethod
    def decode(self, outputs: Float[Tensor, "N O"]) -> Prediction:
        """Outputs of the head to answers in the user's units."""

    @abstractmethod
    def outputs_from(self, prediction: Prediction) -> Float[Tensor, "N O"]:
        """Outputs that :meth:`decode` turns into this prediction, in float64.

        So an answer of any model, a forest's probabilities or a line's numbers, is scored as a head's outputs are.
        Probabilities count where the task has them, values elsewhere. Probabilities of 0 and 1 become 1e-12 from there.

        Raises:
            TargetError: If the prediction lacks what the task needs, or is outside its domain.
        """

    @abstractmethod
    def evaluate(
        self, outputs: Float[Tensor, "N O"], targets: Shaped[Tensor, "N ..."], observed: Bool[Tensor, "N ..."]
    ) -> dict[str, float]:
        """Every metric over the observed labels, in the user's units; NaN where a metric is not defined.

        Among them is ``relative_error``, which may be compared between tasks: the mean error (log loss,
        squared error, deviance, pinball loss) over that of the best constant of the training labels. NaN in an
        output of an observed row makes every metric NaN.
        """

    def initial_bias(self) -> Float[Tensor, " O"]:
        """Outputs that are right on average, for the head's bias; a head that starts there needs no warm-up."""
        return torch.zeros(self.n_outputs)

    def constant_outputs(self, targets: Shaped[Tensor, "N ..."]) -> Float[Tensor, "N ... O"]:
        """The initial bias as the outputs of these rows."""
        return self.initial_bias().expand(*(targets.shape if self.of_elements else targets.shape[:1]), -1)

    @property
    def map_extents(self) -> tuple[int, ...]:
        """Height and width of the images that training labels are for; empty but for kinds ``of_pixels``."""
        return ()

    def check_images(self, extents: tuple[int, ...]) -> None:
        """Raise if the labels are not for images of this height and width.

        Raises:
            TargetError: If so.
        """
        known = self.map_extents[:2]
        if known and known != tuple(extents):
            sizes = [" x ".join(map(str, size)) for size in (known, extents)]
            raise TargetError(
                f"{self.who} has labels for images of {sizes[0]} pixels, and the images have {sizes[1]}. Bring both to "
                "one size."
            )

    def moved(
        self, targets: Shaped[Tensor, "B ..."], observed: Bool[Tensor, "B ..."], motion: Float[Tensor, "B 2 3"]
    ) -> tuple[Shaped[Tensor, "B ..."], Bool[Tensor, "B ..."]]:
        """Targets and ``observed`` as they are once the images were moved; the same, but for kinds ``of_pixels``.

        Args:
            targets: As :meth:`encode` gave them.
            observed: As well.
            motion: From places of the new images to those of the old, see :class:`polytask.data.Batch`.

        Raises:
            RecipeError: If they cannot be moved.
        """
        if self.of_pixels or self.of_inputs:
            raise RecipeError(f"{self.who} cannot follow images that are moved or turned; leave that augmentation out.")
        return targets, observed

    def fit_inputs(self, inputs: Inputs) -> None:
        """Learn from the training inputs; only of kinds whose targets are the inputs (``of_inputs``)."""
        raise TargetError(f"{self.who} learns from labels, not from inputs.")

    def encode_inputs(self, inputs: Inputs) -> tuple[np.ndarray, np.ndarray]:
        """Targets and ``observed`` of rows of inputs; only of kinds whose targets are the inputs."""
        raise TargetError(f"{self.who} learns from labels, not from inputs.")

    def plain_columns(self) -> list[Column]:
        """The columns that models without tasks, such as forests, learn instead of the task; none where they cannot."""
        return []

    def answer_from(self, answers: Sequence[np.ndarray]) -> Prediction:
        """The answer by those for :meth:`plain_columns`: rates ``[N]`` or chances ``[N, K]``; others are outputs."""
        found = answers[0]
        return Prediction(np.maximum(found, 0.0)) if found.ndim == 1 else Prediction(found.argmax(1), found)

    def in_units(self, targets: Shaped[Tensor, " N"]) -> np.ndarray:
        """Targets of :meth:`encode` as the user has them; for kinds of one label a row."""
        return targets.double().numpy()

    def options(self) -> dict[str, Any]:
        """The constructor's arguments, as JSON can hold them."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.init}
        return {"kind": self.kind, **{k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}}

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """What :meth:`fit` learned, as JSON can hold it."""

    @abstractmethod
    def load_state(self, state: dict[str, Any]) -> None:
        """Take back what :meth:`state` gave."""


def task_from_options(options: dict[str, Any]) -> Task:
    """Make a task from what :meth:`Task.options` gave.

    Raises:
        UnknownNameError: If the kind is not known.
        RecipeError: If an option is not one of the kind's.
    """
    from polytask.tasks import registry

    options = dict(options)
    made: Task = registry.create(options.pop("kind"), **options)
    return made
