"""The inputs themselves as targets: an autoencoder beside the supervised tasks."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch.nn import functional as F

from polytask.errors import TargetError
from polytask.shapes import Bool, Float, Inputs, Shaped, Tensor
from polytask.tasks._labels import numbers
from polytask.tasks._scoring import RELATIVE_ERROR, finite, full_precision, observed_rows, undefined
from polytask.tasks.task import Metric, Prediction, Task

__all__ = ["Reconstruction"]

_WAYS = ("swap", "zero", "noise")


@dataclass(kw_only=True)
class Reconstruction(Task):
    r"""Rebuilds a row's inputs from a spoiled copy, so that the representation also learns from rows without labels.

    In training the network reads the row with a part of its values swapped with those of other rows, set to zero, or
    noisy; the targets are the values as they were. With number :math:`x_j` of training mean :math:`\mu_j` and deviation
    :math:`\sigma_j`, and code :math:`c_j` of training shares :math:`p_j` with entropy :math:`H(p_j)`, the losses of a
    row are

    .. math:: \left(z_j - \frac{x_j - \mu_j}{\sigma_j}\right)^2 \quad\text{and}\quad
              \frac{-\log \mathrm{softmax}(z_j)_{c_j}}{H(p_j)} ,

    each 1 on average for the best constant.

    Args:
        corruption: ``swap`` (values of other rows of the batch; codes too), ``zero`` (numbers only) or ``noise``
            (Gaussian, numbers only).
        share: Share of the values that are swapped or zeroed, or the noise's deviation in that of the values as the
            network reads them.
        hidden: Widths of the decoder's hidden layers.
        name: See :class:`Task`, as for the other arguments.

    Shape:
        outputs ``[N, O]`` (one for each number, then one for each code of each column), targets and observed
        ``[N, K]``, values ``[N, K]`` in the units in which the network reads its inputs.

    Raises:
        TargetError: If there is no such corruption, the share is out of range, or no input varies.

    Example:
        >>> task = Reconstruction(name="inputs", share=0.3)
        >>> task.fit_inputs({"numeric": torch.tensor([[1.0], [3.0]]), "categorical": torch.tensor([[2], [0]])})
        >>> row = {"numeric": torch.tensor([[3.0]]), "categorical": torch.tensor([[1]])}
        >>> targets, observed = task.encode_inputs(row)
        >>> targets.tolist(), observed.tolist(), task.n_outputs
        ([[1.0, 0.0]], [[True, False]], 4)

    Note:
        All values count, spoiled or not. A code that training never shows has no target; neither has an input that
        does not vary. In prediction the network reads the row as it is. Outputs grow with the numbers and with the
        codes of all categories, so that a category of many codes makes a large head.

    References:
        Vincent et al., Extracting and Composing Robust Features with Denoising Autoencoders, ICML 2008, section 2.3;
        Yoon et al., VIME: Extending the Success of Self- and Semi-supervised Learning to Tabular Domain, NeurIPS 2020,
        section 4.1 (swapping).
    """

    corruption: str = "swap"
    share: float = 0.3
    hidden: tuple[int, ...] = (128,)
    n_codes_: int = field(default=0, init=False, repr=False)
    means_: np.ndarray | None = field(default=None, init=False, repr=False, compare=False)
    scales_: np.ndarray | None = field(default=None, init=False, repr=False, compare=False)
    shares_: list[np.ndarray] = field(default_factory=list, init=False, repr=False, compare=False)

    kind: ClassVar[str] = "reconstruction"
    decoding: ClassVar[str] = "numbers in the units of the inputs, and logits of codes"
    of_inputs: ClassVar[bool] = True
    metrics: ClassVar[tuple[Metric, ...]] = (
        RELATIVE_ERROR,
        Metric("mse", higher_is_better=False),
        Metric("accuracy", higher_is_better=True),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.hidden = tuple(self.hidden)
        if self.corruption not in _WAYS:
            raise TargetError(f"{self.who} needs a corruption out of {', '.join(_WAYS)}, got {self.corruption!r}.")
        if not (self.share >= 0 and (self.share <= 1 or self.corruption == "noise")):
            raise TargetError(f"{self.who} needs a share between 0 and 1, got {self.share!r}.")

    def fit_inputs(self, inputs: Inputs) -> None:
        """Learn from the training inputs, as the network reads them."""
        rows, self.n_codes_ = _rows_of(inputs)
        self.fit(rows)

    def encode_inputs(self, inputs: Inputs) -> tuple[np.ndarray, np.ndarray]:
        """Targets and ``observed`` of rows of inputs.

        Raises:
            TargetError: If the inputs have other columns than in training.
        """
        rows, n_codes = _rows_of(inputs)
        if n_codes != self.n_codes_:
            raise TargetError(f"{self.who} was fitted on {self.n_codes_} columns of codes, got {n_codes}.")
        return self.encode(rows)

    def fit(self, labels: np.ndarray) -> None:
        """Learn means, scales and shares from rows of inputs: numbers first, the ``n_codes_`` columns of codes last."""
        values, observed = self._read(labels)
        if not observed.any():
            raise TargetError(f"{self.who} has no label to learn from: all of its {len(values)} rows are missing.")
        n_numbers = values.shape[1] - self.n_codes_
        seen = np.where(observed, values, np.nan)
        means, scales = np.zeros(n_numbers), np.zeros(n_numbers)
        for j in range(n_numbers):
            if observed[:, j].any():
                means[j], scales[j] = np.nanmean(seen[:, j]), np.nanstd(seen[:, j])
        # A deviation that is rounding only is none.
        scales[scales <= 1e-7 * np.abs(means)] = 0.0
        self.means_, self.scales_ = means, scales
        counts = [np.bincount(seen[observed[:, j], j].astype(np.int64)) for j in range(n_numbers, values.shape[1])]
        self.shares_ = [c / max(c.sum(), 1) for c in counts]
        if not self._varies().any():
            raise TargetError(
                f"{self.who} needs at least two different values of some input to learn from, got one only."
            )

    def encode(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Numbers to standard units; codes as they are."""
        values, observed = self._read(labels)
        means, scales = self.fitted(self.means_), self.fitted(self.scales_)
        if values.shape[1] != len(means) + self.n_codes_:
            raise TargetError(
                f"{self.who} was fitted on rows of {len(means) + self.n_codes_} values, got {values.shape[1]}."
            )
        observed = observed & self._varies()
        for j, shares in enumerate(self.shares_, start=len(means)):
            codes = np.where(observed[:, j], values[:, j], 0).astype(np.int64)
            known = codes < len(shares)
            observed[:, j] &= known & (shares[np.where(known, codes, 0)] > 0)
        values[:, : len(means)] = (values[:, : len(means)] - means) / np.where(scales > 0, scales, 1)
        return np.where(observed, values, 0).astype(np.float32), observed

    @property
    def n_outputs(self) -> int:
        """One for each number, one for each code of each column."""
        return len(self.fitted(self.means_)) + sum(map(len, self.shares_))

    def label_losses(self, outputs: Float[Tensor, "*N O"], targets: Shaped[Tensor, "*N K"]) -> Float[Tensor, "*N K"]:
        """Squares in standard units, and log losses over the entropy of the training shares."""
        z = full_precision(outputs)
        n = len(self.fitted(self.means_))
        losses = [(z[..., :n] - targets[..., :n].to(z.dtype)).square()]
        for j, (logits, shares) in enumerate(zip(self._logits(z), self.shares_, strict=True), start=n):
            codes = targets[..., j].long()
            picked = F.log_softmax(logits, -1).gather(-1, codes.unsqueeze(-1))
            losses.append(-picked / max(_entropy(shares), 1e-12))
        return torch.cat(losses, -1)

    def decode(self, outputs: Float[Tensor, "N O"]) -> Prediction:
        """Numbers and likeliest codes, in the units in which the network reads them."""
        z = finite(self.name, outputs)
        means, scales = self.fitted(self.means_), self.fitted(self.scales_)
        numbers_ = z[:, : len(means)].numpy() * scales + means
        codes = [logits.argmax(-1).double().numpy()[:, None] for logits in self._logits(z)]
        values = np.concatenate([numbers_, *codes], axis=1)
        return Prediction(values, None, tuple(range(values.shape[1])))

    def outputs_from(self, prediction: Prediction) -> Float[Tensor, "N O"]:
        """Standard units; for codes, logits that leave no doubt."""
        values = np.asarray(prediction.values, dtype=np.float64)
        means, scales = self.fitted(self.means_), self.fitted(self.scales_)
        parts = [torch.from_numpy((values[:, : len(means)] - means) / np.where(scales > 0, scales, 1))]
        for j, shares in enumerate(self.shares_, start=len(means)):
            parts.append(20.0 * F.one_hot(torch.from_numpy(values[:, j]).long(), len(shares)).double())
        return torch.cat(parts, 1)

    def evaluate(
        self, outputs: Float[Tensor, "N O"], targets: Shaped[Tensor, "N K"], observed: Bool[Tensor, "N K"]
    ) -> dict[str, float]:
        """Mean error over that of the best constants, that of the numbers alone, and the share of right codes."""
        seen = observed_rows(outputs, targets, observed)
        if seen is None:
            return undefined(self.metrics)
        z, y, mask = seen
        n = len(self.fitted(self.means_))
        errors = self.label_losses(z, y)
        constant = self.label_losses(self.initial_bias().double().expand_as(z), y)[mask].mean().item()
        right = torch.stack([*(logits.argmax(-1) == y[:, j] for j, logits in enumerate(self._logits(z), start=n)),
                             *([] if self.n_codes_ else [torch.zeros(len(z), dtype=torch.bool)])], 1)  # fmt: skip
        coded = mask[:, n:]
        squares = errors[:, :n][mask[:, :n]]
        return {
            "relative_error": errors[mask].mean().item() / constant if constant > 0 else math.nan,
            "mse": squares.mean().item() if len(squares) else math.nan,
            "accuracy": right[coded].double().mean().item() if self.n_codes_ and bool(coded.any()) else math.nan,
        }

    def initial_bias(self) -> Float[Tensor, " O"]:
        """Zeros for numbers, log shares for codes."""
        parts = [np.zeros(len(self.fitted(self.means_)))]
        # A code that was never seen starts as if seen in a hundredth of the rows of the rarest.
        parts += [np.log(np.maximum(shares, 1e-2 * shares[shares > 0].min())) for shares in self.shares_]
        return torch.from_numpy(np.concatenate(parts)).float()

    def state(self) -> dict[str, Any]:
        """Means, scales and shares."""
        return {
            "means": self.fitted(self.means_).tolist(),
            "scales": self.fitted(self.scales_).tolist(),
            "shares": [shares.tolist() for shares in self.shares_],
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Take back what :meth:`state` gave."""
        self.means_, self.scales_ = np.array(state["means"]), np.array(state["scales"])
        self.shares_ = [np.array(shares) for shares in state["shares"]]
        self.n_codes_ = len(self.shares_)

    def _read(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        table = np.asarray(labels)
        table = table[:, None] if table.ndim == 1 else table
        if table.ndim != 2:
            raise TargetError(f"{self.who} needs rows of values, got an array of shape {table.shape}.")
        if table.dtype.kind == "f":
            if np.isinf(table).any():
                raise TargetError(f"{self.who} needs finite inputs, got infinity.")
            return np.nan_to_num(table.astype(np.float64), nan=0.0), ~np.isnan(table)
        columns = [numbers(self.who, table[:, j]) for j in range(table.shape[1])]
        values = np.stack([np.where(seen, column, 0.0) for column, seen in columns], 1)
        return values, np.stack([seen for _, seen in columns], 1)

    def _varies(self) -> np.ndarray:
        return np.concatenate([self.fitted(self.scales_) > 0, np.array([_entropy(s) > 0 for s in self.shares_], bool)])

    def _logits(self, outputs: Float[Tensor, "*N O"]) -> list[Float[Tensor, "*N C"]]:
        return list(outputs[..., len(self.fitted(self.means_)) :].split([len(s) for s in self.shares_], -1))


def _entropy(shares: np.ndarray) -> float:
    positive = shares[shares > 0]
    return float(-(positive * np.log(positive)).sum())


def _rows_of(inputs: Inputs) -> tuple[np.ndarray, int]:
    """Numbers, then codes, side by side; and how many columns of codes there are. Bytes count as numbers in 0 to 1."""
    fields = [inputs] if isinstance(inputs, Tensor) else list(inputs.values())
    is_number = [t.is_floating_point() or t.dtype == torch.uint8 for t in fields]
    floats = [
        (t.double() / 255 if t.dtype == torch.uint8 else t.double()).flatten(1)
        for t, number in zip(fields, is_number, strict=True)
        if number
    ]
    codes = [t.double().flatten(1) for t, number in zip(fields, is_number, strict=True) if not number]
    return torch.cat([*floats, *codes], 1).cpu().numpy(), sum(t.shape[1] for t in codes)
