"""Spectrograms of one size of recordings of any length, and waves of spectrograms."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

from polytask.errors import InputError
from polytask.shapes import Float, Tensor
from polytask.tasks._spectra import spectra, waves_of

__all__ = ["heard", "spectrograms"]

_RANGE = 60.0
"""Decibels under the loudest at which all is silence."""


def spectrograms(
    waves: np.ndarray, seconds: np.ndarray, rate: int, *, n_moments: int = 32, window: int = 128, hop: int = 32
) -> np.ndarray:
    """Loudness in decibels under the loudest, at evenly spaced moments of each recording, ``[N, T, window / 2 + 1]``.

    Args:
        waves: ``[N, L]``, with zeros after the end of each.
        seconds: Length of each.
        rate: Samples a second.
        n_moments: Moments T, from the beginning to the end.
        window: Samples of the moving window.
        hop: Samples by which it moves, before moments are taken between.

    Raises:
        InputError: If a recording is silent.

    Example:
        >>> from polytask.data import spoken_syllables
        >>> made = spoken_syllables(1, n_speakers=1, n_syllables=2)
        >>> spectrograms(made.waves, made.seconds, made.rate).shape
        (2, 32, 65)
    """
    found = []
    for row, (wave, length) in enumerate(zip(waves, seconds, strict=True)):
        sound = torch.from_numpy(np.asarray(wave[: max(round(length * rate), 1)], dtype=np.float64))
        power = spectra(sound, window, hop).abs().square()
        if not bool(sound.isfinite().all()):
            raise InputError(f"Recording {row} has samples that are NaN or infinite.")
        if not power.max() > 0:
            raise InputError(f"Recording {row} is silent, and has no spectrogram.")
        loudness = 10 * (power / power.max()).clamp_min(10 ** (-_RANGE / 10)).log10()
        found.append(_resampled(loudness, n_moments).numpy())
    return np.stack(found) if found else np.zeros((0, n_moments, window // 2 + 1))


def heard(
    made: np.ndarray, seconds: np.ndarray, rate: int, *, hop: int = 32, iterations: int = 60, seed: int = 0
) -> list[np.ndarray]:
    """Waves that have these spectrograms, as nearly as phases can be found for them.

    Args:
        made: ``[N, T, F]`` in decibels, as :func:`spectrograms` gives them.
        seconds: Length that each is to have.
        rate: Samples a second.
        hop: Samples by which the window moves.
        iterations: From a wave to its phases and back.
        seed: Of the phases to begin with.

    Returns:
        A wave of each, its loudest sample 0.9.

    Example:
        >>> from polytask.data import spoken_syllables
        >>> one = spoken_syllables(1, n_speakers=1, n_syllables=1)
        >>> (wave,) = heard(spectrograms(one.waves, one.seconds, one.rate), one.seconds, one.rate, iterations=2)
        >>> len(wave) == round(one.seconds[0] * one.rate)
        True

    References:
        Griffin and Lim, Signal estimation from modified short-time Fourier transform, IEEE TASSP 1984, section III.
    """
    window = 2 * (made.shape[-1] - 1)
    generator = torch.Generator().manual_seed(seed)
    waves = []
    for loudness, length in zip(made, seconds, strict=True):
        n = max(round(float(length) * rate), 1)
        decibels = _resampled(torch.from_numpy(np.asarray(loudness, dtype=np.float64)), n // hop + 1)
        magnitude = torch.where(decibels > -_RANGE, 10 ** (decibels / 20), 0.0)
        angle = 2 * torch.pi * torch.rand(magnitude.shape, generator=generator, dtype=torch.float64)
        for _ in range(max(iterations, 1)):
            wave = waves_of(torch.polar(magnitude, angle)[None], window, hop, n)[0]
            angle = spectra(wave, window, hop).angle()
        waves.append((0.9 * wave / wave.abs().max().clamp_min(1e-12)).numpy())
    return waves


def _resampled(frames: Float[Tensor, "T F"], n: int) -> Float[Tensor, "n F"]:
    """As many moments, evenly spaced from the first to the last."""
    along = F.interpolate(frames.T[None], size=n, mode="linear", align_corners=True)
    return along[0].T.contiguous()
