"""Recordings from folders and zip archives of WAV files, as one array of waves."""

from __future__ import annotations

import io
import os
import wave
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from math import gcd
from pathlib import Path
from typing import IO

import numpy as np

from polytask.data.files import Files, labels_of_names
from polytask.errors import DataError, InputError

__all__ = ["ENDINGS", "Recordings", "decoded_wav", "read_recordings", "resampled", "wav_length", "write_wav"]

ENDINGS = (".wav",)
_FASTEST = 1_000_000
"""Samples a second; the filter of a resampling is as long as the faster of two rates."""


@dataclass(frozen=True)
class Recordings:
    """Recordings with what their names say.

    Args:
        waves: float32 ``[N, L]`` in -1 to 1, with zeros after the end of each.
        seconds: ``[N]``, the length of each; ``waves`` may hold less of it.
        rate: Samples a second.
        labels: What the names say, ``[N]`` texts by label.
        files: Name of each.
    """

    waves: np.ndarray
    seconds: np.ndarray
    rate: int
    labels: Mapping[str, np.ndarray]
    files: tuple[str, ...]


def read_recordings(
    path: str | os.PathLike[str],
    *,
    pattern: str | None = None,
    seconds: float | None = None,
    rate: int | None = None,
) -> Recordings:
    """Read a folder or a zip archive of WAV files, however deep they lie in it.

    Channels are averaged. Recordings are put side by side in one array as long as the longest of them, so that memory
    is number times longest; ``seconds`` cuts the few long ones.

    Args:
        path: Folder, or zip archive.
        pattern: A regular expression for the whole name of a file without its ending; its named groups become labels:
            ``(?P<digit>[0-9])_(?P<speaker>[a-z]+)_.*``. If ``None``, the name of the folder that a file lies in is its
            label ``folder``.
        seconds: Keep this much of each recording.
        rate: Bring all to so many samples a second; if ``None`` those of the first file.

    Raises:
        DataError: If there is no such folder or archive, or no WAV file in it.
        InputError: If a file is damaged, empty, or of a sort that is not read; names the file.
        RecipeError: If the pattern is no regular expression with named groups, or a file does not match it.

    Example:
        >>> import tempfile
        >>> from polytask.data import spoken_syllables, write_wav
        >>> made = spoken_syllables(2, n_speakers=1, n_syllables=2)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for i, samples in enumerate(made.waves):
        ...         write_wav(Path(folder) / f"{made.labels['syllable'][i]}_{i}.wav", samples, made.rate)
        ...     read = read_recordings(folder, pattern="(?P<syllable>.*)_[0-9]+")
        >>> read.waves.shape[0], read.rate, sorted(set(read.labels["syllable"])) == sorted(set(made.labels["syllable"]))
        (4, 8000, True)
    """
    if not Path(path).is_dir() and not zipfile.is_zipfile(path):
        raise DataError(f"{path} is neither a folder nor a zip archive of WAV files.")
    files = Files(Path(path))
    names = files.names(ENDINGS)
    if not names:
        raise DataError(f"{path} holds no WAV file (*.wav).")
    labels = labels_of_names(names, pattern)
    found: list[np.ndarray] = []
    lengths: list[float] = []
    for file in names:
        with files.opened(file) as opened:
            samples, own = decoded_wav(file, opened)
        rate = rate or own
        samples = resampled(samples, own, rate, file)
        lengths.append(len(samples) / rate)
        found.append(samples if seconds is None else samples[: max(round(seconds * rate), 1)])
    waves = np.zeros((len(found), max(map(len, found))), dtype=np.float32)
    for row, samples in zip(waves, found, strict=True):
        row[: len(samples)] = samples
    return Recordings(waves, np.array(lengths), int(rate or 0), labels, tuple(names))


def write_wav(path: str | os.PathLike[str], samples: np.ndarray, rate: int) -> None:
    """Write samples in -1 to 1 as a WAV file of one channel and 16 bits; louder ones are clipped.

    Raises:
        InputError: If a sample is NaN.
    """
    if np.isnan(samples).any():
        raise InputError(f"{path}: samples must be numbers, got NaN.")
    whole = np.clip(np.rint(np.asarray(samples, dtype=np.float64) * 32767), -32768, 32767).astype("<i2")
    with wave.open(os.fspath(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(whole.tobytes())


def _header(file: str, opened: IO[bytes]) -> tuple[wave.Wave_read, int]:
    """A WAV file's reader behind its header, and the bytes of its samples; nothing of them is read.

    Raises:
        InputError: If it is no such file, or of a sort that is not read.
    """
    try:
        reader = wave.Wave_read(opened)
    except (wave.Error, EOFError) as error:
        why = str(error) or "it ends too early"
        raise InputError(f"{file} is no WAV file that can be read (PCM of 8, 16, 24 or 32 bits): {why}.") from error
    rate, width = reader.getframerate(), reader.getsampwidth()
    frame = reader.getnchannels() * width
    if not 0 < rate <= _FASTEST:
        raise InputError(f"{file} says that it has {rate:,} samples a second; 1 to {_FASTEST:,} are read.")
    if width not in (1, 2, 3, 4) or frame == 0:
        raise InputError(f"{file} has samples of {width} bytes; 8, 16, 24 or 32 bits are read.")
    return reader, reader.getnframes() * frame


def wav_length(file: str, opened: IO[bytes]) -> tuple[int, int]:
    """Samples and rate of a WAV file, by its header and its size alone.

    Raises:
        InputError: If it is no such file, is of a sort that is not read, is cut short or empty.
    """
    reader, wanted = _header(file, opened)
    frame = reader.getnchannels() * reader.getsampwidth()
    _check_bytes(file, min(wanted, opened.seek(0, io.SEEK_END)), wanted, frame)
    return reader.getnframes(), reader.getframerate()


def _check_bytes(file: str, found: int, wanted: int, frame: int) -> None:
    if found < wanted:
        raise InputError(f"{file} is cut short: its header says {wanted // frame} samples, it has {found // frame}.")
    if not found:
        raise InputError(f"{file} holds no sample.")


def decoded_wav(file: str, opened: IO[bytes]) -> tuple[np.ndarray, int]:
    """Samples ``[L]`` of a WAV file in -1 to 1, its channels averaged, and its rate.

    Raises:
        InputError: If it is no such file, is of a sort that is not read, is cut short or empty.
    """
    reader, wanted = _header(file, opened)
    channels, width, rate = reader.getnchannels(), reader.getsampwidth(), reader.getframerate()
    try:
        data = reader.readframes(reader.getnframes())
    except (wave.Error, EOFError, OSError) as error:
        raise InputError(f"{file} is no WAV file that can be read: {error}.") from error
    _check_bytes(file, len(data), wanted, channels * width)
    if width == 3:
        bytes_ = np.frombuffer(data, np.uint8).reshape(-1, 3)
        whole = np.zeros((len(bytes_), 4), np.uint8)
        whole[:, 1:] = bytes_
        samples = whole.view("<i4").ravel() / 2.0**31
    elif width == 1:
        samples = np.frombuffer(data, np.uint8) / 128.0 - 1.0
    else:
        samples = np.frombuffer(data, f"<i{width}") / 2.0 ** (8 * width - 1)
    return samples.reshape(-1, channels).mean(1).astype(np.float32), rate


def resampled(samples: np.ndarray, own: int, rate: int, file: str, most: int | None = None) -> np.ndarray:
    """Samples of another rate; the first ``most`` of them, if it is given, of no more than what these depend on.

    Raises:
        InputError: If the rate is none.
    """
    if own == rate:
        return samples[:most]
    from scipy.signal import resample_poly

    if rate <= 0:
        raise InputError(f"{file}: cannot bring {own} samples a second to {rate}.")
    shared = gcd(own, rate)
    up, down = rate // shared, own // shared
    if most is not None:  # half a filter beyond the last one; a few bytes of a slow recording are hours of a fast one
        samples = samples[: -(-(most * down + 10 * max(up, down)) // up) + 1]
    out: np.ndarray = resample_poly(samples, up, down).astype(np.float32)
    return out[:most]
