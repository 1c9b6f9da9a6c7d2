"""A text spelled by the elements of a row, without a word on which element says what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch

from polytask.errors import TargetError
from polytask.shapes import Bool, Float, Shaped, Tensor, object_array
from polytask.tasks._alignment import alignment_losses, beam_path, best_path, fits
from polytask.tasks._labels import Classes, column, shown
from polytask.tasks._scoring import RELATIVE_ERROR, finite, full_precision, observed_rows, relative_error, undefined
from polytask.tasks.members import SURE, where_there
from polytask.tasks.task import Metric, Prediction, Task

__all__ = ["Transcription"]


@dataclass(kw_only=True)
class Transcription(Task):
    r"""Writes down what is said: the symbols of a text, from the moments of a recording.

    Each element answers with one symbol or with a blank; a text's chance is the sum over all paths that spell it when
    repetitions are told once and blanks left out, and the loss is minus its logarithm (connectionist temporal
    classification).

    With :math:`z_l` the logits of element :math:`l`, and :math:`B` what makes a text of a path, the loss of a text
    :math:`y` is

    .. math:: -\log \sum_{\pi :\, B(\pi) = y} \; \prod_l \mathrm{softmax}(z_l)_{\pi_l} .

    Args:
        beam: Beginnings that are kept when an answer is searched; 1 takes the likeliest path.
        separator: What stands between symbols; each character is one if empty.
        symbols: The symbols in the order of the outputs; empty to take those of the training texts, sorted. One that
            no training text has is never learned, so that it costs errors wherever a text has it.
        name: See :class:`Task`, as for the other arguments.

    Shape:
        labels ``[N]`` texts; outputs ``[N, L, K + 1]``, the first for the blank, targets ``[N, S]``, values ``[N]``
        texts. Outputs ``[N, K + 1]`` are those of rows with one element. An element that is not there is a sure blank
        (:func:`polytask.tasks.members.where_there`), which changes no chance.

    Raises:
        TargetError: If all texts are missing, empty or the same, or a symbol is not in ``symbols``, or, where these
            are empty, in no training text.

    Example:
        >>> task = Transcription(name="said")
        >>> task.fit(np.array(["two", "one", None], dtype=object))
        >>> task.encode(np.array(["on"], dtype=object))
        (array([[3, 2, 0]]), array([ True]))
        >>> path = 9 * torch.eye(task.n_outputs)[torch.tensor([0, 3, 3, 0, 2, 2])]
        >>> task.decode(path.unsqueeze(0)).values.tolist()
        ['on']

    Note:
        An empty text is a recording in which nothing is said; what is missing is ``None`` or NaN. A text that needs
        more elements than there are cannot be learned: its loss is 0, and ``too_long`` tells the share of such texts; a
        shorter hop of the encoder, or fewer ``halvings``, helps. ``character_error`` is the number of changed, lost and
        added symbols over that of the symbols; ``accuracy`` is of whole texts. The relative error is the loss over that
        of elements which all answer with the training shares of the symbols, and with a blank as often as with any. The
        loss goes through the elements one after another, and at each its work grows with the length of the text; a beam
        above 1 makes only answers slower.

    References:
        Graves et al., Connectionist Temporal Classification, ICML 2006.
    """

    beam: int = 1
    separator: str = ""
    symbols: tuple[str, ...] = ()
    symbols_: Classes | None = field(default=None, init=False, repr=False)
    longest_: int = field(default=1, init=False, repr=False)

    kind: ClassVar[str] = "transcription"
    settled: ClassVar[tuple[str, str]] = ("symbols", "symbols_")
    decoding: ClassVar[str] = (
        "the largest of softmax(output[t]) at each moment t, the same one in a row taken once, zeros (the blank) "
        "left out; k stands for state.symbols[k - 1]; with a beam the likeliest text among that many"
    )
    has_mean: ClassVar[bool] = False
    link: ClassVar[str] = "path"
    of_elements: ClassVar[bool] = True
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("character_error", higher_is_better=False),
        Metric("accuracy", higher_is_better=True),
        Metric("log_loss", higher_is_better=False),
        Metric("too_long", higher_is_better=False),
        RELATIVE_ERROR,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.beam < 1:
            raise TargetError(f"{self.who} needs a beam of at least 1, got {self.beam}.")
        self.symbols = tuple(str(symbol) for symbol in self.symbols)
        if len(set(self.symbols)) < len(self.symbols) or "" in self.symbols:
            raise TargetError(f"{self.who} needs symbols that are different and not empty, got {shown(self.symbols)}.")

    def fit(self, labels: np.ndarray) -> None:
        """Learn the symbols, their shares, and the longest text."""
        rows = [row for row in self._rows(labels) if row is not None]
        if len({tuple(row) for row in rows}) < 2:
            what = f"one text only, {self.separator.join(rows[0])!r}," if rows else "no text"
            raise TargetError(f"{self.who} has {what} in its {len(labels)} rows; there is nothing to learn.")
        counts = Counter(symbol for row in rows for symbol in row)
        names = self.symbols or tuple(sorted(counts))
        self.symbols_ = Classes(names, tuple(counts[symbol] for symbol in names))
        self.longest_ = max(map(len, rows))
        if self.symbols:
            self.encode(labels)  # raises if one of them has another symbol

    def encode(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Texts to codes from 1 on, 0 after the end.

        Raises:
            TargetError: If a symbol is not known; names the row.
        """
        rows = self._rows(labels)
        observed = np.array([row is not None for row in rows], dtype=bool)
        targets = np.zeros((len(rows), max([self.longest_, *(len(row) for row in rows if row)])), dtype=np.int64)
        code = {symbol: k for k, symbol in enumerate(self.fitted(self.symbols_).names, start=1)}
        for number, row in enumerate(rows):
            for place, symbol in enumerate(row or ()):
                if symbol not in code:
                    raise TargetError(
                        f"{self.who} does not know the symbol {symbol!r} of row {number}; it knows "
                        f"{shown(list(code))}. Name every symbol in symbols, or let training rows have it."
                    )
                targets[number, place] = code[symbol]
        return targets, observed

    def is_known(self, labels: np.ndarray) -> np.ndarray:
        """Which texts have only symbols that training saw, or ``symbols`` names."""
        known = set(self.fitted(self.symbols_).names)
        return np.array([row is None or known.issuperset(row) for row in self._rows(labels)], dtype=bool)

    @property
    def n_outputs(self) -> int:
        """One logit for each symbol, after that of the blank."""
        return 1 + len(self.fitted(self.symbols_))

    def label_losses(self, outputs: Float[Tensor, "*N L K"], targets: Shaped[Tensor, "*N S"]) -> Float[Tensor, "*N"]:
        """Minus the logarithm of each text's chance."""
        by_element = outputs.unsqueeze(-2) if outputs.ndim == targets.ndim else outputs
        return alignment_losses(torch.log_softmax(full_precision(by_element), -1), targets.long())

    def decode(self, outputs: Float[Tensor, "N L K"]) -> Prediction:
        """The texts of the likeliest paths, or the likeliest texts in the beam."""
        names = self.fitted(self.symbols_).names
        z = finite(self.name, outputs)
        z = z.unsqueeze(1) if z.ndim == 2 else z
        heard = zip(torch.log_softmax(z, -1), _lengths(z).tolist(), strict=True)
        found = [best_path(row[:n]) if self.beam == 1 else beam_path(row[:n], self.beam) for row, n in heard]
        texts = [self.separator.join(str(names[code - 1]) for code in codes) for codes in found]
        return Prediction(object_array(texts))

    def outputs_from(self, prediction: Prediction) -> Float[Tensor, "N L K"]:
        """A sure path that spells each text, a blank after each of its symbols."""
        codes, _ = self.encode(np.asarray(prediction.values, dtype=object))
        path = torch.stack([torch.from_numpy(codes), torch.zeros(codes.shape, dtype=torch.int64)], -1).flatten(1)
        return torch.nn.functional.one_hot(path, self.n_outputs).double().clamp(1e-12, 1.0).log()

    def evaluate(
        self, outputs: Float[Tensor, "N L K"], targets: Shaped[Tensor, "N S"], observed: Bool[Tensor, " N"]
    ) -> dict[str, float]:
        """Metrics over the observed texts."""
        seen = observed_rows(outputs, targets, observed)
        if seen is None:
            return undefined(self.metrics)
        z, y = seen[0], seen[1].long()
        z = z.unsqueeze(1) if z.ndim == 2 else z
        names = self.fitted(self.symbols_).names
        truth = [[names[code - 1] for code in row if code] for row in y.tolist()]
        answers = [self._symbols(text) for text in self.decode(z).values]
        lengths = _lengths(z)
        there = torch.arange(z.shape[1]) < lengths[:, None]
        constant = where_there(self.initial_bias().to(z).expand(*z.shape[:-1], -1), there, self.link)
        losses = self.label_losses(z, y)
        return {
            "character_error": sum(map(_edits, answers, truth)) / max(sum(map(len, truth)), 1),
            "accuracy": float(np.mean([a == t for a, t in zip(answers, truth, strict=True)])),
            "log_loss": losses.mean().item(),
            "too_long": (~fits(y, lengths)).double().mean().item(),
            "relative_error": relative_error(losses, self.label_losses(constant, y)),
        }

    def initial_bias(self) -> Float[Tensor, " K"]:
        """Logarithms of the training shares of the symbols, and for the blank that of the largest."""
        shares = np.log(self.fitted(self.symbols_).shares)
        return torch.as_tensor(np.concatenate([[shares.max()], shares]), dtype=torch.get_default_dtype())

    def constant_outputs(self, targets: Shaped[Tensor, "N S"]) -> Float[Tensor, "N L K"]:
        """The initial bias for twice as many elements as a text can have symbols."""
        return self.initial_bias().expand(len(targets), 2 * targets.shape[1] + 1, -1)

    def state(self) -> dict[str, Any]:
        """Symbols, counts and the longest text."""
        symbols = self.fitted(self.symbols_)
        return {"symbols": list(symbols.names), "counts": list(symbols.counts), "longest": self.longest_}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take back what :meth:`state` gave."""
        self.symbols_ = Classes(tuple(state["symbols"]), tuple(state["counts"]))
        self.longest_ = int(state["longest"])

    def _symbols(self, text: str) -> list[str]:
        return [part for part in text.split(self.separator) if part] if self.separator else list(text)

    def _rows(self, labels: np.ndarray) -> list[list[str] | None]:
        """Symbols of each text; ``None`` where it is missing."""
        flat = column(self.who, labels).tolist()
        return [None if value is None or value != value else self._symbols(str(value).strip()) for value in flat]


def _lengths(outputs: Float[Tensor, "N L K"]) -> Tensor:
    """Elements that are there of each row."""
    return (outputs[..., 0] < SURE / 2).sum(1)


def _edits(answer: Sequence[str], truth: Sequence[str]) -> int:
    """Least number of symbols to change, drop and add that makes one text the other (Levenshtein, 1966)."""
    row = np.arange(len(truth) + 1)
    for symbol in answer:
        changed = np.minimum(row[1:] + 1, row[:-1] + np.array([symbol != other for other in truth], dtype=np.int64))
        row = np.concatenate([[row[0] + 1], changed])
        row = np.minimum.accumulate(row - np.arange(len(row))) + np.arange(len(row))
    return int(row[-1])
