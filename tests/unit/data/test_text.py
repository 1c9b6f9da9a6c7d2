"""Words and pieces of texts, files of tagged sentences, spans of tags, and whatever may be wrong with them."""

import json

import numpy as np
import pytest
import torch

from polytask.data import TextTransform, Vocabulary, made_up_reviews, made_up_sentences, read_conll, words_of
from polytask.errors import DataError, InputError, TargetError
from polytask.tasks import Tagging
from polytask.tasks._spans import spans_of

ROWS = [["The", "cat", "sat"], ["the", "cats", "were", "sitting"], ["a", "cat"]]


def learned(**options):
    vocabulary = Vocabulary(**{"fewest": 1, **options})
    vocabulary.learn("a", ROWS)
    return vocabulary


def test_words_have_codes_by_frequency_and_case_is_in_the_pieces():
    vocabulary = learned()
    codes = vocabulary.encode([["the", "The", "cat", "unseen"]], 5)
    words = codes["words"][0].tolist()
    assert words[0] == words[1]
    assert words[3] == 1
    assert words[4] == 0
    assert not torch.equal(codes["pieces"][0, 0], codes["pieces"][0, 1])
    assert codes["pieces"][0, 3].any(), "an unknown word is made of known pieces"
    assert int(codes["words"].max()) < vocabulary.n_words
    assert int(codes["pieces"].max()) < vocabulary.n_pieces


def test_rare_words_have_no_code_and_the_number_of_codes_is_bounded():
    assert learned(fewest=2).n_words == 4  # padding, unknown, "the", "cat"
    assert learned(n_words=1).n_words == 3
    assert learned(n_pieces=24).n_pieces == 25
    assert learned(n_pieces=30).n_pieces == 31


def test_state_through_json_gives_the_same_codes_and_learning_again_forgets():
    vocabulary = learned()
    again = Vocabulary().load_state(json.loads(json.dumps(vocabulary.state())))
    rows = [["cats", "sat", "unknowable"]]
    for key, value in vocabulary.encode(rows, 6).items():
        assert torch.equal(value, again.encode(rows, 6)[key])
    before = vocabulary.n_words
    vocabulary.learn("a", [["other"]])
    assert vocabulary.n_words == 3 < before
    vocabulary.learn("b", ROWS)
    assert vocabulary.n_words == before + 1
    with pytest.raises(InputError, match="learned no words"):
        _ = Vocabulary().n_words


def test_long_texts_are_cut_and_long_words_keep_their_ends():
    transform = TextTransform(Vocabulary(fewest=1, n_pieces=8, pieces_a_word=2)).fit("a", ROWS, longest=3)
    assert transform.length == 3
    codes = transform.transform(["the cats were sitting", ["sat"]])
    assert codes["words"].shape == (2, 3)
    assert codes["words"][1].tolist()[1:] == [0, 0]
    assert transform.lengths(["the cats were sitting", ["sat"]]).tolist() == [3, 1]
    assert (codes["pieces"][0, 1] > 0).all()
    again = TextTransform().load_state(json.loads(json.dumps(transform.state())))
    assert torch.equal(again.transform("the cats")["words"], transform.transform(["the cats"])["words"])


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        (["fine", ""], "no word in row 1"),
        (["fine", []], "no word in row 1"),
        (["fine", None], "row 1, got None"),
        ([3], "row 0, got 3"),
    ],
)
def test_a_text_without_words_is_named(texts, says):
    with pytest.raises(InputError, match=says):
        words_of(texts)
    with pytest.raises(InputError, match="got int"):
        TextTransform(learned(), 3).transform(5)


def test_a_file_of_sentences_is_read_and_a_damaged_one_refused(tmp_path):
    file = tmp_path / "x.conllu"
    lines = ["# sent_id = s-1", "1-2\tdon't\t_", "1\tdo\tAUX", "2\tn't\tPART", "2.1\tgone\tX", "", "1\tGo\t_"]
    file.write_text("\n".join(lines), encoding="utf-8")
    first, second = read_conll(file, {"pos": 2})
    assert first.words == ["do", "n't"]
    assert first.tags["pos"] == ["AUX", "PART"]
    assert first.comments == {"sent_id": "s-1"}
    assert second.tags["pos"] == [None]
    with pytest.raises(InputError, match="line 2 needs 5 columns"):
        read_conll(file, {"pos": 4})
    with pytest.raises(DataError, match="No file"):
        read_conll(tmp_path / "none", {})
    (tmp_path / "latin").write_bytes("1\tcaf\xe9\tX".encode("latin-1"))
    with pytest.raises(InputError, match="no UTF-8"):
        read_conll(tmp_path / "latin", {"pos": 2})
    (tmp_path / "empty").write_text("# nothing\n")
    with pytest.raises(DataError, match="no sentence"):
        read_conll(tmp_path / "empty", {})


def test_spans_end_where_their_tags_do():
    assert spans_of(["B-X", "I-X", "I-Y", "O", "B-X", "B-X", "I-X"]) == {
        (0, 2, "X"),
        (2, 3, "Y"),
        (4, 5, "X"),
        (5, 7, "X"),
    }
    assert spans_of([]) == set()
    assert spans_of(["I-X"]) == {(0, 1, "X")}


def test_tags_of_sequences_are_scored_by_element_and_by_span():
    task = Tagging(name="ner")
    labels = np.array(["B-X I-X O", "O O", "B-X _ O", None], dtype=object)
    task.fit(labels)
    targets, observed = (torch.as_tensor(part) for part in task.encode(labels))
    assert observed.tolist() == [[True] * 3, [True, True, False], [True, False, True], [False] * 3]
    right = torch.nn.functional.one_hot(targets, 3).double() * 8
    scores = task.evaluate(right, targets, observed)
    assert scores["accuracy"] == 1.0
    assert scores["span_f1"] == 1.0
    wrong = right.clone()
    wrong[0, 1] = torch.tensor([0.0, 0.0, 9.0])
    assert task.evaluate(wrong, targets, observed)["span_f1"] == 0.0
    assert task.evaluate(wrong, targets, observed)["accuracy"] == pytest.approx(6 / 7)
    losses = task.loss(wrong, targets, observed)
    expected = torch.nn.functional.cross_entropy(wrong[observed], targets[observed], reduction="none")
    torch.testing.assert_close(losses, expected)
    with pytest.raises(TargetError, match="row 1"):
        task.encode(np.array(["O", "O NEW"], dtype=object))
    assert task.is_known(np.array(["O", "O NEW", None], dtype=object)).tolist() == [True, False, True]
    with pytest.raises(TargetError, match="shape"):
        task.encode(np.zeros((2, 3)))


def test_made_up_sentences_are_the_same_for_a_seed():
    assert made_up_sentences(5) == made_up_sentences(5)
    assert made_up_sentences(5) != made_up_sentences(5, seed=1)
    assert {feeling for _, feeling in made_up_reviews(40)} == {"pos", "neg"}


def test_a_line_ends_where_the_file_says_so(tmp_path):
    """Unicode has other breaks, which words of the web hold."""
    file = tmp_path / "x.conllu"
    file.write_bytes("1\tone\u2028two\tX\r\n2\tthree\x85\tY\r\n\r\n".encode())
    (sentence,) = read_conll(file, {"pos": 2})
    assert sentence.words == ["one\u2028two", "three\x85"]
    assert sentence.tags["pos"] == ["X", "Y"]
