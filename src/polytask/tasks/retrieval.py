"""A place for each row such that rows of one class are near each other, for finding what is alike."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch.nn import functional as F

from polytask.errors import TargetError
from polytask.shapes import Bool, Float, Shaped, Tensor
from polytask.tasks._labels import Classes, Label, checked_order
from polytask.tasks._scoring import RELATIVE_ERROR, finite, full_precision, observed_rows, relative_error, undefined
from polytask.tasks.task import Metric, Prediction, Task

__all__ = ["Retrieval"]

_PIECE = 512
_STEPS = 300
"""Steps that move proxies apart."""
_FULL_STEPS = 300
"""Most classes that all steps are taken for; more have fewer, so that all of them cost no more than for these."""


@dataclass(kw_only=True)
class Retrieval(Task):
    r"""Learns an embedding: rows of one class get directions near each other, so that the nearest rows are alike.

    Each class has a fixed proxy :math:`p_k` of length 1, all as far from each other as they can be. With output
    :math:`z` of direction :math:`u = z / \lVert z \rVert` and temperature :math:`\tau`, the loss of a row of class
    :math:`k` is

    .. math:: -\log \frac{\exp(u^\top p_k / \tau)}{\sum_j \exp(u^\top p_j / \tau)} .

    Args:
        size: Numbers of the embedding.
        classes: The classes; empty to take those of the training labels, sorted.
        temperature: :math:`\tau`; low ones care only about the nearest other proxies.
        name: See :class:`Task`, as for the other arguments.

    Shape:
        labels and targets ``[N]``, outputs ``[N, size]``, values ``[N, size]`` of length 1

    Raises:
        TargetError: If all labels are missing or of one class, or an option is out of range.

    Example:
        >>> task = Retrieval(name="look", size=4)
        >>> task.fit(np.array(["cat", "dog", "cow", "dog"]))
        >>> answer = task.decode(torch.tensor([[3.0, 0.0, 4.0, 0.0]]))
        >>> answer.values.round(2).tolist()
        [[0.6, 0.0, 0.8, 0.0]]

    Note:
        Losses of pairs or triplets of a batch depend on who else is in it: a row without a label, an accumulated
        gradient or a second process would change them. Proxies say the same of each row alone; fixed ones, because any
        other would only turn the head. ``recall_at_1`` and ``recall_at_5`` are the shares of rows that have a row of
        their class among the 1 and 5 nearest others of the rows that are evaluated; one without another of its class is
        never found. Labels of classes that training did not see count as missing. The work of the loss grows with the
        size of the embedding times the number of classes.

    References:
        Movshovitz-Attias et al., "No Fuss Distance Metric Learning using Proxies", ICCV 2017, equation 4; Wang et al.,
        "NormFace: L2 Hypersphere Embedding for Face Verification", ACM MM 2017, equation 4 (the loss); Mettes, van der
        Pol and Snoek, "Hyperspherical Prototype Networks", NeurIPS 2019, section 2.1 (fixed proxies).
    """

    size: int = 16
    classes: tuple[Label, ...] = ()
    temperature: float = 0.1
    classes_: Classes | None = field(default=None, init=False, repr=False)
    proxies_: np.ndarray = field(default_factory=lambda: np.ones((0, 0)), init=False, repr=False, compare=False)
    bias_: tuple[float, ...] = field(default=(), init=False, repr=False)

    kind: ClassVar[str] = "retrieval"
    settled: ClassVar[tuple[str, str]] = ("classes", "classes_")
    decoding: ClassVar[str] = "embedding = output over its length"
    has_mean: ClassVar[bool] = False
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("recall_at_1", higher_is_better=True),
        Metric("recall_at_5", higher_is_better=True),
        RELATIVE_ERROR,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.classes = checked_order(self.who, "classes", self.classes)
        if self.size < 2:
            raise TargetError(f"{self.who} needs a size of at least 2, got {self.size!r}.")
        if not 0 < self.temperature < math.inf:
            raise TargetError(f"{self.who} needs a temperature above 0, got {self.temperature!r}.")

    def fit(self, labels: np.ndarray) -> None:
        """Learn the classes and the best constant."""
        self.classes_ = Classes.learn(self.who, labels, self.classes)
        self.proxies_ = proxies(len(self.classes_), self.size)
        self.bias_ = self._best_constant()

    def encode(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Labels to positions among the classes."""
        return self.fitted(self.classes_).encode(self.who, labels)

    def is_known(self, labels: np.ndarray) -> np.ndarray:
        """Which labels are missing or of a class that training saw; all if ``classes`` says which there are."""
        return super().is_known(labels) if self.classes else self.fitted(self.classes_).is_known(self.who, labels)

    @property
    def n_outputs(self) -> int:
        """The numbers of the embedding."""
        self.fitted(self.classes_)
        return self.size

    def label_losses(self, outputs: Float[Tensor, "*N E"], targets: Shaped[Tensor, "*N"]) -> Float[Tensor, "*N"]:
        """How much nearer other proxies are than that of the class."""
        return -self._log_shares(full_precision(outputs)).gather(-1, targets.long().unsqueeze(-1)).squeeze(-1)

    def decode(self, outputs: Float[Tensor, "N E"]) -> Prediction:
        """Embeddings of length 1."""
        return Prediction(F.normalize(finite(self.name, outputs), dim=-1).numpy(), None, tuple(range(self.size)))

    def outputs_from(self, prediction: Prediction) -> Float[Tensor, "N E"]:
        """The embeddings."""
        return torch.from_numpy(np.asarray(prediction.values, dtype=np.float64))

    def evaluate(
        self, outputs: Float[Tensor, "N E"], targets: Shaped[Tensor, " N"], observed: Bool[Tensor, " N"]
    ) -> dict[str, float]:
        """Metrics over the observed rows, each of which is looked for among the others."""
        seen = observed_rows(outputs, targets, observed)
        if seen is None:
            return undefined(self.metrics)
        z, y = seen[0], seen[1].long()
        one, five = _recalls(F.normalize(z, dim=-1), y, (1, 5))
        constant = self.initial_bias().double().expand_as(z)
        return {
            "recall_at_1": one,
            "recall_at_5": five,
            "relative_error": relative_error(self.label_losses(z, y), self.label_losses(constant, y)),
        }

    def initial_bias(self) -> Float[Tensor, " E"]:
        """The best constant direction."""
        return torch.tensor(self.fitted(self.bias_ or None))

    def state(self) -> dict[str, Any]:
        """Classes, counts and the best constant; the proxies too, unless they are the corners of a simplex."""
        classes = self.fitted(self.classes_)
        state = {"classes": list(classes.names), "counts": list(classes.counts), "bias": list(self.bias_)}
        return state if len(classes) <= self.size else {**state, "proxies": self.proxies_.tolist()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take back what :meth:`state` gave."""
        self.classes_ = Classes(tuple(state["classes"]), tuple(state["counts"]))
        if "proxies" in state:
            self.proxies_ = np.array(state["proxies"], dtype=np.float64)
        else:  # a simplex, or a state from before proxies were stored, when all steps were always taken
            self.proxies_ = proxies(len(self.classes_), self.size, _STEPS)
        self.bias_ = tuple(float(value) for value in state["bias"])

    def _log_shares(self, z: Float[Tensor, "*N E"]) -> Float[Tensor, "*N K"]:
        """Logarithms of each class's share of a row, by how near its proxy is."""
        known = torch.as_tensor(self.proxies_, dtype=z.dtype, device=z.device)
        return torch.log_softmax(F.normalize(z, dim=-1, eps=1e-6) @ known.T / self.temperature, -1)

    def _best_constant(self) -> tuple[float, ...]:
        from scipy.optimize import minimize

        shares = torch.from_numpy(self.fitted(self.classes_).shares)

        def cost(given: np.ndarray) -> tuple[float, np.ndarray]:
            z = torch.tensor(given, requires_grad=True)
            value = -(shares * self._log_shares(z)).sum()
            (gradient,) = torch.autograd.grad(value, z)
            return value.item(), gradient.numpy()

        # From a direction that no proxy is nearer to than another, if there is one, towards the frequent ones.
        start = np.ones(self.size) / self.size**0.5 + shares.numpy() @ self.proxies_
        found = minimize(cost, start, jac=True, method="BFGS", options={"gtol": 1e-9}).x
        return tuple((found / np.linalg.norm(found)).tolist())


def proxies(n_classes: int, size: int, n_steps: int | None = None) -> np.ndarray:
    """Directions ``[K, size]`` as far from each other as they can be: the corners of a simplex, if there is room.

    Else random ones are moved apart, in fewer steps for many classes: thousands stay as they were drawn.

    Args:
        n_classes: Their number.
        size: Numbers of each.
        n_steps: Steps that move them apart; by the number of classes if ``None``.

    Example:
        >>> (proxies(3, 4) @ proxies(3, 4).T).round(2).tolist()
        [[1.0, -0.5, -0.5], [-0.5, 1.0, -0.5], [-0.5, -0.5, 1.0]]
    """
    if n_classes <= size:
        corners = np.eye(n_classes, size)
        corners[:, :n_classes] -= 1 / n_classes
        return np.asarray(corners / np.linalg.norm(corners, axis=1, keepdims=True))
    places = torch.randn(n_classes, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    if n_steps is None:
        n_steps = min(_STEPS, _STEPS * _FULL_STEPS**2 // n_classes**2)
    for step in range(n_steps):
        places = F.normalize(places, dim=-1).requires_grad_()
        cosines = places @ places.T - 2 * torch.eye(n_classes, dtype=places.dtype)
        (gradient,) = torch.autograd.grad(torch.logsumexp(10 * cosines, -1).sum() / 10, places)
        places = (places - 0.1 * (1 - step / n_steps) * gradient).detach()
    return np.asarray(F.normalize(places, dim=-1).numpy())


def _recalls(places: Float[Tensor, "N E"], codes: Shaped[Tensor, " N"], ks: tuple[int, ...]) -> list[float]:
    """For each k, the share of rows with one of their class among the k nearest others."""
    if len(codes) < 2:
        return [math.nan] * len(ks)
    hits = torch.zeros(len(ks), dtype=torch.float64)
    for rows in torch.arange(len(codes)).split(_PIECE):
        nearness = places[rows] @ places.T
        nearness[torch.arange(len(rows)), rows] = -math.inf
        nearest = nearness.topk(min(max(ks), len(places) - 1), dim=1).indices
        same = codes[nearest] == codes[rows, None]
        hits += torch.stack([same[:, :k].any(1).double().sum() for k in ks])
    return [float(value) for value in hits / len(codes)]
