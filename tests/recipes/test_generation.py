"""Answers that are texts: teacher forcing, beams against every answer, BLEU and ROUGE, bundles."""

import itertools
import math

import numpy as np
import pytest
import torch

from polytask import Recipe
from polytask.bundle.generation import generate
from polytask.data import Vocabulary, made_up_sentences
from polytask.data.answers import END, AnswerTransform
from polytask.errors import DataError, InputError
from polytask.models.encoders.seq2seq import Seq2Seq
from polytask.models.inputs import Field, InputShape
from polytask.training.answer_data import AnswerData
from polytask.training.text_data import TextData

SMALL = {"name": "seq2seq", "width": 32, "n_layers": 1, "n_heads": 2, "dropout": 0.0}


def rows(n=400):
    """Lists of letters; the answer has those that come twice in a row once."""
    draw = np.random.default_rng(0)
    texts = [list(draw.choice(list("abcd"), draw.integers(1, 5))) for _ in range(n)]
    answers = [[k for k, _ in itertools.groupby(text)] for text in texts]
    return [list(map(str, t)) for t in texts], [list(map(str, a)) for a in answers]


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    texts, answers = rows()
    vocabulary = Vocabulary(fewest=1)
    sentences = made_up_sentences(60)
    data = [
        AnswerData("lists", texts, answers, "said", vocabulary),
        TextData("notes", [row["words"] for row in sentences], {"pos": [r["pos"] for r in sentences]}, vocabulary),
    ]
    out = tmp_path_factory.mktemp("generation") / "run"
    recipe = Recipe(
        tasks={"said": "tagging", "pos": "tagging"},
        encoder=SMALL,
        training={"epochs": 25, "batch_size": 32, "learning_rate": 5e-3},
    )
    return recipe.run(data, out=out), out


def test_a_wide_beam_finds_the_best_of_all_answers(done):
    run, _ = done
    bundle = run.bundle
    transform, network, kind = bundle.texts["lists"], bundle.models[0], bundle.task("said")
    names = list(kind.classes_.names)
    texts = [["a", "b", "b"], ["d"]]
    codes = transform.transform(texts)
    for number, text in enumerate(texts):
        best, found = -math.inf, None
        for n in range(3):
            for words in itertools.product([w for w in names if w != END], repeat=n):
                inputs = {key: value[number : number + 1] for key, value in codes.items()}
                inputs["prefix"] = transform.prefix([words])
                chances = network.model(inputs, ["said"], "lists")["said"][0].double().log_softmax(-1)
                said = [*words, END]
                mean = sum(chances[i, names.index(word)].item() for i, word in enumerate(said)) / len(said)
                if mean > best:
                    best, found = mean, list(words)
        assert generate(bundle, [text], "said", "lists", beam=200, longest=2) == [found]
    greedy = generate(bundle, texts, "said", "lists", beam=1)
    assert all(set(words) <= set("abcd") for words in greedy)


def test_a_place_sees_what_was_written_before_it_and_nothing_after():
    shape = InputShape({"words": Field((5,), (9,)), "prefix": Field((4,), (7,))})
    encoder = Seq2Seq({"titles": shape}, width=8, n_heads=2).eval()
    words = torch.tensor([[2, 3, 4, 0, 0], [5, 0, 0, 0, 0]])
    one = encoder({"words": words, "prefix": torch.tensor([[1, 3, 4, 5], [1, 2, 0, 0]])}).view(2, 4, 8)
    other = encoder({"words": words, "prefix": torch.tensor([[1, 3, 6, 2], [1, 2, 0, 0]])}).view(2, 4, 8)
    torch.testing.assert_close(one[0, :2], other[0, :2])
    assert not torch.allclose(one[0, 2], other[0, 2])
    torch.testing.assert_close(one[1], other[1])
    alone = encoder({"words": words[1:, :1], "prefix": torch.tensor([[1, 2]])}).view(1, 2, 8)
    torch.testing.assert_close(alone[0], one[1, :2])
    turned = encoder({"words": words.flip(1), "prefix": torch.tensor([[1, 3, 4, 5], [1, 2, 0, 0]])}).view(2, 4, 8)
    assert not torch.allclose(turned[0], one[0])


def test_answers_are_cut_and_unknown_words_are_not_learned():
    transform = AnswerTransform(n_written=2)
    transform.learn_answers([["x", "x", "y"], ["z"]], longest=2)
    assert transform.written == ("x", "y")
    assert transform.next_words(["x", "z", "y"]) == ["x", None, None]
    assert transform.next_words(["z"]) == [None, END]
    assert transform.prefix([["x", "z", "y"]]).tolist() == [[1, 3, 2]]


def test_what_writes_no_answers_is_said(done):
    run, _ = done
    with pytest.raises(InputError, match="writes no answers to texts of 'notes'"):
        generate(run.bundle, ["a b"], "pos", source="notes")
    with pytest.raises(InputError, match="at least one answer, got 0"):
        generate(run.bundle, ["a b"], "said", source="lists", beam=0)
    with pytest.raises(DataError, match="2 texts and 1 answers"):
        AnswerData("lists", ["a", "b"], ["a"], "said")
    with pytest.raises(InputError, match="Answers of 'lists' have no word in row 1"):
        AnswerData("lists", ["a", "b"], ["a", ""], "said")
    with pytest.raises(InputError, match="different vocabularies"):
        Seq2Seq({name: InputShape({"words": Field((5,), (n,))}) for name, n in (("a", 5), ("b", 6))})
