"""A network for recordings that represents their moments, one after another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn

from polytask.errors import RecipeError
from polytask.models.adapters import adapt
from polytask.models.encoders.encoder import Encoder
from polytask.models.encoders.speech import LogMel, wave_lengths
from polytask.models.inputs import InputShape
from polytask.shapes import Float, Tensor

__all__ = ["SpeechFrames"]


class SpeechFrames(Encoder):
    """A log-mel spectrogram, convolutions that halve it, recurrent units in both directions: a vector a moment.

    For tasks whose answer is made of moments (``ctc``); those of whole recordings read the largest value of each number
    over the moments. Every recording has as many moments as the longest of training, silence at the end included.

    Args:
        inputs: Shape of each source's waves; they may differ in length, not in rate.
        rate: Samples a second.
        n_mels: Bands of the spectrogram.
        window: Seconds of the moving window.
        hop: Seconds by which it moves.
        channels: Channels of each convolution, each of which halves time and bands.
        width: Width of the recurrent units of both directions, and of the last layer.
        dropout: Probability of dropping a number of a moment's vector.

    Shape:
        waves ``[B, L]`` -> ``[B * T, width]``, T moments

    Raises:
        InputError: If a source is not one wave a row, or is shorter than the window.
        RecipeError: If there are not enough samples or bands for the convolutions.

    Example:
        >>> import torch
        >>> encoder = SpeechFrames({"calls": InputShape.of(torch.zeros(1, 4000))}, width=16)
        >>> encoder.n_elements, encoder(torch.randn(2, 4000)).shape
        (12, torch.Size([24, 16]))

    Note:
        It claims no export: what a task of moments answers depends on how the moments are read, which no graph holds.

    References:
        Graves, Mohamed and Hinton, Speech Recognition with Deep Recurrent Neural Networks, ICASSP 2013.
    """

    has_elements = True

    def __init__(
        self,
        inputs: Mapping[str, InputShape],
        rate: int = 8000,
        n_mels: int = 40,
        window: float = 0.032,
        hop: float = 0.01,
        channels: Sequence[int] = (24, 48),
        width: int = 128,
        dropout: float = 0.1,
    ):
        super().__init__(inputs)
        size, step = round(window * rate), round(hop * rate)
        longest = max(wave_lengths(inputs))
        stem = adapt(inputs, lambda shape: LogMel(shape, rate, n_mels, size, step, longest), share_equal=True)
        convolutions = nn.Sequential()
        depth, bands, moments = 1, n_mels, longest // max(step, 1) + 1
        for after in channels:
            block = (nn.Conv2d(depth, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2))
            convolutions.extend(block)
            depth, bands, moments = after, bands // 2, moments // 2
        if bands < 1 or moments < 1:
            raise RecipeError(
                f"{n_mels} bands and {longest // max(step, 1) + 1} moments cannot be halved {len(channels)} times; "
                "give more bands, a shorter hop, or fewer channels."
            )
        context = _Moments(depth * bands, width, dropout)
        last = nn.Sequential(nn.Linear(2 * (width // 2), width), nn.ReLU())
        self.stages = nn.ModuleList([stem.followed_by(convolutions), context, last])
        self.width, self.n_elements = width, moments


class _Moments(nn.Module):
    """Maps to moments, read in both directions: ``[B, C, M, T]`` to ``[B * T, W]``."""

    def __init__(self, before: int, width: int, dropout: float):
        super().__init__()
        self.gru = nn.GRU(before, width // 2, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(dropout)

    def forward(self, maps: Float[Tensor, "B C M T"]) -> Float[Tensor, "BT W"]:
        moments = maps.flatten(1, 2).transpose(1, 2)
        read: Tensor = self.dropout(self.gru(self.dropout(moments))[0])
        return read.flatten(0, 1)
