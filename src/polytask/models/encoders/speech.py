"""A network for recordings: loudness by time and pitch, then convolutions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import nn

from polytask.errors import InputError, RecipeError
from polytask.models.adapters import adapt
from polytask.models.encoders.encoder import Encoder
from polytask.models.inputs import InputShape
from polytask.shapes import Float, Inputs, Tensor

__all__ = ["Speech"]


class Speech(Encoder):
    r"""A log-mel spectrogram, convolutions that halve it, the loudest moment of each channel, one dense layer.

    The front end measures the power :math:`p` in ``n_mels`` bands of a moving window and passes
    :math:`\log(1 + c\,p / \max p)` on, so that silence is zero and loudness does not count. Convolutions have no bias
    and zeros around them, and the pooling over time is a maximum: silence after the end, however long, changes nothing,
    and recordings of any lengths need no mask.

    Args:
        inputs: Shape of each source's waves; they may differ in length, not in rate.
        rate: Samples a second.
        n_mels: Bands of the spectrogram, equally wide on the mel scale.
        window: Seconds of the moving window.
        hop: Seconds by which it moves.
        channels: Channels of each convolution; each block is a stage.
        width: Width of the dense layer, the last stage.
        dropout: Probability of dropping a unit of the dense layer.

    Shape:
        waves ``[B, L]`` -> ``[B, width]``

    Raises:
        InputError: If a source is not one wave a row, or is shorter than the window.
        RecipeError: If the window does not hold enough samples for the bands.

    Example:
        >>> encoder = Speech({"calls": InputShape.of(torch.zeros(1, 4000))}, width=16)
        >>> encoder(torch.randn(2, 4000)).shape
        torch.Size([2, 16])

    Note:
        The maximum over time forgets when a sound came: for answers to each moment use ``speech_frames``. Power more
        than 50 dB below the loudest of the recording counts nearly as silence. Recordings are padded to the longest
        source, so that each costs as much as that. The Fourier transform is a product of matrices: its arithmetic grows
        with the square of the samples in a window.

    References:
        Davis and Mermelstein, Comparison of Parametric Representations for Monosyllabic Word Recognition, 1980: bands
        on the mel scale.
    """

    exports: ClassVar[bool] = True

    def __init__(
        self,
        inputs: Mapping[str, InputShape],
        rate: int = 8000,
        n_mels: int = 40,
        window: float = 0.032,
        hop: float = 0.01,
        channels: Sequence[int] = (16, 32, 48),
        width: int = 128,
        dropout: float = 0.0,
    ):
        super().__init__(inputs)
        size, step = round(window * rate), round(hop * rate)
        # Silence costs nothing but time, so shorter sources are padded to the longest: all look alike to the trunk.
        longest = max(wave_lengths(inputs))
        padded = longest + 2 ** (len(channels) + 2) * max(step, 1)
        stem = adapt(inputs, lambda shape: LogMel(shape, rate, n_mels, size, step, padded), share_equal=True)
        blocks: list[nn.Module] = []
        depth, height = 1, n_mels
        for after in channels:
            if not blocks:  # at full resolution a stride costs a quarter of pooling
                blocks.append(nn.Sequential(nn.Conv2d(1, after, 5, stride=2, padding=2, bias=False), nn.ReLU()))
                depth, height = after, (height + 1) // 2
                continue
            blocks.append(nn.Sequential(nn.Conv2d(depth, after, 3, padding=1, bias=False), nn.ReLU(), nn.MaxPool2d(2)))
            depth, height = after, height // 2
        if height < 1:
            raise RecipeError(f"{n_mels} bands cannot be halved {len(channels)} times; give more, or fewer channels.")
        dense: list[nn.Module] = [_Loudest(), nn.Linear(depth * height, width), nn.ReLU()]
        if dropout:
            dense.append(nn.Dropout(dropout))
        last = nn.Sequential(*dense)
        self.stages = nn.ModuleList(
            [stem.followed_by(blocks[0]), *blocks[1:], last] if blocks else [stem.followed_by(last)]
        )
        self.width = width


def wave_lengths(inputs: Mapping[str, InputShape]) -> list[int]:
    """Samples of the waves of each source."""
    return [math.prod(field.shape) for shape in inputs.values() for field in shape.fields.values()]


class LogMel(nn.Module):
    """Waves to loudness by band and moment, ``[B, L]`` to ``[B, 1, n_mels, T]``; nothing in it is learned.

    Args:
        shape: The source's inputs.
        rate: Samples a second.
        n_mels: Number of bands.
        size: Samples of the moving window.
        hop: Samples by which it moves.
        length: Waves are padded with silence to so many samples, so that all is there that convolutions make of the
            end.
    """

    bands: Tensor
    waves: Tensor

    def __init__(self, shape: InputShape, rate: int, n_mels: int, size: int, hop: int, length: int):
        super().__init__()
        fields = list(shape.fields.values())
        if len(fields) != 1 or len(fields[0].shape) != 1 or fields[0].cardinalities:
            found = {name: field.shape for name, field in shape.fields.items()}
            raise InputError(f"The speech encoder needs one wave a row, of shape (L,); got {found}.")
        self.size, self.hop, self.length = size, hop, length
        if fields[0].shape[0] < self.size:
            raise InputError(
                f"Waves of {fields[0].shape[0]} samples are shorter than a window of {self.size}; "
                "pad them with zeros, or give a shorter window."
            )
        bands = mel_bands(n_mels, size, rate)
        if hop < 1 or not bool((bands.sum(1) > 0).all()):
            raise RecipeError(
                f"A window of {self.size} samples is too short for {n_mels} bands at {rate} samples a second; "
                "give fewer bands, or a longer window."
            )
        self.register_buffer("bands", bands.T.contiguous(), persistent=False)
        self.register_buffer("waves", _fourier(self.size), persistent=False)

    def forward(self, inputs: Inputs) -> Float[Tensor, "B 1 M T"]:
        """The spectrogram."""
        wave = inputs if isinstance(inputs, Tensor) else next(iter(inputs.values()))
        padded = nn.functional.pad(wave, (0, self.length - wave.shape[1] + self.size))
        parts = padded.unfold(1, self.size, self.hop) @ self.waves.to(wave.dtype)
        power = parts.square().unflatten(2, (2, -1)).sum(2)
        mel = (power @ self.bands.to(wave.dtype)).transpose(1, 2)
        loudest = mel.flatten(1).amax(1).clamp_min(_QUIET)[:, None, None]
        loudness: Tensor = (mel * (_RANGE / loudest)).log1p() / math.log1p(_RANGE)
        return loudness.unsqueeze(1)


_RANGE = 1e5
"""Power over that which still counts as silence: 50 dB."""
_QUIET = 1e-10


def mel_bands(n_mels: int, size: int, rate: int) -> Float[Tensor, "M F"]:
    """Triangular bands, equally wide on the mel scale ``2595 log10(1 + f / 700)``, from 50 Hz to half the rate."""

    def mel(frequency: float) -> float:
        return 2595 * math.log10(1 + frequency / 700)

    edges = 700 * (10 ** (torch.linspace(mel(50.0), mel(rate / 2), n_mels + 2, dtype=torch.float64) / 2595) - 1)
    frequencies = torch.arange(size // 2 + 1, dtype=torch.float64) * rate / size
    rising = (frequencies - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - frequencies) / (edges[2:] - edges[1:-1])[:, None]
    return torch.minimum(rising, falling).clamp_min(0).float()


def _fourier(size: int) -> Float[Tensor, "size F2"]:
    """Cosines and sines under a Hann window: a Fourier transform as one product, which exports everywhere."""
    time = torch.arange(size, dtype=torch.float64)
    angle = 2 * math.pi * torch.outer(torch.arange(size // 2 + 1, dtype=torch.float64), time) / size
    window = torch.hann_window(size, dtype=torch.float64)
    return (torch.cat([angle.cos(), angle.sin()]) * window).float().T.contiguous()


class _Loudest(nn.Module):
    """The largest value over time: ``[B, C, M, T]`` to ``[B, C * M]``."""

    def forward(self, x: Tensor) -> Tensor:
        return x.amax(-1).flatten(1)
