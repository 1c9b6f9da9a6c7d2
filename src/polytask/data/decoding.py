"""Files of images and recordings to tensors, a batch at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch

from polytask.data.audio import decoded_wav, resampled, wav_length
from polytask.data.files import Files
from polytask.data.images import GREY_MODES, opened_image
from polytask.errors import DataError, InputError
from polytask.shapes import Tensor
from polytask.wording import counted

__all__ = ["FileTransform", "Form", "PixelTransform", "WaveTransform", "file_transform"]

Form = Literal["pixels", "waves", "words"]
"""How the cells of a column are read."""


_FEW_COLOURED = 0.1
"""Share of images with colours among grey ones below which a note asks whether they are meant."""


class FileTransform(ABC):
    """How the files that a column names become tensors; what it must know is learned from headers alone.

    Args:
        column: The column.
    """

    form: ClassVar[Form]

    def __init__(self, column: str):
        self.column = column

    @abstractmethod
    def fit(self, files: Files, names: Sequence[str], rows: np.ndarray) -> list[str]:
        """Look at the header of every file; learn from the training rows.

        Returns:
            What the reader should know.

        Raises:
            InputError: If a file cannot be used, as far as its header tells; names it.
        """

    @abstractmethod
    def decode(self, files: Files, names: Sequence[str]) -> Tensor:
        """Some of the files as one tensor.

        Raises:
            InputError: If one cannot be read; names it.
        """

    def check(self, files: Files, name: str) -> None:
        """Raise if a file cannot be read, before it is read together with those of others.

        Raises:
            InputError: If so, which is a ``ValueError``.
        """
        self.decode(files, [name])

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Shape of a row."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Everything, as JSON can hold it."""

    @abstractmethod
    def load_state(self, state: Mapping[str, Any]) -> Self:
        """Take back what :meth:`state` gave."""


class PixelTransform(FileTransform):
    """Images of one size as bytes ``[B, C, H, W]``; grey if all training images are.

    Args:
        column: The column that names the files.
        side: Bring all images to so many pixels a side, whatever their sizes; if ``None`` all must have one size.
    """

    form = "pixels"

    def __init__(self, column: str, side: int | None = None):
        super().__init__(column)
        self.side = side
        self.size = (side or 0, side or 0)
        self.is_grey = False

    def fit(self, files: Files, names: Sequence[str], rows: np.ndarray) -> list[str]:
        """Learn the size, and whether there are colours."""
        is_training = np.zeros(len(names), dtype=bool)
        is_training[rows] = True
        coloured: list[str] = []
        for row, name in enumerate(names):
            with files.opened(name) as file, opened_image(file, files.shown(name)) as image:
                size, is_grey = image.size, image.mode in GREY_MODES
            if self.side is None:
                self.size = size if row == 0 else self.size
                self._check(files.shown(name), size)
            if is_training[row] and not is_grey:
                coloured.append(name)
        self.is_grey = not coloured
        n_training = int(is_training.sum())
        if 0 < len(coloured) < _FEW_COLOURED * n_training:
            which = (
                f"{counted(len(coloured), 'image')} of {n_training:,} in training "
                f"{'has' if len(coloured) == 1 else 'have'} colours ({files.shown(coloured[0])}), so that all are read "
                "with three channels: save them as grey ones if the colours mean nothing."
            )
            return [which]
        return []

    def decode(self, files: Files, names: Sequence[str]) -> Tensor:
        """Pixels of 8 bits."""
        mode, (width, height) = "L" if self.is_grey else "RGB", self.size
        pixels = np.empty((len(names), *self.shape), dtype=np.uint8)
        for row, name in enumerate(names):
            shown = files.shown(name)
            with files.opened(name) as file, opened_image(file, shown) as image:
                if self.side is None:
                    self._check(shown, image.size)
                else:
                    image.draft(mode, self.size)
                made = image.convert(mode)
                found = np.asarray(made if made.size == self.size else made.resize((width, height)))
            pixels[row] = found[None] if self.is_grey else found.transpose(2, 0, 1)
        return torch.from_numpy(pixels)

    def _check(self, shown: str, size: tuple[int, int]) -> None:
        if size != self.size:
            raise InputError(
                f"{shown} is {size[0]} x {size[1]} pixels, but the first is {self.size[0]} x {self.size[1]}. All "
                "images of a source need the same size: crop or scale them first, or have them scaled by reads.side."
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """Channels, height and width."""
        return (1 if self.is_grey else 3, self.size[1], self.size[0])

    def state(self) -> dict[str, Any]:
        """Size and colours."""
        return {"form": self.form, "column": self.column, "side": self.side, "shape": list(self.shape)}

    def load_state(self, state: Mapping[str, Any]) -> PixelTransform:
        """Take back what :meth:`state` gave."""
        channels, height, width = map(int, state["shape"])
        self.size, self.is_grey = (width, height), channels == 1
        return self


class WaveTransform(FileTransform):
    """WAV files as waves ``[B, L]`` in -1 to 1 of one rate, as long as the longest in training, zeros after the end.

    Args:
        column: The column that names the files.
        seconds: Keep this much of each recording.
        rate: Bring all to so many samples a second; if ``None`` those of the first file.
    """

    form = "waves"

    def __init__(self, column: str, seconds: float | None = None, rate: int | None = None):
        super().__init__(column)
        self.seconds, self.rate = seconds, rate
        self.n_samples = 0

    def fit(self, files: Files, names: Sequence[str], rows: np.ndarray) -> list[str]:
        """Learn the rate and the length."""
        lengths = np.zeros(len(names), dtype=np.int64)
        for row, name in enumerate(names):
            with files.opened(name) as file:
                n_samples, own = wav_length(files.shown(name), file)
            self.rate = self.rate or own
            lengths[row] = -(-n_samples * self.rate // own)  # as many as resampling gives
        longest = int(lengths[rows].max())
        most = longest if self.seconds is None else max(round(self.seconds * int(self.rate or 0)), 1)
        self.n_samples = min(longest, most)
        others = int((lengths > self.n_samples).sum() - (lengths[rows] > self.n_samples).sum())
        if self.seconds is None and others:
            return [f"{others} recordings are longer than the longest of the training rows, and read as far as that."]
        return []

    def decode(self, files: Files, names: Sequence[str]) -> Tensor:
        """Samples, cut off or filled up with zeros."""
        waves = np.zeros((len(names), self.n_samples), dtype=np.float32)
        for row, name in enumerate(names):
            shown = files.shown(name)
            with files.opened(name) as file:
                samples, own = decoded_wav(shown, file)
            samples = resampled(samples, own, int(self.rate or own), shown, self.n_samples)
            waves[row, : len(samples)] = samples
        return torch.from_numpy(waves)

    @property
    def shape(self) -> tuple[int, ...]:
        """Samples of a row."""
        return (self.n_samples,)

    def state(self) -> dict[str, Any]:
        """Rate and length."""
        kept = {"seconds": self.seconds, "rate": self.rate, "n_samples": self.n_samples}
        return {"form": self.form, "column": self.column, **kept}

    def load_state(self, state: Mapping[str, Any]) -> WaveTransform:
        """Take back what :meth:`state` gave."""
        self.n_samples = int(state["n_samples"])
        return self


def file_transform(state: Mapping[str, Any]) -> FileTransform:
    """The transform whose state it is.

    Raises:
        DataError: If there is no such form.
    """
    if state["form"] == PixelTransform.form:
        return PixelTransform(state["column"], state["side"]).load_state(state)
    if state["form"] == WaveTransform.form:
        return WaveTransform(state["column"], state["seconds"], state["rate"]).load_state(state)
    raise DataError(f"Files are read as pixels or waves; got {state['form']!r}.")
