"""One of K classes, K logits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch.nn import functional as F

from polytask.shapes import Bool, Float, Shaped, Tensor
from polytask.tasks._class_weights import class_weights, restored_weights, stored_weights
from polytask.tasks._labels import Classes, Label, checked_order, checked_smoothing
from polytask.tasks._scoring import (
    RELATIVE_ERROR,
    auroc_of_each,
    finite,
    full_precision,
    nanmean,
    observed_rows,
    relative_error,
    undefined,
    weight_of_each,
)
from polytask.tasks.prediction import Column
from polytask.tasks.task import Metric, Prediction, Task

__all__ = ["Multiclass"]


@dataclass(kw_only=True)
class Multiclass(Task):
    r"""Predicts which of several unordered classes a row has: a digit, a species, a letter.

    With log-probabilities :math:`\ell = \mathrm{logsoftmax}(z)`, class :math:`y` of :math:`K`, smoothing
    :math:`\epsilon` and class weight :math:`w_y`, the loss of a label is

    .. math:: w_y \left[ -(1 - \epsilon)\, \ell_y - \frac{\epsilon}{K} \sum_k \ell_k \right].

    Args:
        classes: The classes in the order of the outputs; empty to take those of the training labels, sorted. Classes
            that no training label has are allowed here, and only here.
        class_weight: ``None``, ``"balanced"`` (each class weighs the same in total) or weights by class. Whatever is
            given is scaled so that the average observed training label weighs 1.
        label_smoothing: :math:`\epsilon` in [0, 1).
        name: See :class:`Task`, as for the other arguments.

    Shape:
        outputs ``[N, K]``, targets ``[N]`` (int64), values ``[N]``, probabilities ``[N, K]``.

    Raises:
        TargetError: If all labels are missing, are of one class only, or one is not in ``classes``.

    Example:
        >>> task = Multiclass(name="species")
        >>> task.fit(np.array(["cat", "dog", "cow", "dog"]))
        >>> task.state()["classes"]
        ['cat', 'cow', 'dog']
        >>> task.decode(torch.tensor([[0.0, 1.0, 3.0]])).values.tolist()
        ['dog']

    Note:
        The weight is that of the label's own class also in the smoothed part; ``torch.nn.CrossEntropyLoss`` weighs
        each term of the sum by its own class, so that its average label does not weigh 1.
        ``auroc`` is the mean over the classes that are both present and absent in some observed row (one against
        the rest); it is NaN if there is no such class. The relative error is log loss over that of the training shares.
        Outputs, and the work of the loss, grow with the number of classes.

    References:
        Szegedy et al., Rethinking the Inception Architecture for Computer Vision, CVPR 2016, section 7 (smoothing).
    """

    classes: tuple[Label, ...] = ()
    class_weight: str | dict[Label, float] | None = None
    label_smoothing: float = 0.0
    classes_: Classes | None = field(default=None, init=False, repr=False)
    class_weights_: np.ndarray = field(default_factory=lambda: np.ones(0), init=False, repr=False, compare=False)

    kind: ClassVar[str] = "multiclass"
    settled: ClassVar[tuple[str, str]] = ("classes", "classes_")
    decoding: ClassVar[str] = "P(class k) = softmax(output)[k], classes in the order of state.classes"
    link: ClassVar[str] = "softmax"
    has_probabilities: ClassVar[bool] = True
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("accuracy", higher_is_better=True),
        Metric("log_loss", higher_is_better=False),
        Metric("macro_f1", higher_is_better=True),
        Metric("auroc", higher_is_better=True),
        RELATIVE_ERROR,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.classes = checked_order(self.who, "classes", self.classes)
        self.label_smoothing = checked_smoothing(self.who, self.label_smoothing)
        self.class_weight = restored_weights(self.class_weight)

    def fit(self, labels: np.ndarray) -> None:
        """Learn the classes, their shares and weights."""
        self.classes_ = Classes.learn(self.who, labels, self.classes)
        self.class_weights_ = class_weights(self.who, self.classes_, self.class_weight)

    def encode(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Labels to positions among the classes."""
        return self.fitted(self.classes_).encode(self.who, labels)

    def is_known(self, labels: np.ndarray) -> np.ndarray:
        """Which labels are missing or of a class that training saw; all if ``classes`` says which there are."""
        return super().is_known(labels) if self.classes else self.fitted(self.classes_).is_known(self.who, labels)

    @property
    def n_outputs(self) -> int:
        """One logit for each class."""
        return len(self.fitted(self.classes_))

    def label_losses(self, outputs: Float[Tensor, "*N K"], targets: Shaped[Tensor, "*N"]) -> Float[Tensor, "*N"]:
        """Weighted, smoothed cross-entropy of each label."""
        log_p = torch.log_softmax(full_precision(outputs), dim=-1)
        y = targets.long()
        losses = -log_p.gather(-1, y.unsqueeze(-1)).squeeze(-1)
        if self.label_smoothing:
            losses = (1 - self.label_smoothing) * losses - self.label_smoothing * log_p.mean(-1)
        if self.class_weight is None:
            return losses
        return losses * weight_of_each(self.class_weights_, y, losses)

    def decode(self, outputs: Float[Tensor, "N K"]) -> Prediction:
        """The likeliest class, and the probabilities of all."""
        classes = self.fitted(self.classes_)
        z = finite(self.name, outputs)
        return Prediction(classes.decode(z.argmax(-1).numpy()), torch.softmax(z, -1).numpy(), classes.names)

    def outputs_from(self, prediction: Prediction) -> Float[Tensor, "N K"]:
        """Logarithms of the probabilities."""
        return self.probabilities_of(prediction).log()

    def evaluate(
        self, outputs: Float[Tensor, "N K"], targets: Shaped[Tensor, " N"], observed: Bool[Tensor, " N"]
    ) -> dict[str, float]:
        """Metrics over the observed labels; class weights and smoothing play no part."""
        seen = observed_rows(outputs, targets, observed)
        if seen is None:
            return undefined(self.metrics)
        from torchmetrics.functional.classification import multiclass_f1_score

        z, y = seen[0], seen[1].long()
        n_classes = z.shape[1]
        answer = z.argmax(-1)
        errors = F.cross_entropy(z, y, reduction="none")
        log_shares = torch.from_numpy(np.log(self.fitted(self.classes_).shares))
        truth = F.one_hot(y, n_classes).bool()
        areas = auroc_of_each(torch.softmax(z, -1), truth, torch.ones_like(truth))
        return {
            "accuracy": (answer == y).double().mean().item(),
            "log_loss": errors.mean().item(),
            "macro_f1": multiclass_f1_score(answer, y, n_classes, average="macro", validate_args=False).item(),
            "auroc": nanmean(areas),
            "relative_error": relative_error(errors, -log_shares[y]),
        }

    def initial_bias(self) -> Float[Tensor, " K"]:
        """Logarithms of the (weighted) training shares."""
        shares = self.fitted(self.classes_).shares
        weighted = shares * np.where(self.class_weights_ > 0, self.class_weights_, 1.0)
        return torch.as_tensor(np.log(weighted / weighted.sum()), dtype=torch.get_default_dtype())

    def plain_columns(self) -> list[Column]:
        """The classes."""
        return [Column(self.name, 0, "classes", self.n_outputs)]

    def in_units(self, targets: Shaped[Tensor, " N"]) -> np.ndarray:
        """Targets as the user has them."""
        return self.decode(torch.nn.functional.one_hot(targets.long(), self.n_outputs).double()).values

    def state(self) -> dict[str, Any]:
        """Classes, counts and weights."""
        classes = self.fitted(self.classes_)
        return {
            "classes": list(classes.names),
            "counts": list(classes.counts),
            "class_weights": self.class_weights_.tolist(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Take back what :meth:`state` gave."""
        self.classes_ = Classes(tuple(state["classes"]), tuple(state["counts"]))
        self.class_weights_ = np.array(state["class_weights"], dtype=np.float64)

    def options(self) -> dict[str, Any]:
        """The constructor's arguments; weights by class as pairs, so that JSON keeps the classes' types."""
        return super().options() | {"class_weight": stored_weights(self.class_weight)}
