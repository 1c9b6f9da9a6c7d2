"""The time until something happens, some of it known only to be longer than what was watched."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch.nn import functional as F

from polytask.errors import TargetError
from polytask.shapes import Bool, Float, Shaped, Tensor
from polytask.tasks._labels import different, numbers
from polytask.tasks._scoring import RELATIVE_ERROR, finite, full_precision, observed_rows, relative_error, undefined
from polytask.tasks._survival import concordance, integrated_brier
from polytask.tasks.task import Metric, Prediction, Task

__all__ = ["Survival"]


@dataclass(kw_only=True)
class Survival(Task):
    r"""Predicts how long until something happens, when for some rows it has not happened yet: relapse, churn, failure.

    Time is cut at K edges, quantiles of the times of events. Logit :math:`k` is about lasting beyond edge :math:`k` for
    rows that lasted until interval :math:`k`,

    .. math:: \sigma(z_k) = P(T > e_k \mid T > e_{k-1}), \qquad S(e_k) = P(T > e_k) = \prod_{j \le k} \sigma(z_j),

    so one minus it is the discrete-time hazard. The loss of a row is the negative log-likelihood of what is known: the
    intervals that it lasted, and, if the event came, the interval in which it came. A row that was watched until the
    middle of an interval or longer counts as having lasted it.

    Args:
        target: Two columns, the time and whether the event came (1) or the row was only watched so long (0); one column
            of times if it always came.
        n_intervals: Most intervals; the last one is open.
        name: See :class:`Task`, as for the other arguments.

    Shape:
        labels ``[N, 2]`` or ``[N]``, outputs ``[N, K]``, targets ``[N]``, values ``[N]`` (expected time within the last
        edge), probabilities ``[N, K]`` (chances to last beyond each edge).

    Raises:
        TargetError: If a time is negative or no number, an event is neither 0 nor 1, no event is known, or all times
            are missing or equal.

    Example:
        >>> task = Survival(name="relapse", target=("months", "relapsed"), n_intervals=2)
        >>> task.fit(np.array([[2, 1], [4, 1], [6, 1], [8, 0], [9, 1], [np.nan, 1]]))
        >>> answer = task.decode(torch.zeros(1, task.n_outputs))
        >>> answer.labels, answer.probabilities.tolist(), answer.values.tolist()
        (('beyond 4',), [[0.5]], [3.0])

    Note:
        A target holds time and event as one number: its sign says whether the event came. ``concordance`` is Harrell's
        C of the expected number of intervals lasted; ``brier`` is integrated and weighted for censoring, as estimated
        on the evaluated rows. The relative error is the negative log-likelihood over that of the training hazards, the
        same for all rows. Plain models of a study do not serve this kind. Outputs, and the work of the loss, grow with
        the number of edges.

    References:
        Gensheimer and Narasimhan, A Scalable Discrete-Time Survival Model for Neural Networks, PeerJ 2019, equations 2
        to 4 and the rule for censored rows. Singer and Willett, It's about Time, 1993.
    """

    n_intervals: int = 20
    edges_: tuple[float, ...] = field(default=(), init=False, repr=False)
    constants_: tuple[float, ...] = field(default=(), init=False, repr=False)

    kind: ClassVar[str] = "survival"
    is_number: ClassVar[bool] = True
    decoding: ClassVar[str] = (
        "P(lasts beyond state.edges[k]) = the product of sigmoid(output[j]) for j up to k; the answer is the "
        "expected time within the last edge, the area under these chances with straight lines between edges, 1 at 0"
    )
    link: ClassVar[str] = "steps"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("concordance", higher_is_better=True),
        Metric("brier", higher_is_better=False),
        RELATIVE_ERROR,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.targets) > 2:
            raise TargetError(f"{self.who} needs two columns, a time and whether the event came, got {self.target!r}.")
        if self.n_intervals < 2:
            raise TargetError(f"{self.who} needs at least 2 intervals, got {self.n_intervals!r}.")

    def fit(self, labels: np.ndarray) -> None:
        """Learn the edges, and the chance to last each interval."""
        times, events, observed = self._read(labels)
        times, events = times[observed], events[observed]
        different(self.who, times, len(observed))
        if not events.any():
            raise TargetError(
                f"{self.who} needs a row whose event came, and all {len(times)} training rows were only watched. "
                "Leave the task out, or give it rows with events."
            )
        ended = times[events]
        shares = np.linspace(0, 1, self.n_intervals + 1)[1:-1]
        edges = np.unique(np.quantile(ended, shares, method="inverted_cdf"))
        # Somebody must last beyond the last edge, or that would be certain never to happen.
        edges = edges[edges < ended.max()] if (edges < ended.max()).any() else edges[:1]
        self.edges_ = tuple(edges.tolist())
        lasted, came = self._known(torch.from_numpy(_signed(times, events)))
        # A half where an interval saw nobody last or nobody end, which equal times can bring about.
        stay, end = (part.double().sum(0).clamp_min(0.5) for part in (lasted, came))
        self.constants_ = tuple((stay / end).log().tolist())

    def encode(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """One plus the time, negative where the row was only watched."""
        self._fitted()
        times, events, observed = self._read(labels)
        return np.where(observed, _signed(times, events), 1.0).astype(np.float32), observed

    @property
    def n_outputs(self) -> int:
        """One logit for each edge."""
        return len(self._fitted())

    def label_losses(self, outputs: Float[Tensor, "*N K"], targets: Shaped[Tensor, "*N"]) -> Float[Tensor, "*N"]:
        """Negative log-likelihood of what is known of each row."""
        z = full_precision(outputs)
        lasted, came = self._known(targets)
        zero = torch.zeros((), dtype=z.dtype, device=z.device)
        return (torch.where(lasted, F.softplus(-z), zero) + torch.where(came, F.softplus(z), zero)).sum(-1)

    def decode(self, outputs: Float[Tensor, "N K"]) -> Prediction:
        """Expected time within the last edge, and the chances to last beyond each edge."""
        beyond = F.logsigmoid(finite(self.name, outputs)).cumsum(-1).exp().numpy()
        edges = np.array(self._fitted())
        widths = np.diff(np.concatenate([[0.0], edges]))
        middle = (np.concatenate([np.ones((len(beyond), 1)), beyond[:, :-1]], axis=1) + beyond) / 2
        return Prediction(middle @ widths, beyond, tuple(f"beyond {edge:g}" for edge in edges))

    def outputs_from(self, prediction: Prediction) -> Float[Tensor, "N K"]:
        """Logits of the chances to last each interval."""
        beyond = self.probabilities_of(prediction)
        share = (beyond / F.pad(beyond[:, :-1], (1, 0), value=1.0)).clamp(1e-12, 1 - 1e-12)
        return torch.logit(share)

    def evaluate(
        self, outputs: Float[Tensor, "N K"], targets: Shaped[Tensor, " N"], observed: Bool[Tensor, " N"]
    ) -> dict[str, float]:
        """Metrics over the observed labels."""
        seen = observed_rows(outputs, targets, observed)
        if seen is None:
            return undefined(self.metrics)
        z, signed = seen[0], seen[1].double()
        beyond = F.logsigmoid(z).cumsum(-1).exp()
        times, events = (signed.abs() - 1).numpy(), (signed > 0).numpy()
        # The edges as targets have them, so that a time at an edge is on the same side of it as in the loss.
        edges = (self._edges(torch.float32).double() - 1).numpy()
        constant = self.initial_bias().double().expand_as(z)
        return {
            "concordance": concordance(times, events, beyond.sum(-1).numpy()),
            "brier": integrated_brier(times, events, beyond.numpy(), edges),
            "relative_error": relative_error(self.label_losses(z, seen[1]), self.label_losses(constant, seen[1])),
        }

    def initial_bias(self) -> Float[Tensor, " K"]:
        """Logits of the training rows' chances to last each interval."""
        self._fitted()
        return torch.tensor(self.constants_)

    def state(self) -> dict[str, Any]:
        """Edges and training chances."""
        return {"edges": list(self._fitted()), "constants": list(self.constants_)}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take back what :meth:`state` gave."""
        self.edges_ = tuple(float(edge) for edge in state["edges"])
        self.constants_ = tuple(float(value) for value in state["constants"])

    def _fitted(self) -> tuple[float, ...]:
        return self.fitted(self.edges_ or None)

    def _edges(self, dtype: torch.dtype, device: Any = None) -> Float[Tensor, " K"]:
        """Edges as targets have times: one more, in their precision."""
        return (1 + torch.tensor(self.edges_, dtype=torch.float64)).to(dtype).to(device)

    def _known(self, targets: Shaped[Tensor, "*N"]) -> tuple[Bool[Tensor, "*N K"], Bool[Tensor, "*N K"]]:
        """Which intervals each row is known to have lasted, and in which one the event came."""
        edges = self._edges(targets.dtype, targets.device)
        before = torch.cat([edges.new_ones(1), edges[:-1]])
        time, came = targets.abs().unsqueeze(-1), (targets > 0).unsqueeze(-1)
        lasted = torch.where(came, time > edges, time >= (before + edges) / 2)
        first = torch.cat([edges.new_zeros(1), edges[:-1]])
        return lasted, came & (time <= edges) & (time > first)

    def _read(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Times, events, and which rows have both."""
        table = np.asarray(labels)
        if table.ndim == 1 or table.shape[1] == 1:
            times, observed = numbers(self.who, table)
            events = np.ones(len(times))
        elif table.ndim == 2 and table.shape[1] == 2:
            times, seen = numbers(self.who, table[:, 0])
            events, known = numbers(f"{self.who}, second column,", table[:, 1])
            observed = seen & known
        else:
            raise TargetError(f"{self.who} needs a time and whether the event came, got shape {table.shape}.")
        for bad, what in ((times < 0, "times of at least 0"), ((events != 0) & (events != 1), "events 0 or 1")):
            if (bad & observed).any():
                row = int(np.flatnonzero(bad & observed)[0])
                got = times[row] if "times" in what else events[row]
                raise TargetError(f"{self.who} needs {what}, got {got:g} in row {row}.")
        return times, np.where(observed, events, 0.0) > 0, observed


def _signed(times: np.ndarray, events: np.ndarray) -> np.ndarray:
    return np.where(events, 1 + times, -1 - times)
