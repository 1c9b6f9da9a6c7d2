"""Waves to spectra and back, for the kinds that answer with sounds."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from polytask.shapes import Complex, Float, Tensor

__all__ = ["spectra", "stretched", "waves_of"]


def spectra(waves: Float[Tensor, "*N L"], window: int, hop: int) -> Complex[Tensor, "*N T F"]:
    """Fourier transforms of moving windows (Hann), the middle of the first on the first sample; ``T = L // hop + 1``.

    What ``torch.stft`` gives with ``center=True`` and zeros around the wave, but for any leading dimensions and under
    ``vmap``.
    """
    padded = F.pad(waves, (window // 2, window // 2 + hop))
    frames = padded.unfold(-1, window, hop)[..., : waves.shape[-1] // hop + 1, :]
    if not frames.numel():  # which the transform refuses
        return torch.complex(frames, frames)[..., : window // 2 + 1]
    found: Tensor = torch.fft.rfft(frames * _hann(window, waves))
    return found


def waves_of(found: Complex[Tensor, "N T F"], window: int, hop: int, length: int) -> Float[Tensor, "N L"]:
    """The wave whose spectra are nearest to these in squares; the inverse of :func:`spectra`.

    References:
        Griffin and Lim, Signal estimation from modified short-time Fourier transform, IEEE TASSP 1984, equation 6.
    """
    hann = _hann(window, found.real)
    wave = torch.istft(found.transpose(1, 2), window, hop, window=hann, center=True, length=length)
    read: Tensor = wave
    return read


def stretched(moments: Float[Tensor, "*N M O"], n_frames: int) -> Float[Tensor, "*N T O"]:
    """Each moment for as many frames as it stands for."""
    n_moments = moments.shape[-2]
    each = max(round(n_frames / n_moments), 1)
    return moments.index_select(-2, (torch.arange(n_frames, device=moments.device) // each).clamp_max(n_moments - 1))


def _hann(window: int, like: Tensor) -> Float[Tensor, " W"]:
    return torch.hann_window(window, dtype=like.dtype, device=like.device)
