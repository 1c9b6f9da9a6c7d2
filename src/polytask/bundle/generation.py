"""Whole answers from a network that says the next word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from polytask.bundle.bundle import Bundle
from polytask.bundle.network import Network
from polytask.data.answers import END, AnswerTransform
from polytask.errors import InputError
from polytask.shapes import Tensor
from polytask.tasks.tagging import Tagging

__all__ = ["generate", "score_answers"]


@dataclass(frozen=True)
class _Begun:
    """An answer so far, and the logarithm of its chance."""

    words: tuple[str, ...] = ()
    chance: float = 0.0
    is_whole: bool = False

    @property
    def rank(self) -> float:
        """By the mean over its words, the end among them, because each word more makes an answer less likely."""
        return self.chance / max(len(self.words) + self.is_whole, 1)


def generate(
    bundle: Bundle, texts: Sequence[Any], task: str, source: str | None = None, *, beam: int = 4, longest: int = 0
) -> list[list[str]]:
    """Write an answer to each text, word by word.

    Args:
        bundle: A bundle that was trained on :class:`~polytask.training.answer_data.AnswerData`.
        texts: Texts, or their lists of words.
        task: The task that says the next word.
        source: The source whose texts these are; may be left out if there is only one.
        beam: Answers that are pursued at once; 1 takes the likeliest next word each time.
        longest: Words of an answer at most; as many as in training if 0.

    Returns:
        The words of each answer: of those that came to an end in the beam, the one with the largest mean logarithm of
        its words' chances; the likeliest beginning if none did.

    Raises:
        InputError: If the bundle does not write answers for the source, or the beam is smaller than 1.

    References:
        Graves, Sequence Transduction with Recurrent Neural Networks, 2012 (beam search); Wu et al., Google's Neural
        Machine Translation System, 2016, section 7 (chances by length).
    """
    name = bundle.source(source)
    transform, kind = bundle.texts.get(name), bundle.task(task)
    if not isinstance(transform, AnswerTransform) or not isinstance(kind, Tagging):
        raise InputError(f"Task {task!r} writes no answers to texts of {name!r}; train it on AnswerData.")
    if beam < 1:
        raise InputError(f"A beam holds at least one answer, got {beam}.")
    network = next(n for n in bundle.networks if task in n.tasks and name in n.sources)
    names = [str(word) for word in kind.fitted(kind.classes_).names]
    most = min(longest or transform.answer_length, transform.answer_length)
    codes = transform.transform(texts)
    network.model.eval()
    writer = _Writer(transform, network, task, name, names, beam, most)
    return [writer.answer({key: rows[i : i + 1] for key, rows in codes.items()}) for i in range(len(codes["words"]))]


@dataclass(frozen=True)
class _Writer:
    """What is needed to write one text's answer after another."""

    transform: AnswerTransform
    network: Network
    task: str
    source: str
    names: list[str]
    beam: int
    most: int

    def answer(self, row: dict[str, Tensor]) -> list[str]:
        """The answer to one text."""
        begun = [_Begun()]
        for place in range(self.most + 1):
            going = [one for one in begun if not one.is_whole]
            if not going:
                break
            grown = [one for one in begun if one.is_whole]
            for one, said in zip(going, self._next(row, going, place), strict=True):
                top = said.topk(min(self.beam, len(self.names)))
                for chance, code in zip(top.values.tolist(), top.indices.tolist(), strict=True):
                    if self.names[code] == END:
                        grown.append(_Begun(one.words, one.chance + chance, True))
                    elif place < self.most:
                        grown.append(_Begun((*one.words, self.names[code]), one.chance + chance))
            begun = sorted(grown, key=lambda one: (-one.rank, one.words))[: self.beam] or begun
        whole = [one for one in begun if one.is_whole]
        return list(max(whole or begun, key=lambda one: one.rank).words)

    @torch.no_grad()
    def _next(self, row: dict[str, Tensor], going: Sequence[_Begun], place: int) -> Tensor:
        """Logarithms of the chances of the next word of each answer."""
        inputs: dict[str, Any] = {key: value.expand(len(going), *value.shape[1:]) for key, value in row.items()}
        inputs["prefix"] = self.transform.prefix([one.words for one in going])
        out = self.network.model(inputs, [self.task], self.source)[self.task][:, place, : len(self.names)]
        return torch.log_softmax(out.double(), -1)


def score_answers(answers: Sequence[Sequence[str]], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """BLEU, and F1 of ROUGE-1 and ROUGE-L, in 0 to 1, of answers against one reference each; by torchmetrics.

    Example:
        >>> scores = score_answers([["a", "cat", "sat", "here"]], [["a", "cat", "sat", "here"]])
        >>> scores["bleu"], scores["rouge_l"]
        (1.0, 1.0)

    References:
        Papineni et al., BLEU, ACL 2002; Lin, ROUGE, 2004.
    """
    from torchmetrics.functional.text import bleu_score
    from torchmetrics.functional.text.rouge import rouge_score

    ours, theirs = ([" ".join(words) for words in rows] for rows in (answers, references))
    rouge = rouge_score(ours, theirs, rouge_keys=("rouge1", "rougeL"), tokenizer=str.split, normalizer=lambda t: t)
    return {
        "bleu": bleu_score(ours, [[one] for one in theirs]).item(),
        "rouge_1": rouge["rouge1_fmeasure"].item(),
        "rouge_l": rouge["rougeL_fmeasure"].item(),
    }
