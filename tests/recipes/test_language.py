"""Texts from sentences to a bundle: tags of words and classes of sentences, two sources, missing labels, new texts."""

import numpy as np
import pytest

from polytask import Recipe, Study, load
from polytask.data import (
    Event,
    Vocabulary,
    event_rows,
    find_events,
    made_up_reviews,
    made_up_sentences,
    marked,
    paired,
)
from polytask.errors import DataError, InputError, RecipeError, TargetError
from polytask.study import Protocol
from polytask.training.text_data import TextData

SMALL = {"name": "bigru", "width": 32, "embedding_width": 24}


def sources(n=240):
    rows = made_up_sentences(n)
    words = [row["words"] for row in rows]
    labels = {name: [row[name] for row in rows] for name in ("pos", "ner", "genre")}
    for i in range(0, n, 3):
        labels["ner"][i] = None
    labels["pos"][1] = [None, *labels["pos"][1][1:]]
    reviews = made_up_reviews(n)
    vocabulary = Vocabulary()
    return [
        TextData("sentences", words, labels, vocabulary),
        TextData("reviews", [text for text, _ in reviews], {"mood": [mood for _, mood in reviews]}, vocabulary),
    ]


RECIPE = Recipe(
    tasks={"pos": "tagging", "ner": "tagging", "genre": "multiclass", "mood": "binary"},
    encoder=SMALL,
    training={"epochs": 16, "batch_size": 16, "learning_rate": 5e-3},
)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    out = tmp_path_factory.mktemp("language") / "run"
    return RECIPE.run(sources(), out=out), out


def test_all_tasks_are_learned_jointly(done):
    run, _ = done
    metrics = {name: result.metrics for name, result in run.record.tasks.items()}
    assert metrics["pos"]["accuracy"] > 0.8
    assert metrics["ner"]["span_f1"] > 0.5
    assert metrics["pos"]["span_f1"] is None
    assert metrics["genre"]["accuracy"] > 0.8


def test_a_bundle_tags_new_texts_as_long_as_they_are(done):
    run, out = done
    bundle = load(out)
    texts = ["She walked near Kibaville .", ["it", "was", "fine"]]
    answers = bundle.predict(texts, source="sentences")
    assert [len(tags) for tags in answers["pos"].values] == [5, 3]
    assert [len(tags) for tags in answers["ner"].values] == [5, 3]
    frame = bundle.predict_frame(texts, source="sentences")
    assert frame["pos"][1].count(" ") == 2
    assert set(bundle.predict(texts, ["mood"], source="reviews")["mood"].values) <= {"pos", "neg"}
    mine, theirs = run.bundle.predict_frame(texts, source="sentences"), frame
    assert mine.equals(theirs)
    with pytest.raises(InputError, match="no word in row 0"):
        bundle.predict([""], source="sentences")


def test_a_balancer_that_sees_gradients_and_a_mixture_of_experts_read_elements():
    recipe = Recipe(
        tasks={"pos": "tagging", "genre": "multiclass"},
        encoder=SMALL,
        sharing="mmoe",
        balancer="nash_mtl",
        training={"epochs": 2, "batch_size": 32},
    )
    run = recipe.run(sources(120)[:1])
    assert run.record.tasks["pos"].metrics["relative_error"] < 1.0


def test_labels_that_do_not_fit_the_words_are_named():
    with pytest.raises(TargetError, match="2 tags in row 1 of 'notes', whose text has 3 words"):
        Recipe(tasks={"pos": "tagging"}, encoder=SMALL, split={"validation": 0.0, "test": 0.0}).run(
            TextData("notes", ["a b", "a b c"], {"pos": ["X Y", "X Y"]})
        )
    with pytest.raises(DataError, match="3 values for the 2 rows"):
        TextData("notes", ["a", "b"], {"pos": ["X", "Y", "X"]})
    with pytest.raises(
        RecipeError, match="Encoders of elements: bigru, pretrained, seq2seq, speech_frames, text_cnn, transformer"
    ):
        Recipe(tasks={"pos": "tagging"}, encoder="mlp").run({"x": np.zeros((8, 3), np.float32)} and sources(60)[:1])


def test_a_tag_that_no_training_row_has_is_named_and_the_rest_of_its_sentence_counts():
    tags = [["N", "V"], ["V", "N"], ["N", "V"], ["N", "N"], ["X", "V"], ["N", "X"]]
    part = ["train", "train", "train", "validation", "test", "test"]
    data = TextData("notes", [["a", "b"]] * 6, {"pos": tags}, columns={"part": part})
    recipe = Recipe(
        tasks={"pos": "tagging"},
        encoder=SMALL,
        split={"method": "given", "column": "part"},
        training={"epochs": 1},
    )
    run = recipe.run(data)
    assert any("2 labels of task 'pos' are of classes that no training row has" in note for note in run.record.notes)
    assert any("missing: X (2)" in note for note in run.record.notes)
    assert run.record.tasks["pos"].n_test == 2


def test_texts_cut_off_are_noted_and_still_tagged():
    rows = made_up_sentences(80)
    data = TextData("notes", [r["words"] for r in rows], {"pos": [r["pos"] for r in rows]}, longest=4)
    run = Recipe(tasks={"pos": "tagging"}, encoder=SMALL, training={"epochs": 1}).run(data)
    assert any("read up to word 4" in note for note in run.record.notes)
    assert [len(tags) for tags in run.bundle.predict([["a"] * 9])["pos"].values] == [4]


def test_a_study_reads_texts_and_its_plain_models_the_words_that_they_hold(tmp_path):
    rows, reviews = made_up_sentences(90), made_up_reviews(90)
    labels = {"mood": [mood for _, mood in reviews], "genre": [row["genre"] for row in rows]}
    labels["mood"][4] = None
    data = TextData("reviews", [text for text, _ in reviews], labels)
    study = Study(
        data,
        {name: {"kind": "binary"} for name in labels},
        arms=["single", "joint", "linear"],
        protocol=Protocol(holdout=0.3, repeats=2),
        encoder={"name": "bigru", "width": 16, "embedding_width": 16},
        training={"epochs": 3, "batch_size": 16, "learning_rate": 1e-2},
        out=tmp_path / "study",
    )
    record = study.run()
    assert set(record.verdicts) == {"mood", "genre"}
    # Names and their places tell reports from letters, and praise is a word.
    assert record.arms["linear"].error["genre"].mean < 0.9
    texts = ["They veed near Meville , it was fine .", ["it", "was", "awful"]]
    mine, kept = study.bundle, load(tmp_path / "study")
    for task in ("mood", "genre"):
        assert mine.predict(texts)[task].values.tolist() == kept.predict(texts)[task].values.tolist()
    with pytest.raises(InputError, match="no word in row 1"):
        kept.predict(["fine", "  "])


def test_questions_about_pairs_and_marked_spans_are_learned_beside_tags():
    rows = made_up_sentences(240)
    draw = np.random.default_rng(0)
    vocabulary = Vocabulary()
    words = [row["words"] for row in rows]
    same = draw.random(len(rows)) < 0.5
    others = [words[i] if s else words[(i + 7) % len(words)] for i, s in enumerate(same)]
    first = [row["pos"].index("PROPN") if "PROPN" in row["pos"] else 0 for row in rows]
    kinds = [row["ner"][i][-3:] for row, i in zip(rows, first, strict=True)]
    sources = [
        TextData("sentences", words, {"ner": [row["ner"] for row in rows]}, vocabulary),
        TextData("pairs", paired(words, others), {"genre": [row["genre"] for row in rows]}, vocabulary),
        TextData(
            "relations", [marked(w, (i, i + 1)) for w, i in zip(words, first, strict=True)], {"sort": kinds}, vocabulary
        ),
    ]
    recipe = Recipe(
        tasks={"ner": {"kind": "tagging", "transitions": True}, "genre": "binary", "sort": "multiclass"},
        encoder=SMALL,
        training={"epochs": 8, "batch_size": 16, "learning_rate": 5e-3},
    )
    run = recipe.run(sources)
    metrics = {name: result.metrics for name, result in run.record.tasks.items()}
    assert metrics["ner"]["span_f1"] > 0.5
    assert metrics["genre"]["accuracy"] > 0.8
    assert metrics["sort"]["accuracy"] > 0.8
    answer = run.predict([["Kibaville", "slept", "."]], source="sentences")["ner"].values[0]
    assert len(answer) == 3


def test_events_are_found_in_two_questions():
    rows = made_up_sentences(240)
    words = [row["words"] for row in rows]
    events = []
    for row in rows:
        trigger = row["pos"].index("VERB")
        told = [(i, i + 1, "where" if tag == "B-LOC" else "who") for i, tag in enumerate(row["ner"]) if tag[0] == "B"]
        events.append([Event((trigger, trigger + 1), "do", tuple(told))])
    made = event_rows(words, events)
    vocabulary = Vocabulary()
    sources = [
        TextData("sentences", words, {"triggers": made["triggers"]}, vocabulary),
        TextData("events", made["texts"], {"roles": made["roles"]}, vocabulary),
    ]
    recipe = Recipe(
        tasks={"triggers": "tagging", "roles": "tagging"},
        encoder=SMALL,
        training={"epochs": 10, "batch_size": 16, "learning_rate": 5e-3},
    )
    run = recipe.run(sources)

    def tag(task, texts):
        source = "sentences" if task == "triggers" else "events"
        return run.bundle.predict(texts, [task], source=source)[task].values

    found = find_events(tag, words[:40])
    right = sum(mine == truth for mine, truth in zip(found, events[:40], strict=True))
    assert right > 20
