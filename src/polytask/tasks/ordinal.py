"""One of K ordered levels, K - 1 logits."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch.nn import functional as F

from polytask.errors import TargetError
from polytask.shapes import Bool, Float, Shaped, Tensor
from polytask.tasks._class_weights import class_weights, restored_weights, stored_weights
from polytask.tasks._labels import Classes, Label, checked_order, distinct
from polytask.tasks._scoring import (
    RELATIVE_ERROR,
    finite,
    full_precision,
    observed_rows,
    relative_error,
    undefined,
    weight_of_each,
)
from polytask.tasks.prediction import Column
from polytask.tasks.task import Metric, Prediction, Task

__all__ = ["Ordinal"]


@dataclass(kw_only=True)
class Ordinal(Task):
    r"""Predicts which of several ordered levels a row has: a grade, a stage, a number of stars.

    Logit :math:`k` is about the step beyond level :math:`k` for rows that reached it (CORN),

    .. math:: \sigma(z_k) = P(y > k \mid y \ge k), \qquad P(y > k) = \prod_{j \le k} \sigma(z_j),

    so that the cumulative probabilities fall with :math:`k` whatever the outputs are. The loss of a label
    is :math:`w_y` times the binary cross-entropies of the steps it took part in, which is its negative log-likelihood:

    .. math:: -w_y \Big[ \sum_{k < y} \log \sigma(z_k) + [y < K - 1] \log \sigma(-z_y) \Big].

    Args:
        order: The levels from lowest to highest. May be left out for numbers and booleans, which are then sorted;
            needed for text, whose alphabetical order would mean nothing.
        class_weight: ``None``, ``"balanced"`` (each level weighs the same in total) or weights by level. Whatever is
            given is scaled so that the average observed training label weighs 1.
        name: See :class:`Task`, as for the other arguments.

    Shape:
        outputs ``[N, K - 1]``, targets ``[N]`` (int64 ranks), values ``[N]``, probabilities ``[N, K]``.

    Raises:
        TargetError: If all labels are missing, are of one level only, one is not in ``order``, or they are text and
            there is no ``order``.

    Example:
        >>> task = Ordinal(name="grade", order=("low", "mid", "high"))
        >>> task.fit(np.array(["mid", "low", "high", None], dtype=object))
        >>> answer = task.decode(torch.tensor([[2.0, 2.0]]))
        >>> answer.values.tolist(), answer.probabilities.round(2).tolist()
        (['high'], [[0.12, 0.1, 0.78]])

    Note:
        The paper divides the sum of a batch's cross-entropies by their number, which is not the number of labels; here
        each label has its own loss, so that the joint loss can average over labels as it does for every kind. The
        answer is the median level, the first k for which ``P(y > k)`` is at most one half, as in the paper. ``mae`` and
        ``quadratic_kappa`` are about ranks 0 to K - 1. The relative error is log loss over that of the training shares.
        Outputs, and the work of the loss, grow with the number of levels.

    References:
        Shi, Cao & Raschka, Deep Neural Networks for Rank-Consistent Ordinal Regression Based On Conditional
        Probabilities, 2021, arXiv:2111.08851, equations 3 to 6.
    """

    order: tuple[Label, ...] = ()
    class_weight: str | dict[Label, float] | None = None
    classes_: Classes | None = field(default=None, init=False, repr=False)
    class_weights_: np.ndarray = field(default_factory=lambda: np.ones(0), init=False, repr=False, compare=False)

    kind: ClassVar[str] = "ordinal"
    settled: ClassVar[tuple[str, str]] = ("order", "classes_")
    decoding: ClassVar[str] = "P(beyond level k | at least k) = sigmoid(output[k]); the answer is the median level"
    link: ClassVar[str] = "steps"
    has_probabilities: ClassVar[bool] = True
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("mae", higher_is_better=False, baseline_free=False),
        Metric("quadratic_kappa", higher_is_better=True),
        Metric("accuracy", higher_is_better=True),
        Metric("log_loss", higher_is_better=False),
        RELATIVE_ERROR,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.order = checked_order(self.who, "levels in order", self.order)
        self.class_weight = restored_weights(self.class_weight)

    def fit(self, labels: np.ndarray) -> None:
        """Learn the levels, their shares and weights."""
        if not self.order:
            text = [value for value in distinct(self.who, labels)[1] if isinstance(value, str)]
            if text:
                raise TargetError(
                    f"{self.who} is ordinal with text labels such as {text[0]!r}; their order cannot be guessed. "
                    "Give order=(lowest, ..., highest); on the command line "
                    f"--set {shlex.quote(f'tasks.{self.name}.order=[lowest,...,highest]')}."
                )
        self.classes_ = Classes.learn(self.who, labels, self.order)
        self.class_weights_ = class_weights(self.who, self.classes_, self.class_weight)

    def encode(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Labels to ranks."""
        return self.fitted(self.classes_).encode(self.who, labels)

    def is_known(self, labels: np.ndarray) -> np.ndarray:
        """Which labels are missing or of a class that training saw; all if ``order`` says which there are."""
        return super().is_known(labels) if self.order else self.fitted(self.classes_).is_known(self.who, labels)

    @property
    def n_outputs(self) -> int:
        """One logit for each step between neighbouring levels."""
        return len(self.fitted(self.classes_)) - 1

    def label_losses(self, outputs: Float[Tensor, "*N O"], targets: Shaped[Tensor, "*N"]) -> Float[Tensor, "*N"]:
        """Weighted negative log-likelihood of each label."""
        z, y = full_precision(outputs), targets.long()
        losses = _negative_log_likelihood(z, y)
        if self.class_weight is None:
            return losses
        return losses * weight_of_each(self.class_weights_, y, losses)

    def decode(self, outputs: Float[Tensor, "N O"]) -> Prediction:
        """The median level, and the probabilities of all."""
        classes = self.fitted(self.classes_)
        z = finite(self.name, outputs)
        beyond = F.logsigmoid(z).cumsum(-1)
        before = F.pad(beyond, (1, 0))
        # log P(y = k) = log P(y > k - 1) + log P(y = k | y >= k); the last level has no further step.
        log_p = before + F.pad(F.logsigmoid(-z), (0, 1))
        return Prediction(classes.decode(_median_rank(z).numpy()), log_p.exp().numpy(), classes.names)

    def outputs_from(self, prediction: Prediction) -> Float[Tensor, "N O"]:
        """Log-odds of each step beyond a level, among the rows that reach it."""
        probabilities = self.probabilities_of(prediction)
        beyond = probabilities.flip(-1).cumsum(-1).flip(-1)[:, 1:]
        return beyond.log() - probabilities[:, :-1].log()

    def evaluate(
        self, outputs: Float[Tensor, "N O"], targets: Shaped[Tensor, " N"], observed: Bool[Tensor, " N"]
    ) -> dict[str, float]:
        """Metrics over the observed labels; class weights play no part."""
        seen = observed_rows(outputs, targets, observed)
        if seen is None:
            return undefined(self.metrics)
        from torchmetrics.functional.classification import multiclass_cohen_kappa

        z, y = seen[0], seen[1].long()
        answer = _median_rank(z)
        errors = _negative_log_likelihood(z, y)
        log_shares = torch.from_numpy(np.log(self.fitted(self.classes_).shares))
        kappa = multiclass_cohen_kappa(answer, y, z.shape[1] + 1, weights="quadratic", validate_args=False)
        return {
            "mae": (answer - y).abs().double().mean().item(),
            "quadratic_kappa": kappa.item(),
            "accuracy": (answer == y).double().mean().item(),
            "log_loss": errors.mean().item(),
            "relative_error": relative_error(errors, -log_shares[y]),
        }

    def initial_bias(self) -> Float[Tensor, " O"]:
        """Log-odds of each step in the (weighted) training shares."""
        shares = self.fitted(self.classes_).shares * np.where(self.class_weights_ > 0, self.class_weights_, 1.0)
        beyond = shares[::-1].cumsum()[::-1][1:]
        return torch.as_tensor(np.log(beyond / shares[:-1]), dtype=torch.get_default_dtype())

    def plain_columns(self) -> list[Column]:
        """The levels, as classes."""
        return [Column(self.name, 0, "classes", self.n_outputs + 1)]

    def state(self) -> dict[str, Any]:
        """Levels, counts and weights."""
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
        """The constructor's arguments; weights by level as pairs, so that JSON keeps the levels' types."""
        return super().options() | {"class_weight": stored_weights(self.class_weight)}


def _negative_log_likelihood(z: Float[Tensor, "*N O"], ranks: Shaped[Tensor, "*N"]) -> Float[Tensor, "*N"]:
    steps = torch.arange(z.shape[-1], device=z.device)
    rank = ranks.unsqueeze(-1)
    entropies = F.binary_cross_entropy_with_logits(z, (rank > steps).to(z.dtype), reduction="none")
    return (entropies * (rank >= steps)).sum(-1)


def _median_rank(z: Float[Tensor, "N O"]) -> Shaped[Tensor, " N"]:
    return (torch.sigmoid(z).cumprod(-1) > 0.5).sum(-1)
