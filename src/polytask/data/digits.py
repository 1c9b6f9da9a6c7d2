"""The Free Spoken Digit Dataset, with what its names do not say."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np

from polytask.data.audio import Recordings, read_recordings
from polytask.errors import DataError

__all__ = ["spoken_digits"]

_PATTERN = "(?P<digit>[0-9])_(?P<speaker>[a-z]+)_(?P<take>[0-9]+)"
_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_ACCENTS = {
    "george": "Greek",
    "jackson": "US",
    "lucas": "German",
    "nicolas": "French",
    "theo": "US",
    "yweweler": "German",
}
_TESTED = 5
"""Takes below it are the test rows."""


def spoken_digits(path: str | os.PathLike[str], *, seconds: float | None = 0.8) -> Recordings:
    """Read the recordings of digits by six speakers, a folder or zip archive of ``{digit}_{speaker}_{take}.wav``.

    Args:
        path: Folder or archive of the WAV files.
        seconds: Keep this much of each recording.

    Returns:
        Labels ``digit``, ``speaker``, ``accent`` (its country of origin, as the data's authors note it), ``text`` (the
        digit's English word) and ``part``: the takes 0 to 4 are ``test``, as the data's authors divide them, the last
        fifth of the others ``validation``, the rest ``train``.

    Raises:
        DataError: If there are none, or of a speaker who is not known.
        RecipeError: If a file's name is none of theirs.

    References:
        Jackson et al., Free Spoken Digit Dataset, github.com/Jakobovski/free-spoken-digit-dataset.
    """
    read = read_recordings(path, pattern=_PATTERN, seconds=seconds)
    if strangers := sorted({*read.labels["speaker"].tolist()} - {*_ACCENTS}):
        raise DataError(
            f"{path} has recordings of {', '.join(strangers)}; the speakers known are {', '.join(_ACCENTS)}."
        )
    take = read.labels["take"].astype(int)
    last = take >= _TESTED + np.ceil(0.8 * (take.max() + 1 - _TESTED))
    labels = {
        "digit": read.labels["digit"],
        "speaker": read.labels["speaker"],
        "accent": np.array([_ACCENTS[name] for name in read.labels["speaker"]], dtype=object),
        "text": np.array([_WORDS[int(digit)] for digit in read.labels["digit"]], dtype=object),
        "part": np.where(take < _TESTED, "test", np.where(last, "validation", "train")).astype(object),
    }
    return replace(read, labels=labels)
