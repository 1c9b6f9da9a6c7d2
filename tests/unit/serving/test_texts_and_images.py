"""Columns of free text, molecules and images over HTTP: answers of the bundle, and no file that a client names."""

import base64
import io
import time

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from running_server import running
from serving_data import rows_of

from polytask import Recipe
from polytask.data.image_features import ImageColumn
from polytask.serving.answers import as_json


def inline(pixels):
    held = io.BytesIO()
    Image.fromarray(pixels).save(held, "png")
    return "data:image/png;base64," + base64.b64encode(held.getvalue()).decode()


@pytest.fixture(scope="module")
def bundle_and_rows():
    rng = np.random.default_rng(0)
    n = 40
    images = rng.integers(0, 255, (n, 6, 6)).astype(np.uint8)
    frame = pd.DataFrame(
        {
            "note": [["loud pump", "all fine", "loud and fine", None][k % 4] for k in range(n)],
            "smiles": [["CCO", "CCN", "c1ccccc1", "CC(=O)O"][k // 2 % 4] for k in range(n)],
            "photo": [inline(pixels) for pixels in images],
            "price": rng.normal(size=n),
        }
    )
    recipe = Recipe(
        tasks={"price": "regression"},
        data={"rows": {"kinds": {"note": "words", "smiles": "molecule", "photo": "image"}}},
        encoder={"name": "tabular", "width": 8},
        training={"epochs": 1},
    )
    return recipe.run({"rows": frame}).bundle, frame.drop(columns="price")


@pytest.fixture(scope="module")
def served_texts(bundle_and_rows):
    with running(bundle_and_rows[0]) as (client, _):
        yield client


def test_answers_are_those_of_the_bundle(served_texts, bundle_and_rows):
    bundle, rows = bundle_and_rows
    asked = rows.head(6)
    found = served_texts.post("/predict", json={"rows": rows_of(asked)})
    assert found.status_code == 200, found.text
    wanted = as_json(bundle.predict(asked), 6)
    for one, other in zip(found.json()["predictions"], wanted, strict=True):
        assert one["price"]["value"] == pytest.approx(other["price"]["value"], rel=1e-4)
    as_file = served_texts.post(
        "/predict/file", content=asked.to_csv(index=False), headers={"content-type": "text/csv"}
    )
    assert as_file.status_code == 200, as_file.text
    answers = pd.read_csv(io.StringIO(as_file.text))["price"]
    np.testing.assert_allclose(answers, [one["price"]["value"] for one in wanted], rtol=1e-4)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("photo", "secret.png", "an image of the size of training, as data:image/png;base64,"),
        ("photo", "/etc/hostname", "an image of the size of training"),
        ("photo", inline(np.zeros((5, 6), np.uint8)), "an image of the size of training"),
        ("photo", "data:image/png;base64,abcd", "an image of the size of training"),
        ("photo", "data:image/png;base64," + base64.b64encode(b"%!PS-Adobe-3.0 EPSF-3.0\n").decode(), "an image of"),
        ("smiles", "no molecule", "a molecule as SMILES"),
        ("note", 7, "a text"),
    ],
)
def test_cells_that_cannot_be_read_are_named_before_others_are_harmed(
    served_texts, bundle_and_rows, column, value, message
):
    rows = rows_of(bundle_and_rows[1].head(2))
    rows[1][column] = value
    found = served_texts.post("/predict", json={"rows": rows})
    assert found.status_code == 422
    assert f"Row 1, column {column!r}: {message}" in found.json()["error"]["message"]


def test_no_file_that_a_table_names_is_opened(served_texts, bundle_and_rows, tmp_path):
    Image.fromarray(np.zeros((6, 6), np.uint8)).save(tmp_path / "a.png")
    rows = bundle_and_rows[1].head(2).copy()
    rows["photo"] = str(tmp_path / "a.png")
    found = served_texts.post("/predict/file", content=rows.to_csv(index=False), headers={"content-type": "text/csv"})
    assert found.status_code == 422
    assert "No path that somebody sends is opened" in found.json()["error"]["message"]


def test_the_pages_ask_for_texts_and_files(served_texts):
    page = served_texts.get("/").text
    assert 'data-column="photo" data-kind="image" type="file"' in page
    assert 'data-column="note" data-kind="words"' in page
    schema = served_texts.get("/openapi.json").text
    assert "A molecule, as SMILES." in schema
    assert served_texts.get("/docs").status_code == 200


def test_an_image_of_another_size_is_refused_before_its_pixels_are_decoded(served_texts, bundle_and_rows, monkeypatch):
    rows = rows_of(bundle_and_rows[1].head(1))
    rows[0]["photo"] = inline(np.zeros((3000, 3000), np.uint8))
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    found = served_texts.post("/predict", json={"rows": rows})
    assert found.status_code == 422
    assert "an image of the size of training" in found.json()["error"]["message"]


def test_images_for_which_nobody_waits_any_longer_are_not_decoded(bundle_and_rows, monkeypatch):
    bundle, rows = bundle_and_rows
    seen = []
    monkeypatch.setattr(ImageColumn, "check", lambda self, cell: (seen.append(cell), time.sleep(0.05)))
    with running(bundle, seconds=0.2) as (client, _):
        refused = client.post("/predict", json={"rows": rows_of(rows)})
        assert (refused.status_code, refused.json()["error"]["type"]) == (503, "time")
    time.sleep(0.3)
    assert 0 < len(seen) < 10  # of 40
