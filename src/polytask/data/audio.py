"""Recordings from folders and zip archives of WAV files, as one array of waves."""

from __future__ import annotations

import io
import os
import re
import wave
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from polytask.errors import DataError, InputError, RecipeError

__all__ = ["Recordings", "read_recordings", "write_wav"]

_MOST_BYTES = 1 << 28
"""A file in an archive may say that it unpacks to this much; more is no recording but an attack on the memory."""


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
    names = _compiled(pattern)
    contents = sorted(_contents(Path(path)))
    if not contents:
        raise DataError(f"{path} holds no WAV file (*.wav).")
    found: list[np.ndarray] = []
    lengths: list[float] = []
    for file, raw in contents:
        samples, own = _decoded(file, raw)
        rate = rate or own
        if own != rate:
            samples = _resampled(samples, own, rate, file)
        lengths.append(len(samples) / rate)
        found.append(samples if seconds is None else samples[: max(round(seconds * rate), 1)])
    waves = np.zeros((len(found), max(map(len, found))), dtype=np.float32)
    for row, samples in zip(waves, found, strict=True):
        row[: len(samples)] = samples
    files = tuple(file for file, _ in contents)
    return Recordings(waves, np.array(lengths), int(rate or 0), _labels(files, names), files)


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


def _compiled(pattern: str | None) -> re.Pattern[str] | None:
    if pattern is None:
        return None
    try:
        made = re.compile(pattern)
    except re.error as error:
        raise RecipeError(f"{pattern!r} is no regular expression: {error}.") from error
    if not made.groupindex:
        raise RecipeError(f"{pattern!r} names no group; write (?P<digit>[0-9]) for what shall be the label 'digit'.")
    return made


def _contents(path: Path) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of each WAV file; one at a time."""
    if path.is_dir():
        for file in path.rglob("*"):
            if file.suffix.lower() == ".wav" and not file.name.startswith("."):
                yield file.relative_to(path).as_posix(), file.read_bytes()
    elif path.is_file() and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                name = PurePosixPath(entry.filename)
                if name.suffix.lower() != ".wav" or name.name.startswith("."):
                    continue
                if entry.file_size > _MOST_BYTES:
                    raise InputError(f"{path}: {name} would unpack to {entry.file_size >> 20} MiB; split it first.")
                try:
                    yield name.as_posix(), archive.read(entry)
                except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, EOFError) as error:
                    raise InputError(f"{path}: {name} cannot be unpacked: {error}.") from error
    else:
        raise DataError(f"{path} is neither a folder nor a zip archive of WAV files.")


def _decoded(file: str, raw: bytes) -> tuple[np.ndarray, int]:
    """Samples ``[L]`` in -1 to 1, and the rate."""
    try:
        with wave.open(io.BytesIO(raw)) as reader:
            channels, width, rate = reader.getnchannels(), reader.getsampwidth(), reader.getframerate()
            wanted, data = reader.getnframes(), reader.readframes(reader.getnframes())
    except (wave.Error, EOFError) as error:
        why = str(error) or "it ends too early"
        raise InputError(f"{file} is no WAV file that can be read (PCM of 8, 16, 24 or 32 bits): {why}.") from error
    frame = channels * width
    if rate <= 0:
        raise InputError(f"{file} says that it has {rate} samples a second.")
    if width not in (1, 2, 3, 4) or frame == 0:
        raise InputError(f"{file} has samples of {width} bytes; 8, 16, 24 or 32 bits are read.")
    if len(data) < wanted * frame:
        raise InputError(f"{file} is cut short: its header says {wanted} samples, it has {len(data) // frame}.")
    if not data:
        raise InputError(f"{file} holds no sample.")
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


def _resampled(samples: np.ndarray, own: int, rate: int, file: str) -> np.ndarray:
    from math import gcd

    from scipy.signal import resample_poly

    if rate <= 0:
        raise InputError(f"{file}: cannot bring {own} samples a second to {rate}.")
    shared = gcd(own, rate)
    out: np.ndarray = resample_poly(samples, rate // shared, own // shared).astype(np.float32)
    return out


def _labels(files: tuple[str, ...], names: re.Pattern[str] | None) -> dict[str, np.ndarray]:
    if names is None:
        return {"folder": np.array([PurePosixPath(file).parent.name for file in files], dtype=object)}
    matches = []
    for file in files:
        match = names.fullmatch(PurePosixPath(file).stem)
        if match is None:
            raise RecipeError(f"The name {file!r} does not match the pattern {names.pattern!r}.")
        matches.append(match)
    return {label: np.array([match[label] for match in matches], dtype=object) for label in names.groupindex}
