"""One of K tags for each element of a row, K logits each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from torch.nn import functional as F

from polytask.errors import TargetError
from polytask.shapes import Bool, Float, Shaped, Tensor, object_array
from polytask.tasks._chain import best_chain, chain_losses, parts_of
from polytask.tasks._labels import Classes, Label, checked_order
from polytask.tasks._scoring import RELATIVE_ERROR, finite, full_precision, observed_rows, relative_error, undefined
from polytask.tasks._spans import is_bio, span_scores
from polytask.tasks.task import Metric, Prediction, Task

__all__ = ["Tagging"]


@dataclass(kw_only=True)
class Tagging(Task):
    r"""Predicts a tag for each element of a row: the part of speech of each word, the names in a sentence.

    The loss of an element is the cross-entropy of its tag. Elements without a tag, and those after the end of a row,
    never enter it.

    With :math:`z` the logits of an element and :math:`y` its tag, the loss without ``transitions`` is

    .. math:: -z_y + \log \sum_k e^{z_k} .

    Args:
        tags: The tags in the order of the outputs; empty to take those of the training labels, sorted.
        missing: What stands for a tag that is not known, besides ``None``.
        transitions: Whether a tag depends on the one before it (a conditional random field): the head also scores each
            tag after each, and an answer is the likeliest sequence, in which ``I-LOC`` does not follow ``B-PER``.
        name: See :class:`Task`, as for the other arguments.

    Shape:
        labels ``[N]`` sequences, or texts whose tags stand between spaces; a tag alone is a sequence of one. Outputs
        ``[N, L, K]``, with transitions ``[N, L, K + K K]``, targets and values ``[N, L]``. Outputs without L are those
        of rows with one element.

    Raises:
        TargetError: If all tags are missing, are of one sort only, or one is not in ``tags``.

    Example:
        >>> task = Tagging(name="pos")
        >>> task.fit(np.array(["DET NOUN VERB", "NOUN _", None], dtype=object))
        >>> targets, observed = task.encode(np.array(["NOUN VERB"], dtype=object))
        >>> targets.tolist(), observed.tolist()
        ([[1, 2]], [[True, True]])

    Note:
        ``span_f1`` is about spans where the tags mark some (``B-LOC``, ``I-LOC``, ``O``), over rows all of whose tags
        are known, and NaN elsewhere. ``accuracy`` is of elements. The relative error is log loss over that of the
        training shares. With transitions the loss of an element is that of its tag given those before it, summed over
        tags that are not known, so that a row's losses sum to the field's. Outputs grow with the elements times the
        tags, with transitions times the square of the tags, and the loss then goes through the elements one after
        another.

    References:
        Collobert et al., Natural Language Processing (Almost) from Scratch, JMLR 2011, section 3.3.1 (window approach).
        Lample et al., Neural Architectures for Named Entity Recognition, NAACL 2016, section 2.2 (the field's scores).
    """

    tags: tuple[Label, ...] = ()
    missing: str = "_"
    transitions: bool = False
    classes_: Classes | None = field(default=None, init=False, repr=False)

    kind: ClassVar[str] = "tagging"
    settled: ClassVar[tuple[str, str]] = ("tags", "classes_")
    decoding: ClassVar[str] = (
        "P(tag k of word l) = softmax(output[l])[k]; with transitions the best path, as the state says"
    )
    has_mean: ClassVar[bool] = False
    link: ClassVar[str] = "softmax"
    of_elements: ClassVar[bool] = True
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("accuracy", higher_is_better=True),
        Metric("span_f1", higher_is_better=True),
        Metric("log_loss", higher_is_better=False),
        RELATIVE_ERROR,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.tags = checked_order(self.who, "tags", self.tags)

    def fit(self, labels: np.ndarray) -> None:
        """Learn the tags and their shares."""
        rows = self._rows(labels)
        flat = object_array([tag for row in rows for tag in row])
        self.classes_ = Classes.learn(self.who, flat, self.tags, _places(rows))

    def encode(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Tags to positions among the classes, as wide as the longest row.

        Raises:
            TargetError: If a tag is none of the classes; names the row and the element.
        """
        classes = self.fitted(self.classes_)
        rows = self._rows(labels)
        targets = np.zeros((len(rows), max(1, *map(len, rows)) if rows else 1), dtype=np.int64)
        observed = np.zeros(targets.shape, dtype=bool)
        lengths = np.array([len(row) for row in rows], dtype=np.int64)
        inside = np.arange(targets.shape[1]) < lengths[:, None]
        flat = object_array([tag for row in rows for tag in row])
        targets[inside], observed[inside] = classes.encode(self.who, flat, _places(rows))
        if self.transitions:
            targets[~observed] = -1  # which the tags around it are summed over
        return targets, observed

    def is_known(self, labels: np.ndarray) -> np.ndarray:
        """Which rows have only tags that training saw, or ``tags`` names."""
        classes = self.fitted(self.classes_)
        return np.array([bool(classes.is_known(self.who, object_array(row)).all()) for row in self._rows(labels)], bool)

    @property
    def n_outputs(self) -> int:
        """One logit for each tag, and with transitions one for each pair of tags."""
        n = len(self.fitted(self.classes_))
        return n + n * n * self.transitions

    def label_losses(self, outputs: Float[Tensor, "*N L K"], targets: Shaped[Tensor, "*N L"]) -> Float[Tensor, "*N L"]:
        """Cross-entropy of each element."""
        z = full_precision(_by_element(outputs, targets))
        if self.transitions:
            return chain_losses(*parts_of(z, len(self.fitted(self.classes_))), targets.long())
        log_p = torch.log_softmax(z, dim=-1)
        return -log_p.gather(-1, targets.long().unsqueeze(-1)).squeeze(-1)

    def loss(
        self, outputs: Float[Tensor, "B L K"], targets: Shaped[Tensor, "B L"], observed: Bool[Tensor, "B L"]
    ) -> Float[Tensor, " N"]:
        """One value per observed tag, whatever stands where none is observed."""
        return super().loss(outputs, self._hidden(targets, observed), observed)

    def decode(self, outputs: Float[Tensor, "N L K"]) -> Prediction:
        """The likeliest tag of each element, or the likeliest tags of a row."""
        z = finite(self.name, outputs)
        return Prediction(self.fitted(self.classes_).decode(self._best(z.unsqueeze(1) if z.ndim == 2 else z).numpy()))

    def outputs_from(self, prediction: Prediction) -> Float[Tensor, "N L K"]:
        """Logarithms of certainty."""
        classes = self.fitted(self.classes_)
        codes, _ = classes.encode(self.who, np.asarray(prediction.values).ravel())
        sure = F.one_hot(torch.from_numpy(codes), len(classes)).double().clamp(1e-12, 1.0).log()
        sure = sure.view(*np.shape(prediction.values), len(classes))
        return F.pad(sure, (0, self.n_outputs - len(classes)))

    def evaluate(
        self, outputs: Float[Tensor, "N L K"], targets: Shaped[Tensor, "N L"], observed: Bool[Tensor, "N L"]
    ) -> dict[str, float]:
        """Metrics over the observed elements."""
        seen = observed_rows(outputs, self._hidden(targets, observed), observed)
        if seen is None:
            return undefined(self.metrics)
        z, y, there = _by_element(seen[0], seen[1]), seen[1].long(), seen[2]
        errors = self.label_losses(z, y)[there]
        answers = self._best(z)
        log_shares = torch.from_numpy(np.log(self.fitted(self.classes_).shares))
        return {
            "accuracy": (answers == y)[there].double().mean().item(),
            "span_f1": self._span_f1(y, answers, there),
            "log_loss": errors.mean().item(),
            "relative_error": relative_error(errors, -log_shares[y[there]]),
        }

    def initial_bias(self) -> Float[Tensor, " K"]:
        """Logarithms of the training shares."""
        shares = torch.as_tensor(np.log(self.fitted(self.classes_).shares), dtype=torch.get_default_dtype())
        return F.pad(shares, (0, self.n_outputs - len(shares)))

    def state(self) -> dict[str, Any]:
        """Tags and counts."""
        classes = self.fitted(self.classes_)
        return {"classes": list(classes.names), "counts": list(classes.counts)}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take back what :meth:`state` gave."""
        self.classes_ = Classes(tuple(state["classes"]), tuple(state["counts"]))

    def _hidden(self, targets: Shaped[Tensor, "N L"], observed: Bool[Tensor, "N L"]) -> Shaped[Tensor, "N L"]:
        """With transitions, -1 for each tag that is not observed, as a chain sums over those."""
        return targets.masked_fill(~observed, -1) if self.transitions else targets

    def _best(self, z: Float[Tensor, "N L O"]) -> Shaped[Tensor, "N L"]:
        return best_chain(*parts_of(z, len(self.fitted(self.classes_)))) if self.transitions else z.argmax(-1)

    def _span_f1(self, truth: Tensor, answers: Tensor, there: Tensor) -> float:
        names = self.fitted(self.classes_).names
        if not is_bio(names):
            return float("nan")
        rows = [
            ([names[k] for k in y[:n]], [names[k] for k in a[:n]])
            for y, a, seen in zip(truth.tolist(), answers.tolist(), there.tolist(), strict=True)
            if (n := sum(seen)) and all(seen[:n])
        ]
        return span_scores([y for y, _ in rows], [a for _, a in rows])

    def _rows(self, labels: np.ndarray) -> list[list[Any]]:
        """Each row's tags, ``None`` where one is missing; no tag for a row without labels."""
        table = np.asarray(labels)
        if table.ndim == 2 and table.shape[1] == 1:
            table = table[:, 0]
        if table.ndim != 1:
            raise TargetError(f"{self.who} needs one sequence of tags a row, got an array of shape {table.shape}.")
        return [self._tags_of(value) for value in table.tolist()]

    def _tags_of(self, value: Any) -> list[Any]:
        if isinstance(value, list | tuple | np.ndarray):
            tags: Sequence[Any] = list(value)
        elif isinstance(value, str):
            tags = value.split()
        else:
            return [] if pd.isna(value) else [value]
        return [None if tag is None or tag == self.missing or pd.isna(tag) else tag for tag in tags]


def _places(rows: Sequence[Sequence[Any]]) -> Callable[[int], str]:
    """What messages call a position among the tags of all rows."""

    def place(position: int) -> str:
        ends = np.cumsum([len(row) for row in rows])
        row = int(np.searchsorted(ends, position, side="right"))
        return f"row {row}, element {position - int(ends[row]) + len(rows[row])}"

    return place


def _by_element(outputs: Tensor, targets: Tensor) -> Tensor:
    """Outputs with a dimension for the elements, which rows of one element may have left out."""
    return outputs.unsqueeze(-2) if outputs.ndim == targets.ndim else outputs
