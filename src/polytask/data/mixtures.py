"""Recordings on top of each other, and taken apart again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from polytask.data.audio import Recordings
from polytask.errors import DataError, InputError
from polytask.tasks._spectra import spectra, stretched, waves_of

__all__ = ["Mixtures", "mixed", "separated"]


@dataclass(frozen=True)
class Mixtures:
    """Mixtures and what they are made of.

    Args:
        waves: float32 ``[N, L]``, the sum of the parts.
        parts: ``[N, K, L]``.
        rows: ``[N, K]``, which recordings they are.
        rate: Samples a second.
    """

    waves: np.ndarray
    parts: np.ndarray
    rows: np.ndarray
    rate: int


def mixed(
    recordings: Recordings,
    n: int,
    *,
    n_parts: int = 2,
    by: str = "speaker",
    within: str | None = None,
    level: float = 3.0,
    seed: int = 0,
) -> Mixtures:
    """Lay recordings of different speakers on top of each other.

    Args:
        recordings: What is mixed.
        n: Mixtures.
        n_parts: Recordings in each.
        by: The label that differs between the parts of a mixture.
        within: A label that all parts of a mixture have in common: with ``part``, what is trained on is in no mixture
            that is tested on.
        level: Parts differ by at most so many decibels from equal energy, in either direction.
        seed: Of everything drawn.

    Raises:
        DataError: If there are fewer values of the label than parts, or a recording is silent.

    Example:
        >>> from polytask.data import spoken_syllables
        >>> made = mixed(spoken_syllables(2, n_speakers=3, n_syllables=2), 5)
        >>> made.waves.shape, made.parts.shape, bool(np.allclose(made.parts.sum(1), made.waves))
        ((5, 4000), (5, 2, 4000), True)
    """
    for name in (by, *([within] if within else ())):
        if name not in recordings.labels:
            raise DataError(f"The recordings have no label {name!r}; they have {', '.join(recordings.labels)}.")
    generator = np.random.default_rng(seed)
    who = recordings.labels[by]
    where = recordings.labels[within] if within else np.zeros(len(who), dtype=int)
    energy = np.sqrt(np.square(recordings.waves, dtype=np.float64).sum(1))
    if not energy.all():
        raise DataError(f"{recordings.files[int(np.argmin(energy))]} is silent; leave it out.")
    rows = np.zeros((n, n_parts), dtype=np.int64)
    for mixture in range(n):
        left = np.flatnonzero(where == where[generator.integers(len(where))])
        for k in range(n_parts):
            if not len(left):
                raise DataError(f"There are fewer than {n_parts} values of {by!r} to mix recordings of.")
            rows[mixture, k] = generator.choice(left)
            left = left[who[left] != who[rows[mixture, k]]]
    gains = 10 ** (generator.uniform(-level, level, rows.shape) / 20) / energy[rows]
    parts = recordings.waves[rows] * gains[:, :, None]
    parts = (0.9 * parts / np.abs(parts.sum(1)).max(1)[:, None, None]).astype(np.float32)
    return Mixtures(parts.sum(1), parts, rows, recordings.rate)


def separated(waves: np.ndarray, masks: np.ndarray, *, hop: int = 64) -> np.ndarray:
    """The parts of mixtures, ``[N, K, L]``, from masks as ``separation`` answers with.

    Args:
        waves: Mixtures ``[N, L]``.
        masks: ``[N, T, K, window / 2 + 1]``.
        hop: That of the task.

    Raises:
        InputError: If the masks are not of as many mixtures.

    Example:
        >>> wave = np.random.default_rng(0).normal(size=(1, 640))
        >>> bool(np.allclose(separated(wave, np.full((1, 1, 2, 129), 0.5)), wave[:, None] / 2))
        True
    """
    if np.ndim(masks) != 4 or len(masks) != len(waves):
        raise InputError(f"{len(waves)} mixtures need masks [N, T, K, F], got {np.shape(masks)}.")
    window = 2 * (masks.shape[-1] - 1)
    mixtures = torch.from_numpy(np.asarray(waves, dtype=np.float64))
    whole = spectra(mixtures, window, hop)
    by_frame = stretched(torch.from_numpy(np.asarray(masks, dtype=np.float64)).flatten(2), whole.shape[1])
    laid = by_frame.unflatten(-1, masks.shape[2:]).transpose(1, 2) * whole.unsqueeze(1)
    parts = waves_of(laid.flatten(0, 1), window, hop, mixtures.shape[1])
    found: np.ndarray = parts.unflatten(0, laid.shape[:2]).numpy()
    return found
