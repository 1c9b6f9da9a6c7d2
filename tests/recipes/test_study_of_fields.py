"""Studies of what is no column of a table: tags of words, pixels, boxes, spectrograms, voices."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from polytask import Study, load
from polytask.data import composed_scenes, made_up_reviews, made_up_sentences, mixed, spoken_syllables
from polytask.errors import RunFolderError
from polytask.study import Protocol
from polytask.training.data_sets import ArrayData
from polytask.training.text_data import TextData

pytest.importorskip("tokenizers")

WORDS = {"name": "bigru", "width": 12, "embedding_width": 12}
IMAGES = {"name": "unet", "channels": [4, 8], "width": 8}


def training(epochs: int) -> dict:
    return {"epochs": epochs, "batch_size": 16, "learning_rate": 1e-2}


def sentences(n: int) -> TextData:
    rows = made_up_sentences(n)
    labels = {name: [row[name] for row in rows] for name in ("pos", "ner", "genre")}
    labels["ner"][:5] = [None] * 5
    return TextData("sentences", [row["words"] for row in rows], labels)


def test_tags_are_judged_beside_classes_and_plain_models_say_what_they_leave_out(tmp_path):
    def study_of(data: TextData, resume: bool = False) -> Study:
        return Study(
            data,
            {"pos": {"kind": "tagging"}, "ner": {"kind": "tagging"}, "genre": {"kind": "binary"}},
            arms=["single", "joint", "linear", "constant"],
            protocol=Protocol(folds=3),
            encoder=WORDS,
            training=training(6),
            out=tmp_path / "study",
            resume=resume,
        )

    study = study_of(sentences(90))
    record = study.run()
    assert set(record.verdicts) == {"pos", "ner", "genre"}
    assert all(verdict.n_pairs == 3 for verdict in record.verdicts.values())
    assert record.tasks["pos"].metric == "accuracy"
    assert record.tasks["ner"].n_labels == 85
    assert record.arms["joint"].error["pos"].mean < 0.9
    assert any("Does not serve kind 'tagging' (pos and ner)" in note for note in record.arms["linear"].notes)
    # Tags have no mean of several models, and no constant without a look at the words.
    assert record.recommendation.arms["pos"] in ("single", "joint")
    texts = [["They", "veed", "near", "Meville", "."], ["it", "was", "late"]]
    mine, kept = study.bundle.predict(texts), load(tmp_path / "study").predict(texts)
    assert [len(tags) for tags in kept["pos"].values] == [5, 3]
    assert mine["pos"].values.tolist() == kept["pos"].values.tolist()
    assert study_of(sentences(90), resume=True).run().verdicts == record.verdicts
    changed = sentences(90)
    changed._labels["pos"][0] = ["NOUN"] * len(changed.texts[0])
    with pytest.raises(RunFolderError, match="another recipe"):
        study_of(changed, resume=True).run()


def test_tags_of_one_corpus_beside_feelings_of_another_by_groups():
    texts = made_up_reviews(60)
    writer = [f"writer {i % 12}" for i in range(60)]
    reviews = TextData("reviews", [text for text, _ in texts], {"mood": [mood for _, mood in texts]})
    notes = sentences(60)
    reviews.text.vocabulary = notes.text.vocabulary
    for data in (reviews, notes):
        data.columns["writer"] = np.array(writer)
    record = Study(
        [notes, reviews],
        {"pos": {"kind": "tagging"}, "mood": {"kind": "binary"}},
        arms=["single", "joint"],
        protocol=Protocol(holdout=0.3, group="writer"),
        encoder=WORDS,
        training=training(2),
    ).run()
    assert set(record.verdicts) == {"pos", "mood"}
    assert all(verdict.interval[0] is not None for verdict in record.verdicts.values())


def test_pixels_boxes_and_embeddings_of_images_are_judged(tmp_path):
    scenes = composed_scenes(72, 16, most=2)
    labels = {
        "mask": scenes.mask,
        "depth": scenes.depth,
        "boxes": scenes.boxes,
        "number": scenes.counts.sum(1),
        "look": scenes.front,
    }
    study = Study(
        ArrayData("scenes", scenes.images, labels),
        {
            "mask": {"kind": "segmentation"},
            "depth": {"kind": "dense_regression"},
            "boxes": {"kind": "detection", "size": [16, 16]},
            "number": {"kind": "count"},
            "look": {"kind": "retrieval"},
        },
        arms=["single", "joint", "boosting"],
        protocol=Protocol(holdout=0.3, repeats=3),
        encoder=IMAGES,
        training=training(2),
        out=tmp_path / "study",
    )
    record = study.run()
    assert set(record.verdicts) == set(labels)
    for name in ("mask", "depth", "boxes"):
        verdict = record.verdicts[name]
        assert verdict.interval[0] < verdict.gain < verdict.interval[1], (
            name
        )  # by images, of which the test rows have some
        assert record.arms["boosting"].error[name].mean is None
    assert record.arms["boosting"].error["number"].mean is not None
    found = load(tmp_path / "study").predict(scenes.images[:2])
    assert found["mask"].values.shape == (2, 16, 16)
    assert record.recommendation.errors["depth"]


def test_voices_and_spectrograms_are_judged_and_an_arm_that_serves_none_says_so():
    encoder = {"name": "speech_frames", "channels": [4], "halvings": 0}
    mixtures = mixed(spoken_syllables(8, n_speakers=3, n_syllables=4), 40)
    said = mixtures.rows[:, 0] % 3
    data = ArrayData("mixtures", mixtures.waves[:, :4096], {"voices": mixtures.parts[:, :, :4096], "said": said})
    record = Study(
        data,
        {"voices": {"kind": "separation", "hop": 128}, "said": {"kind": "multiclass"}},
        arms=["single", "joint"],
        protocol=Protocol(folds=2),
        encoder={**encoder, "rate": mixtures.rate, "hop": 128 / mixtures.rate},
        training=training(1),
    ).run()
    assert set(record.verdicts) == {"voices", "said"}
    alone = Study(
        ArrayData("mixtures", data.inputs, {"voices": mixtures.parts[:, :, :4096]}),
        {"voices": {"kind": "separation", "hop": 128}},
        arms=["single", "linear", "constant"],
        protocol=Protocol(folds=2),
        encoder={**encoder, "rate": mixtures.rate, "hop": 128 / mixtures.rate},
        training=training(1),
    ).run()
    assert "none of the tasks is of a kind that it can learn" in str(alone.left_out)
    assert alone.recommendation.arms == {"voices": "single"}


def test_a_symbol_that_no_training_text_has_costs_errors_and_not_the_task():
    rng = np.random.default_rng(0)
    waves = rng.normal(size=(24, 2048)).astype(np.float32)
    texts = np.where(np.arange(24) % 2, "no", "on").astype(object)
    texts[0] = "ox"  # the x is in one fold's test rows only
    record = Study(
        ArrayData("said", waves, {"text": texts, "loud": np.abs(waves).mean(1)}),
        {"text": {"kind": "transcription"}, "loud": {"kind": "regression"}},
        arms=["single", "joint"],
        protocol=Protocol(folds=3),
        encoder={"name": "speech_frames", "channels": [4], "halvings": 0, "n_mels": 8, "hop": 0.03},
        training=training(1),
    ).run()
    assert [fold.absent for fold in record.folds] == [{}, {}, {}]
    assert all(error is not None for error in record.arms["joint"].errors["text"])


def test_plain_arms_pass_over_a_source_that_has_masks_alone():
    scenes = composed_scenes(36, 16, most=2)
    record = Study(
        [
            ArrayData("drawn", scenes.images, {"mask": scenes.mask}),
            ArrayData("counted", scenes.images[:30], {"number": scenes.counts.sum(1)[:30]}),
        ],
        {"mask": {"kind": "segmentation"}, "number": {"kind": "regression"}},
        arms=["single", "linear", "boosting", "constant"],
        protocol=Protocol(folds=2),
        encoder=IMAGES,
        training=training(1),
    ).run()
    for arm in ("linear", "boosting", "constant"):
        assert record.arms[arm].error["mask"].mean is None
        assert record.arms[arm].error["number"].mean is not None
    assert record.recommendation.arms["mask"] == "single"


def test_files_are_judged_by_networks_and_texts_of_a_column_by_plain_models_too(tmp_path):
    for row in range(48):
        pixels = np.full((8, 8), 40 + 100 * (row % 2), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{row}.png")
    words = ["good film", "dull plot"]
    frame = pd.DataFrame({"photo": [f"{row}.png" for row in range(48)], "text": [words[row % 2] for row in range(48)]})
    frame["light"], frame["size"] = np.where(np.arange(48) % 2, "yes", "no"), np.arange(48) % 7 + 0.5
    frame.loc[::9, "size"] = np.nan
    frame.to_csv(tmp_path / "rows.csv", index=False)

    def study(column, encoder, **settings):
        return Study(
            tmp_path / "rows.csv",
            ["light", "size"],
            arms=["joint", "single", "linear", "constant"],
            protocol=Protocol(folds=2),
            reads=column,
            encoder=encoder,
            training={"epochs": 1, "batch_size": 16},
            out=tmp_path / f"{column}-study",
            **settings,
        ).run()

    seen = study("photo", {"name": "cnn", "channels": [2], "width": 4}, streamed=True)
    assert seen.left_out == dict.fromkeys(["linear", "constant"], "it reads no files of pixels or waves")
    assert set(load(tmp_path / "photo-study").predict(tmp_path / "rows.csv")) == {"light", "size"}
    read = study("text", {"name": "text_cnn", "width": 4})
    assert not read.left_out
    assert max(read.arms["linear"].errors["light"]) < 0.2, "the words tell it; their codes as numbers would not"
    assert set(load(tmp_path / "text-study").predict(tmp_path / "rows.csv")) == {"light", "size"}
