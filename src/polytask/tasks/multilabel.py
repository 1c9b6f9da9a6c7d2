"""K yes-or-no labels of one row, K logits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch.nn import functional as F

from polytask.errors import TargetError
from polytask.shapes import Bool, Float, Shaped, Tensor
from polytask.tasks._labels import checked_smoothing, distinct
from polytask.tasks._scoring import (
    RELATIVE_ERROR,
    auroc_of_each,
    finite,
    full_precision,
    nanmean,
    observed_rows,
    relative_error,
    undefined,
)
from polytask.tasks.prediction import Column
from polytask.tasks.task import Metric, Prediction, Task

__all__ = ["Multilabel"]


@dataclass(kw_only=True)
class Multilabel(Task):
    r"""Predicts which of several labels a row has, any number of them: tags of a text, defects of a part.

    Each label is a binary problem with a logit of its own; any of a row's labels may be missing without the others.
    With logit :math:`z_k`, label :math:`y_k`, smoothed label :math:`\tilde y_k = (1-\epsilon) y_k + \epsilon/2` and
    weight :math:`w_{k,y}`, the loss of one label of one row is

    .. math:: w_{k, y_k} \left[ -\tilde y_k \log \sigma(z_k) - (1 - \tilde y_k) \log \sigma(-z_k) \right].

    Args:
        class_weight: ``None``, or ``"balanced"``: for each label its presence and its absence weigh the same in total,
            scaled so that its average observed training value weighs 1.
        label_smoothing: :math:`\epsilon` in [0, 1).
        name: See :class:`Task`, as for the other arguments; ``target`` names the columns.

    Shape:
        outputs ``[N, K]``, targets and observed ``[N, K]``, values ``[N, K]`` (0 and 1, or booleans if the training
        labels were), probabilities ``[N, K]`` (of the label being there).

    Raises:
        TargetError: If a value is not 0, 1, true or false, all are missing, or no label is both there and absent.

    Example:
        >>> task = Multilabel(name="tags", target=("red", "round"))
        >>> task.fit(np.array([[1, 0], [0, np.nan], [0, 1]]))
        >>> task.encode(np.array([[np.nan, 1]]))[1].tolist()
        [[False, True]]
        >>> task.decode(torch.tensor([[-1.0, 2.0]])).values.tolist()
        [[0, 1]]

    Note:
        A label that training shows only there, only absent or never is kept, so that rare labels survive a split; its
        share is smoothed by adding one. ``auroc``, ``average_precision`` and ``macro_f1`` are means over the
        labels of which both values are observed; ``labels_scored`` says how many those are. The means are NaN if there
        are none. ``log_loss`` and ``accuracy`` are over all observed values. The relative error is log loss over that
        of each label's training share. Outputs, and the work of the loss, grow with the number of labels.
    """

    class_weight: str | None = None
    label_smoothing: float = 0.0
    counts_: np.ndarray | None = field(default=None, init=False, repr=False, compare=False)
    is_boolean_: bool = field(default=False, init=False, repr=False)

    kind: ClassVar[str] = "multilabel"
    decoding: ClassVar[str] = "P(label k) = sigmoid(output[k])"
    link: ClassVar[str] = "logit"
    has_probabilities: ClassVar[bool] = True
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("auroc", higher_is_better=True),
        Metric("average_precision", higher_is_better=True),
        Metric("macro_f1", higher_is_better=True),
        Metric("labels_scored", higher_is_better=True),
        Metric("log_loss", higher_is_better=False),
        Metric("accuracy", higher_is_better=True),
        RELATIVE_ERROR,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.label_smoothing = checked_smoothing(self.who, self.label_smoothing)
        if self.class_weight not in (None, "balanced"):
            raise TargetError(f"{self.who} needs class_weight None or 'balanced', got {self.class_weight!r}.")

    def fit(self, labels: np.ndarray) -> None:
        """Count, for each label, how often it is absent and how often there."""
        present, observed = self._read(labels, n_labels=None)
        counts = np.stack([(observed & ~present).sum(0), (observed & present).sum(0)], axis=1)
        if not counts.any():
            raise TargetError(
                f"{self.who} has no label to learn from: all of its {len(present)} rows are missing. Leave the task "
                "out, or give it labels."
            )
        if not counts.all(1).any():
            raise TargetError(
                f"{self.who} needs a label with two different values to learn from, got one class only in each of its "
                f"{len(counts)} labels. Leave the task out, or give it more rows."
            )
        self.counts_ = counts
        values = np.asarray(labels)
        self.is_boolean_ = values.dtype == bool or (
            values.dtype == object and all(isinstance(v, bool | np.bool_) for v in values[observed])
        )

    def encode(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Labels to 0 and 1."""
        present, observed = self._read(labels, n_labels=self.n_outputs)
        return (present & observed).astype(np.float32), observed

    @property
    def n_outputs(self) -> int:
        """One logit for each label."""
        return len(self.fitted(self.counts_))

    @property
    def labels(self) -> tuple[Any, ...]:
        """Names of the labels: the target columns, or 0 to K - 1 if one array holds them all."""
        return self.targets if len(self.targets) == self.n_outputs else tuple(range(self.n_outputs))

    def label_losses(self, outputs: Float[Tensor, "*N K"], targets: Shaped[Tensor, "*N K"]) -> Float[Tensor, "*N K"]:
        """Weighted, smoothed cross-entropy of each label."""
        z = full_precision(outputs)
        y = targets.to(z.dtype)
        smooth = y * (1 - self.label_smoothing) + self.label_smoothing / 2 if self.label_smoothing else y
        losses = F.binary_cross_entropy_with_logits(z, smooth, reduction="none")
        if self.class_weight is None:
            return losses
        weights = torch.as_tensor(self._weights(), dtype=losses.dtype, device=losses.device)
        return losses * torch.lerp(weights[:, 0].expand_as(y), weights[:, 1].expand_as(y), y)

    def decode(self, outputs: Float[Tensor, "N K"]) -> Prediction:
        """Which labels are likelier there than not, and with what probability."""
        z = finite(self.name, outputs)
        values = (z > 0).numpy().astype(bool if self.is_boolean_ else np.int64)
        return Prediction(values, torch.sigmoid(z).numpy(), self.labels)

    def outputs_from(self, prediction: Prediction) -> Float[Tensor, "N K"]:
        """Log-odds of each label."""
        return torch.logit(self.probabilities_of(prediction))

    def evaluate(
        self, outputs: Float[Tensor, "N K"], targets: Shaped[Tensor, "N K"], observed: Bool[Tensor, "N K"]
    ) -> dict[str, float]:
        """Metrics over the observed labels; weights and smoothing play no part."""
        seen = observed_rows(outputs, targets, observed)
        if seen is None:
            return undefined(self.metrics)
        z, y, mask = seen[0], seen[1] > 0.5, seen[2]
        errors = F.binary_cross_entropy_with_logits(z, y.double(), reduction="none")
        log_odds = torch.from_numpy(self._log_odds()).expand_as(z)
        constant = F.binary_cross_entropy_with_logits(log_odds, y.double(), reduction="none")
        areas = auroc_of_each(z, y, mask)
        precisions, f1 = _precision_and_f1(z, y, mask)
        return {
            "auroc": nanmean(areas),
            "average_precision": nanmean(precisions),
            "macro_f1": nanmean(f1),
            "labels_scored": float((~np.isnan(areas)).sum()),
            "log_loss": errors[mask].mean().item(),
            "accuracy": ((z > 0) == y)[mask].double().mean().item(),
            "relative_error": relative_error(errors[mask], constant[mask]),
        }

    def initial_bias(self) -> Float[Tensor, " K"]:
        """Log-odds of the (weighted) training shares."""
        weights = self._weights()
        shifted = self._log_odds() + np.log(weights[:, 1] / weights[:, 0])
        return torch.as_tensor(shifted, dtype=torch.get_default_dtype())

    def plain_columns(self) -> list[Column]:
        """Each label, there or not."""
        return [Column(self.name, k, "classes", 2) for k in range(self.n_outputs)]

    def answer_from(self, answers: Sequence[np.ndarray]) -> Prediction:
        """The chance that each label is there."""
        probabilities = np.column_stack([answer[:, 1] for answer in answers])
        return Prediction(probabilities > 0.5, probabilities)

    def state(self) -> dict[str, Any]:
        """Counts of each label."""
        return {"counts": self.fitted(self.counts_).tolist(), "is_boolean": self.is_boolean_}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take back what :meth:`state` gave."""
        self.counts_ = np.array(state["counts"], dtype=np.int64)
        self.is_boolean_ = bool(state["is_boolean"])

    def _read(self, labels: np.ndarray, n_labels: int | None) -> tuple[np.ndarray, np.ndarray]:
        table = np.asarray(labels)
        table = table[:, None] if table.ndim == 1 else table
        wanted = n_labels if n_labels is not None else len(self.targets)
        is_free = n_labels is None and len(self.targets) == 1
        if table.ndim != 2 or (table.shape[1] != wanted and not is_free):
            raise TargetError(f"{self.who} needs labels of shape [N, {wanted}], got {table.shape}.")
        names = self.targets if len(self.targets) == table.shape[1] else range(table.shape[1])

        def where(position: int) -> str:
            row, k = divmod(position, table.shape[1])
            return f"row {row}, label {names[k]!r}"

        codes, values = distinct(self.who, table.ravel(), where)
        for code, value in enumerate(values):
            if value not in (0, 1):
                place = where(int(np.flatnonzero(codes == code)[0]))
                raise TargetError(
                    f"{self.who} needs 0, 1, true or false as labels, got {value!r} in {place}. "
                    "Use a binary task for each column of other classes."
                )
        present = np.array([value == 1 for value in values] + [False])[codes]
        return present.reshape(table.shape), (codes >= 0).reshape(table.shape)

    def _smoothed(self) -> np.ndarray:
        counts = self.fitted(self.counts_)
        return counts + np.where(counts.all(1, keepdims=True), 0.0, 1.0)

    def _log_odds(self) -> np.ndarray:
        counts = self._smoothed()
        return np.asarray(np.log(counts[:, 1] / counts[:, 0]))

    def _weights(self) -> np.ndarray:
        counts = self.fitted(self.counts_)
        if self.class_weight is None:
            return np.ones(counts.shape)
        total = counts.sum(1, keepdims=True)
        # A label with one value only has nothing to balance.
        return np.where(counts.all(1, keepdims=True), total / (2.0 * np.maximum(counts, 1)), 1.0)


def _precision_and_f1(
    z: Float[Tensor, "N K"], y: Bool[Tensor, "N K"], observed: Bool[Tensor, "N K"]
) -> tuple[np.ndarray, np.ndarray]:
    from torchmetrics.functional.classification import binary_average_precision, binary_f1_score

    found = np.full((2, z.shape[1]), np.nan)
    for k in range(z.shape[1]):
        rows = observed[:, k]
        scores, truth = z[rows, k], y[rows, k].long()
        if truth.any() and not truth.all():
            found[0, k] = binary_average_precision(scores, truth, validate_args=False).item()
            found[1, k] = binary_f1_score((scores > 0).long(), truth, validate_args=False).item()
    return found[0], found[1]
