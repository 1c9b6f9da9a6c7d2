"""A network for recordings that represents their moments, one after another."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from polytask.errors import RecipeError
from polytask.models.adapters import adapt
from polytask.models.encoders.encoder import Encoder
from polytask.models.encoders.speech import LogMel, wave_lengths
from polytask.models.inputs import InputShape
from polytask.shapes import Bool, Float, Inputs, Int, Tensor

__all__ = ["SpeechFrames"]


class SpeechFrames(Encoder):
    """A log-mel spectrogram, convolutions that halve it, recurrent units in both directions: a vector a moment.

    For tasks whose answer is made of moments (``transcription``, ``separation``); those of whole recordings read the
    largest value of each number over the moments. A recording has as many moments as it lasts: the zeros after its end
    are never read, however many there are.

    Args:
        inputs: Shape of each source's waves; they may differ in length, not in rate.
        rate: Samples a second.
        n_mels: Bands of the spectrogram.
        window: Seconds of the moving window.
        hop: Seconds by which it moves.
        channels: Channels of each convolution, each of which halves the bands.
        halvings: How many of them halve the moments too; all if ``None``.
        width: Width of the recurrent units of both directions, and of the last layer.
        dropout: Probability of dropping a number of a moment's vector.

    Shape:
        waves ``[B, L]`` -> ``[B * T, width]``, T moments of the longest recording of the batch

    Raises:
        InputError: If a source is not one wave a row, or is shorter than the window.
        RecipeError: If there are not enough bands for the convolutions, or the window is shorter than the hop.

    Example:
        >>> import torch
        >>> encoder = SpeechFrames({"calls": InputShape.of(torch.zeros(1, 4000))}, width=16)
        >>> encoder(torch.randn(2, 4000)).shape, encoder(torch.randn(2, 4000) * (torch.arange(4000) < 1000)).shape
        (torch.Size([26, 16]), torch.Size([8, 16]))

    Note:
        Convolutions have no bias, so that silence stays zero and they do not see where the array ends; each moment is
        normalised by itself, and the recurrent units read packed sequences. It does not export, because packed
        sequences do not; ``speech`` does. The time of the recurrent units grows with the moments of the longest
        recording of a batch.

    References:
        Graves, Mohamed and Hinton, Speech Recognition with Deep Recurrent Neural Networks, ICASSP 2013.
    """

    has_elements = True
    why_no_export: ClassVar[str] = (
        "its recurrent units read packed sequences, each as long as its recording, which no graph of fixed shapes does"
    )

    def __init__(
        self,
        inputs: Mapping[str, InputShape],
        rate: int = 8000,
        n_mels: int = 40,
        window: float = 0.032,
        hop: float = 0.01,
        channels: Sequence[int] = (24, 48),
        halvings: int | None = None,
        width: int = 128,
        dropout: float = 0.1,
    ):
        super().__init__(inputs)
        size, step = round(window * rate), max(round(hop * rate), 1)
        halved = len(channels) if halvings is None else halvings
        if not 0 <= halved <= len(channels) or n_mels >> len(channels) < 1 or size < step:
            raise RecipeError(
                f"{n_mels} bands can be halved {n_mels.bit_length() - 1} times, and each of {len(channels)} "
                f"convolutions halves them; got halvings={halvings}, a window of {size} and a hop of {step} samples. "
                "Give more bands or fewer channels, no more halvings than channels, and a hop within the window."
            )
        moments = -(-max(wave_lengths(inputs)) // (step << halved))
        self._there = _Sounding(step, halved, max(moments, 1))
        length = (self._there.n_moments << halved) * step - step
        stem = adapt(inputs, lambda shape: LogMel(shape, rate, n_mels, size, step, length), share_equal=True)
        convolutions: list[nn.Module] = []
        depth = 1
        for number, after in enumerate(channels):
            pool = nn.MaxPool2d((2, 2 if number < halved else 1))
            convolutions.append(nn.Sequential(nn.Conv2d(depth, after, 3, padding=1, bias=False), nn.ReLU(), pool))
            depth = after
        context = _Context(depth * (n_mels >> len(channels)), width, dropout)
        last = nn.Sequential(nn.Linear(2 * (width // 2), width), nn.ReLU())
        self.stages = nn.ModuleList([stem.followed_by(_Heard(convolutions, halved, context)), last])
        self.width = width

    def presence(self) -> Callable[[Inputs], Bool[Tensor, "B L"]]:
        """Which moments are there: those up to the last sample that is not zero."""
        return self._there


@dataclass(frozen=True)
class _Sounding:
    """Moments of waves that begin before their last sound."""

    hop: int
    halvings: int
    n_moments: int

    def __call__(self, inputs: Inputs) -> Bool[Tensor, "B T"]:
        wave = inputs if isinstance(inputs, Tensor) else next(iter(inputs.values()))
        last = ((wave != 0) * torch.arange(1, wave.shape[1] + 1, device=wave.device)).amax(1)
        begins = torch.arange(self.n_moments, device=wave.device) * (self.hop << self.halvings)
        return begins < last[:, None] - 1  # a window is zero at its first sample


class _Heard(nn.Module):
    """Spectrograms to moments, none of which sees the silence after the end: ``[B, 1, M, T]`` to ``[B * T', W]``."""

    def __init__(self, convolutions: Sequence[nn.Module], halvings: int, context: nn.Module):
        super().__init__()
        self.convolutions = nn.ModuleList(convolutions)
        self.halvings = halvings
        self.context = context

    def forward(self, maps: Float[Tensor, "B 1 M T"]) -> Float[Tensor, "BT W"]:
        sounds = ~(maps.detach().amax((1, 2)) <= 0)  # NaN is no silence: it is seen in the answer
        lengths = (sounds * torch.arange(1, maps.shape[3] + 1, device=maps.device)).amax(1)
        longest = max(int(lengths.max()), 1) if len(maps) else 1
        maps = maps[..., : -(-longest >> self.halvings) << self.halvings]
        for number, convolution in enumerate(self.convolutions):
            maps = convolution(maps)
            if number < self.halvings:
                lengths = (lengths + 1) // 2
            # What a convolution makes of the end lies after it, where the next one would read it.
            after = torch.arange(maps.shape[3], device=maps.device) >= lengths[:, None]
            maps = maps.masked_fill(after[:, None, None], 0.0)
        read: Tensor = self.context(maps.flatten(1, 2).transpose(1, 2), lengths)
        return read.flatten(0, 1)


class _Context(nn.Module):
    """Each moment in the light of those before and after it."""

    def __init__(self, before: int, width: int, dropout: float):
        super().__init__()
        self.norm = nn.LayerNorm(before)
        self.gru = nn.GRU(before, width // 2, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(dropout)

    def forward(self, moments: Float[Tensor, "B T D"], lengths: Int[Tensor, " B"]) -> Float[Tensor, "B T W"]:
        given = self.dropout(self.norm(moments))
        packed = nn.utils.rnn.pack_padded_sequence(
            given, lengths.clamp_min(1).cpu(), batch_first=True, enforce_sorted=False
        )
        read, _ = nn.utils.rnn.pad_packed_sequence(self.gru(packed)[0], batch_first=True, total_length=given.shape[1])
        out: Tensor = self.dropout(read)
        return out
