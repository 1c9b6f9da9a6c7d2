"""Two classes, one logit."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch.nn import functional as F

from polytask.errors import TargetError
from polytask.shapes import Bool, Float, Shaped, Tensor
from polytask.tasks._class_weights import class_weights, restored_weights, stored_weights
from polytask.tasks._labels import Classes, Label, checked_smoothing, shown
from polytask.tasks._scoring import RELATIVE_ERROR, finite, full_precision, observed_rows, relative_error, undefined
from polytask.tasks.prediction import Column
from polytask.tasks.task import Metric, Prediction, Task

__all__ = ["Binary"]

_BINS = 15


@dataclass(kw_only=True)
class Binary(Task):
    r"""Predicts which of two classes a row has: bought or not, ill or well.

    With logit :math:`z`, label :math:`y \in \{0, 1\}`, smoothed label :math:`\tilde y = (1-\epsilon) y + \epsilon/2`
    and class weight :math:`w_y`, the loss of a label is

    .. math:: w_y \left[ -\tilde y \log \sigma(z) - (1 - \tilde y) \log \sigma(-z) \right].

    Args:
        positive: The class whose probability is meant by "the" probability, and that average precision and F1 are
            about; ``None`` for the second in sorted order (``True``, 1, ``"yes"``).
        class_weight: ``None``, ``"balanced"`` (each class weighs the same in total) or weights by class. Whatever is
            given is scaled so that the average observed training label weighs 1.
        label_smoothing: :math:`\epsilon` in [0, 1).
        name: See :class:`Task`, as for the other arguments.

    Shape:
        outputs ``[N, 1]``, targets ``[N]``, values ``[N]``, probabilities ``[N, 2]``.

    Raises:
        TargetError: If the labels are not of exactly two classes, or ``positive`` is none of them.

    Example:
        >>> task = Binary(name="ill")
        >>> task.fit(np.array(["no", "yes", None, "no"], dtype=object))
        >>> task.encode(np.array(["yes", None], dtype=object))
        (array([1., 0.], dtype=float32), array([ True, False]))
        >>> task.decode(torch.tensor([[2.0]])).values.tolist()
        ['yes']

    Note:
        With class weights the probabilities are those of a population in which the classes weigh so; log loss, Brier
        score and relative error, which are never weighted, then look worse than without.
        Area under the ROC curve, average precision, balanced accuracy and F1 are NaN if one class only is observed.
        The relative error is log loss over the log loss of the training shares. The calibration error is the mean
        distance between chance and share of events in 15 equal bins of the chance, weighted by their rows. It costs one
        output and one term of the loss for each row.

    References:
        Szegedy et al., Rethinking the Inception Architecture for Computer Vision, CVPR 2016, section 7 (smoothing).
        Guo et al., On Calibration of Modern Neural Networks, ICML 2017, equation 5 (calibration error).
    """

    positive: Label | None = None
    class_weight: str | dict[Label, float] | None = None
    label_smoothing: float = 0.0
    classes_: Classes | None = field(default=None, init=False, repr=False)
    class_weights_: tuple[float, ...] = field(default=(), init=False, repr=False)

    kind: ClassVar[str] = "binary"
    ranks_rows: ClassVar[bool] = True
    decoding: ClassVar[str] = "P(second class) = sigmoid(output)"
    link: ClassVar[str] = "logit"
    has_probabilities: ClassVar[bool] = True
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("auroc", higher_is_better=True),
        Metric("average_precision", higher_is_better=True),
        Metric("log_loss", higher_is_better=False),
        Metric("accuracy", higher_is_better=True),
        Metric("balanced_accuracy", higher_is_better=True),
        Metric("f1", higher_is_better=True),
        Metric("brier", higher_is_better=False),
        Metric("calibration_error", higher_is_better=False),
        RELATIVE_ERROR,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.label_smoothing = checked_smoothing(self.who, self.label_smoothing)
        self.class_weight = restored_weights(self.class_weight)

    def fit(self, labels: np.ndarray) -> None:
        """Learn the two classes, their shares and weights."""
        classes = Classes.learn(self.who, labels)
        if len(classes) != 2:
            raise TargetError(
                f"{self.who} is binary and needs two classes, got {len(classes)}: {shown(classes.names)}. "
                "Use kind 'multiclass' or 'regression'."
            )
        if self.positive is not None:
            if self.positive not in classes.names:
                raise TargetError(f"{self.who} has no class {self.positive!r}. Known: {shown(classes.names)}.")
            if classes.names[0] == self.positive:
                classes = Classes(classes.names[::-1], classes.counts[::-1])
        self.classes_ = classes
        self.class_weights_ = tuple(class_weights(self.who, classes, self.class_weight).tolist())

    def encode(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Labels to 0 and 1."""
        codes, observed = self.fitted(self.classes_).encode(self.who, labels)
        return codes.astype(np.float32), observed

    def is_known(self, labels: np.ndarray) -> np.ndarray:
        """Which labels are missing or of a class that training saw."""
        return self.fitted(self.classes_).is_known(self.who, labels)

    @property
    def n_outputs(self) -> int:
        """One logit."""
        return 1

    def label_losses(self, outputs: Float[Tensor, "*N 1"], targets: Shaped[Tensor, "*N"]) -> Float[Tensor, "*N"]:
        """Weighted, smoothed cross-entropy of each label."""
        z = full_precision(outputs).squeeze(-1)
        y = targets.to(z.dtype)
        smooth = y * (1 - self.label_smoothing) + self.label_smoothing / 2 if self.label_smoothing else y
        losses = F.binary_cross_entropy_with_logits(z, smooth, reduction="none")
        if self.class_weight is None:
            return losses
        negative, positive = self.class_weights_
        return losses * (negative + (positive - negative) * y)

    def decode(self, outputs: Float[Tensor, "N 1"]) -> Prediction:
        """The likelier class, and the probabilities of both."""
        classes = self.fitted(self.classes_)
        z = finite(self.name, outputs).squeeze(-1)
        probabilities = torch.stack([torch.sigmoid(-z), torch.sigmoid(z)], dim=-1)
        return Prediction(classes.decode((z > 0).long().numpy()), probabilities.numpy(), classes.names)

    def outputs_from(self, prediction: Prediction) -> Float[Tensor, "N 1"]:
        """Log-odds of the second class."""
        return torch.logit(self.probabilities_of(prediction)[:, 1:])

    def evaluate(
        self, outputs: Float[Tensor, "N 1"], targets: Shaped[Tensor, " N"], observed: Bool[Tensor, " N"]
    ) -> dict[str, float]:
        """Metrics over the observed labels; class weights and smoothing play no part."""
        seen = observed_rows(outputs, targets, observed)
        if seen is None:
            return undefined(self.metrics)
        from torchmetrics.functional import classification as tm

        z, y = seen[0].squeeze(-1), seen[1].long()
        probability, answer = torch.sigmoid(z), (z > 0).long()
        both = bool(y.any()) and not bool(y.all())
        errors = F.binary_cross_entropy_with_logits(z, y.double(), reduction="none")
        constant_logits = torch.full_like(z, self._log_odds())
        constant_errors = F.binary_cross_entropy_with_logits(constant_logits, y.double(), reduction="none")
        recall = tm.binary_recall(answer, y, validate_args=False)
        specificity = tm.binary_specificity(answer, y, validate_args=False)
        return {
            "auroc": tm.binary_auroc(z, y, validate_args=False).item() if both else math.nan,
            "average_precision": tm.binary_average_precision(z, y, validate_args=False).item() if both else math.nan,
            "log_loss": errors.mean().item(),
            "accuracy": (answer == y).double().mean().item(),
            "balanced_accuracy": (recall + specificity).item() / 2 if both else math.nan,
            "f1": tm.binary_f1_score(answer, y, validate_args=False).item() if both else math.nan,
            "brier": (probability - y).square().mean().item(),
            "calibration_error": tm.binary_calibration_error(probability, y, _BINS, "l1", validate_args=False).item(),
            "relative_error": relative_error(errors, constant_errors),
        }

    def initial_bias(self) -> Float[Tensor, " 1"]:
        """Log-odds of the (weighted) training shares."""
        negative, positive = self.class_weights_ if self.class_weights_ else (1.0, 1.0)
        shift = math.log(positive / negative) if positive > 0 and negative > 0 else 0.0
        return torch.tensor([self._log_odds() + shift])

    def plain_columns(self) -> list[Column]:
        """Two classes."""
        return [Column(self.name, 0, "classes", 2)]

    def in_units(self, targets: Shaped[Tensor, " N"]) -> np.ndarray:
        """Targets as the user has them."""
        return self.decode(targets.double()[:, None] * 2 - 1).values

    def state(self) -> dict[str, Any]:
        """Classes, counts and weights."""
        classes = self.fitted(self.classes_)
        return {
            "classes": list(classes.names),
            "counts": list(classes.counts),
            "class_weights": list(self.class_weights_),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Take back what :meth:`state` gave."""
        self.classes_ = Classes(tuple(state["classes"]), tuple(state["counts"]))
        self.class_weights_ = tuple(state["class_weights"])

    def options(self) -> dict[str, Any]:
        """The constructor's arguments; weights by class as pairs, so that JSON keeps the classes' types."""
        return super().options() | {"class_weight": stored_weights(self.class_weight)}

    def _log_odds(self) -> float:
        negative, positive = self.fitted(self.classes_).shares
        return math.log(positive / negative)
