"""The voices in a mixture, as a mask on its spectrogram for each."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch

from polytask.errors import TargetError
from polytask.shapes import Bool, Float, Shaped, Tensor
from polytask.tasks._labels import in_array, numbers
from polytask.tasks._scoring import RELATIVE_ERROR, finite, full_precision, observed_rows, undefined
from polytask.tasks._spectra import spectra, stretched, waves_of
from polytask.tasks.task import Metric, Prediction, Task

__all__ = ["Separation"]

_SILENT = 1e-8
"""Energy under which a wave counts as silent."""
_NOTHING = 1e-12
_MOST_PARTS = 6
"""Of parts without an order; all orders are tried, 720 of 6 parts and 40,320 of 8."""


@dataclass(kw_only=True)
class Separation(Task):
    r"""Takes a mixture apart: for each of the K parts that it is the sum of, what share of each frequency is its own.

    With the spectra :math:`X` of the mixture and :math:`S_k` of the parts, the mask :math:`m_k` costs

    .. math:: \sum_k \lVert m_k |X| - |S_{\pi(k)}| \cos(\angle S_{\pi(k)} - \angle X) \rVert^2 / \lVert X \rVert^2,

    where :math:`\pi` is the order of the parts that makes it least, unless they have an order.

    Args:
        is_ordered: Whether the first part is always of one sort, such as speech before noise.
        window: Samples of the moving window.
        hop: Samples by which it moves.
        name: See :class:`Task`, as for the other arguments.

    Shape:
        labels ``[N, K, L]``, the waves of the parts, whose sum is the mixture; outputs ``[N, T, K * F]``, moments of
        the mixture, with ``F = window / 2 + 1``; targets ``[N, K, L]``; values ``[N, T, K, F]``, masks which
        :func:`polytask.data.separated` lays on a mixture. Outputs ``[N, O]`` are those of rows with one moment; labels
        ``[N]`` are one part of one sample.

    Raises:
        TargetError: If all labels are missing, all rows are alike, they are no waves of one number of parts, or more
            than 6 parts have no order.

    Example:
        >>> task = Separation(name="voices", window=4, hop=2)
        >>> task.fit(np.random.default_rng(0).normal(size=(5, 2, 8)))
        >>> task.n_outputs, task.initial_bias().tolist()
        (6, [0.5, 0.5, 0.5, 0.5, 0.5, 0.5])

    Note:
        What else sounds in the mixture has to be a part too (noise as the last, with ``is_ordered``). A mask does not
        change phases, so that even the best mask does not give the parts themselves. ``si_sdr`` is in decibels, over
        parts that sound; ``si_sdr_gain`` is what it is above that of the mixture. The relative error is the loss over
        that of the best constant masks. Best with an encoder whose moments are the frames: ``speech_frames`` with
        ``halvings: 0`` and the same hop; fewer moments stand for several frames each. The memory of outputs and loss
        grows with moments times frequencies times parts, and the loss computes the spectrograms of the labels anew.
        Unless ``is_ordered`` it tries all :math:`K!` orders of :math:`K` parts.

    References:
        Erdogan et al., Phase-sensitive and recognition-boosted speech separation, ICASSP 2015, equation 8; Yu et al.,
        Permutation invariant training of deep models for speaker-independent multi-talker speech separation, ICASSP
        2017; Le Roux et al., SDR - half-baked or well done?, ICASSP 2019.
    """

    is_ordered: bool = False
    window: int = 256
    hop: int = 64
    bias_: np.ndarray | None = field(default=None, init=False, repr=False)

    kind: ClassVar[str] = "separation"
    decoding: ClassVar[str] = (
        "share of part k in frequency f at moment t = output[t, k * F + f], with F = window / 2 + 1 of the "
        "options; multiplied with the mixture's short-time spectrum, it gives that of the part"
    )
    has_mean: ClassVar[bool] = False
    of_elements: ClassVar[bool] = True
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("si_sdr", higher_is_better=True),
        Metric("si_sdr_gain", higher_is_better=True),
        RELATIVE_ERROR,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.window >= 2 and self.window % 2 == 0 and 1 <= self.hop <= self.window // 2):
            raise TargetError(
                f"{self.who} needs an even window and a hop of at most half of it, got {self.window} and {self.hop}."
            )

    def fit(self, labels: np.ndarray) -> None:
        """Learn how many parts there are, and the best constant masks."""
        parts, observed = self._read(labels)
        seen = torch.from_numpy(parts[observed])
        if not len(seen) or bool((seen == seen[:1]).all()):
            what = "mixtures that are all alike" if len(seen) else "no mixture"
            raise TargetError(f"{self.who} has {what} in its {len(parts)} rows; there is nothing to learn.")
        n_parts, n_bins = seen.shape[1], self.window // 2 + 1
        if n_parts > _MOST_PARTS and not self.is_ordered:
            raise TargetError(
                f"{self.who} has mixtures of {n_parts} parts, and tries all orders of up to {_MOST_PARTS} only. Give "
                "the parts an order, with is_ordered, or join some of them."
            )
        bias = torch.full((n_parts, n_bins), 1 / n_parts, dtype=torch.float64)
        if self.is_ordered:
            found = torch.zeros(2, n_parts, n_bins, dtype=torch.float64)
            for some in seen.split(64):
                loud, share = self._wanted(some.double())
                scaled = loud / loud.square().sum((1, 2), keepdim=True).clamp_min(_SILENT).sqrt()
                share = share / loud.square().sum((1, 2)).clamp_min(_SILENT).sqrt()[:, None, None, None]
                found[0] += (share * scaled[:, None]).sum((0, 2))
                found[1] += scaled.square().sum((0, 1))
            bias = torch.where(found[1] > _NOTHING, found[0] / found[1].clamp_min(_NOTHING), bias)
        self.bias_ = bias.numpy()

    def encode(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The waves in float32.

        Raises:
            TargetError: If there are more or fewer parts than in training.
        """
        n_parts = len(self.fitted(self.bias_))
        parts, observed = self._read(labels)
        if parts.shape[1] != n_parts and observed.any():
            raise TargetError(f"{self.who} was trained on {n_parts} parts of a mixture, got {parts.shape[1]}.")
        return parts if observed.any() else np.zeros((len(parts), n_parts, parts.shape[2]), np.float32), observed

    @property
    def n_outputs(self) -> int:
        """A mask for each part."""
        return int(self.fitted(self.bias_).size)

    def label_losses(self, outputs: Float[Tensor, "*N T O"], targets: Float[Tensor, "*N K L"]) -> Float[Tensor, "*N"]:
        """The error of the masked spectrogram of each mixture, over its energy."""
        outputs = full_precision(outputs)
        by_moment = outputs.unsqueeze(-2) if outputs.ndim == targets.ndim - 1 else outputs
        loud, wanted = self._wanted(targets.to(outputs.dtype))
        estimate = self._masks(by_moment, loud.shape[-2], targets.shape[-2]) * loud.unsqueeze(-3)
        energy = loud.square().sum((-2, -1)).clamp_min(_SILENT)
        if self.is_ordered:
            return (estimate - wanted).square().sum((-3, -2, -1)) / energy
        errors = (estimate.unsqueeze(-3) - wanted.unsqueeze(-4)).square().sum((-2, -1))
        return torch.stack(_by_order(errors), -1).amin(-1) / energy

    def decode(self, outputs: Float[Tensor, "N T O"]) -> Prediction:
        """The masks."""
        z = finite(self.name, outputs)
        z = z.unsqueeze(1) if z.ndim == 2 else z
        return Prediction(z.unflatten(-1, (len(self.fitted(self.bias_)), -1)).numpy())

    def outputs_from(self, prediction: Prediction) -> Float[Tensor, "N T O"]:
        """The masks as they are."""
        return torch.from_numpy(np.asarray(prediction.values, dtype=np.float64)).flatten(2)

    def evaluate(
        self, outputs: Float[Tensor, "N T O"], targets: Float[Tensor, "N K L"], observed: Bool[Tensor, " N"]
    ) -> dict[str, float]:
        """Metrics over the observed mixtures."""
        seen = observed_rows(outputs, targets, observed)
        if seen is None:
            return undefined(self.metrics)
        z, parts = seen[0], seen[1].double()
        z = z.unsqueeze(1) if z.ndim == 2 else z
        score, gain = self._ratios(z, parts)
        error = self.label_losses(z, parts).mean().item()
        constant = self.label_losses(self.initial_bias().to(z).expand(len(z), 1, -1), parts).mean().item()
        # Where constant masks are already right, there is nothing to be better at.
        return {"si_sdr": score, "si_sdr_gain": gain, "relative_error": (error + _NOTHING) / (constant + _NOTHING)}

    def initial_bias(self) -> Float[Tensor, " O"]:
        """The best constant masks; equal ones where parts have no order."""
        return torch.from_numpy(self.fitted(self.bias_)).flatten().to(torch.get_default_dtype())

    def constant_outputs(self, targets: Shaped[Tensor, "N K L"]) -> Float[Tensor, "N T O"]:
        """The same at each frame."""
        return self.initial_bias().expand(len(targets), targets.shape[-1] // self.hop + 1, -1)

    def state(self) -> dict[str, Any]:
        """The best constant masks."""
        return {"bias": self.fitted(self.bias_).tolist()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take back what :meth:`state` gave."""
        self.bias_ = np.array(state["bias"], dtype=np.float64)

    def _wanted(self, parts: Float[Tensor, "*N K L"]) -> tuple[Float[Tensor, "*N T F"], Float[Tensor, "*N K T F"]]:
        """Magnitudes of the mixture, and of each part what of it points the way of the mixture."""
        found = torch.view_as_real(spectra(parts, self.window, self.hop))
        mixture = found.sum(-4)
        loud = mixture.square().sum(-1).sqrt()
        return loud, (found * mixture.unsqueeze(-4)).sum(-1) / loud.unsqueeze(-3).clamp_min(_NOTHING)

    def _masks(self, by_moment: Float[Tensor, "*N M O"], n_frames: int, n_parts: int) -> Float[Tensor, "*N K T F"]:
        masks: Tensor = stretched(by_moment, n_frames).unflatten(-1, (n_parts, -1)).transpose(-2, -3)
        return masks

    def _ratios(self, z: Float[Tensor, "N T O"], parts: Float[Tensor, "N K L"]) -> tuple[float, float]:
        """SI-SDR of the parts in their best order, and what it is above that of the mixture."""
        from torchmetrics.functional.audio import scale_invariant_signal_distortion_ratio as si_sdr

        n_parts, length = parts.shape[1:]
        mixture = parts.sum(1)
        whole = spectra(mixture, self.window, self.hop)
        masked = self._masks(z, whole.shape[1], n_parts) * whole.unsqueeze(1)
        estimate = waves_of(masked.flatten(0, 1), self.window, self.hop, length).unflatten(0, (-1, n_parts))
        each = si_sdr(estimate.unsqueeze(2).expand(-1, -1, n_parts, -1), parts.unsqueeze(1).expand(-1, n_parts, -1, -1))
        sounds = parts.square().sum(-1) > _SILENT
        each = torch.where(sounds.unsqueeze(1), each, 0.0)  # a silent part fits anything
        ordered = [each.diagonal(dim1=1, dim2=2)] if self.is_ordered else _in_order(each)
        best = torch.stack([one.sum(-1) for one in ordered]).argmax(0)
        chosen = torch.stack(ordered)[best, torch.arange(len(z))]
        before = si_sdr(mixture.unsqueeze(1).expand_as(parts), parts)
        gains = (chosen - before)[sounds]
        return (chosen[sounds].mean().item(), gains.mean().item()) if len(gains) else (float("nan"), float("nan"))

    def _waves_of(self, number: int, row: Any) -> np.ndarray | None:
        """The waves of a row, ``None`` if it has none."""
        if isinstance(row, list | tuple | np.ndarray) and len(row):
            try:
                return np.asarray(row, dtype=np.float64)
            except (TypeError, ValueError):
                what = "some that are no numbers, or differ in length"
        elif pd.api.types.is_scalar(row) and pd.isna(row):
            return None
        else:
            what = repr(row)
        raise TargetError(f"{self.who} needs K waves in row {number}, or None if it has no label; got {what}.")

    def _read(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Waves ``[N, K, L]`` and which rows have some."""
        table = np.asarray(labels)
        if table.ndim == 1 and any(isinstance(row, list | tuple | np.ndarray) for row in table):
            rows = [self._waves_of(number, row) for number, row in enumerate(table)]
            shapes = {row.shape for row in rows if row is not None}
            if len(shapes) != 1:
                raise TargetError(f"{self.who} needs waves of one shape (K, L) in every row, got {sorted(shapes)[:5]}.")
            (shape,) = shapes
            table = np.stack([np.full(shape, np.nan) if row is None else row for row in rows])
        if table.ndim not in (1, 3):
            raise TargetError(f"{self.who} needs labels of shape [N, K, L], K waves a row, got {table.shape}.")
        values, seen = numbers(self.who, table.reshape(-1), in_array(table.shape))
        cube = (len(table), *(table.shape[1:] or (1, 1)))
        values, seen = np.where(seen, values, 0.0).reshape(cube), seen.reshape(len(table), cube[1] * cube[2])
        observed = np.asarray(seen.all(1), dtype=bool)
        if bool((seen.any(1) & ~observed).any()):
            row = int(np.flatnonzero(seen.any(1) & ~observed)[0])
            raise TargetError(f"{self.who} has a wave with missing samples in row {row}; leave out the whole row.")
        return values.astype(np.float32), observed


def _in_order(pairs: Float[Tensor, "*N K K"]) -> list[Float[Tensor, "*N K"]]:
    """For each order of the parts, the entries of each answer with its part."""
    n_parts = pairs.shape[-1]
    return [
        torch.stack([pairs[..., k, other] for k, other in enumerate(order)], -1)
        for order in itertools.permutations(range(n_parts))
    ]


def _by_order(pairs: Float[Tensor, "*N K K"]) -> list[Float[Tensor, "*N"]]:
    """For each order of the parts, the sum over answers."""
    return [one.sum(-1) for one in _in_order(pairs)]
