"""Exported graphs, run by another program from their files alone: the answers of the network they were made from.

Every way of sharing is in ``test_sharing_onnx.py`` and, for ``torch.export``, among the conformance tests.
"""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from polytask.bundle import Bundle, Estimators, Network
from polytask.errors import BundleError, DataError, PolytaskError, RecipeError, StorageError
from polytask.models.building import build_model
from polytask.models.encoders import registry as encoders
from polytask.models.inputs import Field, InputShape
from polytask.models.spec import ModelSpec
from polytask.serving import export as exporting
from polytask.serving.export import TOLERANCE, export, random_rows
from polytask.serving.quantisation import answer, quantise
from polytask.tasks import Binary, Detection, Regression, Segmentation, Tagging

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

TABLE = {"numeric": Field((3,)), "categorical": Field((2,), (4, 5))}
IMAGE = {"x": Field((1, 16, 16))}
NUMBERS = {"x": Field((5,))}
WORDS = {"words": Field((7,), (20,)), "pieces": Field((7, 3), (9,))}
SHAPES = {"cnn": IMAGE, "resnet18": IMAGE, "unet": IMAGE, "mlp": NUMBERS, "speech": {"x": Field((900,))}}
SHAPES |= dict.fromkeys(("text_cnn", "transformer"), WORDS)
ENCODERS = [name for name in encoders.names() if name != "module" and encoders.load(name).exports]


def bundle_of(encoder: str, sharing: str = "hard", **options) -> Bundle:
    torch.manual_seed(0)
    a, b = Regression(name="a"), Binary(name="b")
    a.fit(np.array([0.0, 3.0, 10.0]))
    b.fit(np.array(["no", "yes"]))
    spec = ModelSpec(
        inputs={"main": InputShape(SHAPES.get(encoder, TABLE))},
        n_outputs={"a": 1, "b": 1},
        encoder=encoder,
        encoder_options=options,
        sharing=sharing,
    )
    return Bundle([a, b], [Network(spec, build_model(spec).eval())])


@pytest.mark.parametrize("to", ["onnx", "torch"])
@pytest.mark.parametrize("encoder", ENCODERS)
def test_every_encoder_exports_with_the_same_outputs(encoder, to, tmp_path):
    made = export(bundle_of(encoder), tmp_path / "graph", to)
    assert made.difference <= TOLERANCE
    about = json.loads(made.about.read_text())
    assert [told["task"] for told in about["outputs"]] == ["a", "b"]
    assert about["largest_difference"] == made.difference


@pytest.mark.parametrize("encoder", [name for name in encoders.names() if name not in ENCODERS])
def test_an_encoder_that_claims_nothing_says_why(encoder, tmp_path):
    assert "export" in encoders.load(encoder).__doc__
    if encoder == "module":
        return  # whether the user's own network does is seen when it is tried
    assert encoders.load(encoder).why_no_export
    bundle = bundle_of("mlp", widths=(4,))
    (network,) = bundle.models
    bundle.models = [Network(replace(network.spec, encoder=encoder), network.model)]
    with pytest.raises(RecipeError, match=f"'{encoder}' does not export: .*These do: cnn, mlp"):
        export(bundle, tmp_path / "graph", "torch")


@pytest.mark.parametrize("encoder", ["text_cnn", "transformer"])
def test_tags_of_words_export_beside_answers_about_the_whole_text(encoder, tmp_path):
    torch.manual_seed(0)
    tags, mood = Tagging(name="tags"), Binary(name="mood")
    labels = np.empty(2, dtype=object)
    labels[:] = [["noun", "verb"], ["noun", "noun", "other"]]
    tags.fit(labels)
    mood.fit(np.array(["good", "bad"]))
    spec = ModelSpec(
        inputs={"main": InputShape(WORDS)},
        n_outputs={"tags": 3, "mood": 1},
        encoder=encoder,
        encoder_options={"width": 8},
        element_tasks=("tags",),
    )
    made = export(Bundle([tags, mood], [Network(spec, build_model(spec).eval())]), tmp_path / "graph", "torch")
    assert made.difference <= TOLERANCE
    told = json.loads(made.about.read_text())
    assert [output["shape"] for output in told["outputs"]] == [["batch", 7, 3], ["batch", 1]]
    assert [one["shape"] for one in told["inputs"]] == [["batch", 7], ["batch", 7, 3]]
    rows = random_rows(InputShape(WORDS), 50)
    there = rows[0] != 0
    assert there[:, 0].all()  # texts of all lengths, and padding after their ends alone
    assert not there.all()
    assert (there[:, 1:] <= there[:, :-1]).all()
    assert (rows[1][~there] == 0).all()


def test_maps_and_boxes_export_below_attention(tmp_path):
    torch.manual_seed(0)
    mask, boxes = Segmentation(name="mask"), Detection(name="boxes", size=(8, 8))
    mask.fit(np.arange(128).reshape(2, 8, 8) % 3)
    labels = np.empty(2, dtype=object)
    labels[:] = [[("a", 1, 1, 4, 5)], []]
    boxes.fit(labels)
    spec = ModelSpec(
        inputs={"main": InputShape({"x": Field((1, 8, 8))})},
        n_outputs={"mask": 3, "boxes": 5},
        encoder="unet",
        encoder_options={"channels": (4, 8), "width": 8},
        sharing="mtan",
        element_tasks=("mask", "boxes"),
        pixel_tasks=("mask", "boxes"),
    )
    made = export(Bundle([mask, boxes], [Network(spec, build_model(spec).eval())]), tmp_path / "graph", "onnx")
    assert made.difference <= TOLERANCE
    told = json.loads(made.about.read_text())["outputs"]
    assert [output["shape"] for output in told] == [["batch", 8, 8, 3], ["batch", 8, 8, 5]]


def test_one_head_only(tmp_path):
    made = export(bundle_of("mlp", widths=(8,)), tmp_path / "graph", "onnx", ["b"])
    rows = random_rows(InputShape(NUMBERS), 5)
    (out,) = exporting.run(made.graph, rows)
    assert out.shape == (5, 1)


def test_a_graph_that_answers_otherwise_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "run", lambda path, rows: [np.zeros((len(rows[0]), 1))] * 2)
    with pytest.raises(PolytaskError, match="differ from the network's"):
        export(bundle_of("mlp", widths=(8,)), tmp_path / "graph", "torch")
    assert not list((tmp_path / "graph").iterdir())


def test_what_cannot_be_exported_is_named(tmp_path):
    bundle = bundle_of("mlp", widths=(8,))
    with pytest.raises(RecipeError, match="onnx or torch"):
        export(bundle, tmp_path / "graph", "pickle")
    bundle.models = [*bundle.models, Estimators("main", [bundle.tasks[0]], [])]
    bundle.answers = {"a": [0, 1]}
    with pytest.raises(
        RecipeError, match=r"a by 2 models together \(network, estimators\); b by a model \(network\).*--tasks"
    ):
        export(bundle, tmp_path / "graph")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("x")
    with pytest.raises(StorageError, match="nothing is overwritten"):
        export(bundle, tmp_path / "full", "torch", ["b"])


@pytest.fixture(scope="module")
def trained():
    from polytask import Recipe

    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(150, 3)), columns=["u", "v", "w"])
    frame["u"] = frame["u"].where(rng.random(150) > 0.1)
    frame["town"] = rng.choice(["x", "y"], 150)
    frame["price"] = 10 + frame["v"] + frame["w"]
    frame["ill"] = np.where(frame["v"] > 0, "yes", "no")
    encoder = {"name": "tabular", "width": 16}
    return Recipe(tasks=["price", "ill"], encoder=encoder, training={"epochs": 5}).run(frame).bundle, frame


@pytest.mark.parametrize("to", ["onnx", "torch"])
def test_the_json_file_is_enough_to_answer_rows_of_a_table(trained, to, tmp_path):
    bundle, frame = trained
    made = export(bundle, tmp_path / "graph", to)
    expected = bundle.predict(frame)
    for task, found in answer(made.about, frame).items():
        if task == "price":
            np.testing.assert_allclose(found.values, expected[task].values, rtol=1e-4)
        else:
            np.testing.assert_allclose(found.probabilities, expected[task].probabilities, atol=1e-5)
            assert (found.values == expected[task].values).all()
    made.graph.write_bytes(made.graph.read_bytes() + b" ")
    with pytest.raises(BundleError, match="checksum"):
        answer(made.about, frame)


def test_weights_of_8_bits_and_what_they_cost(trained, tmp_path):
    bundle, frame = trained
    made = export(bundle, tmp_path / "graph", "onnx")
    with pytest.raises(DataError, match="no column with labels"):
        quantise(made.about, frame.drop(columns=["price", "ill"]))
    path, metrics = quantise(made.about, frame)
    assert set(metrics) == {"price", "ill"}
    before, after = metrics["price"]["r2"]
    told = json.loads(path.with_suffix(".json").read_text())
    assert told["metrics"]["price"]["r2"] == {"float32": before, "int8": after}
    assert before != after
    assert abs(before - after) < 0.1
    source = bundle.predict(frame)["price"].values
    direct = 1 - ((frame["price"] - source) ** 2).sum() / ((frame["price"] - frame["price"].mean()) ** 2).sum()
    assert before == pytest.approx(direct, rel=1e-4)
