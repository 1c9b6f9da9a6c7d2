"""Predictions for folders of files and for JSON lines: gone on with only where the rows are the same ones."""

import json
import os

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from serving_data import SCHEMA_BUNDLE

from polytask import Recipe
from polytask.bundle import load
from polytask.errors import RecipeError, StorageError
from polytask.serving.streaming import predict_file


class Kill(BaseException):
    pass


def stop(done, total):
    raise Kill


@pytest.fixture
def photos(tmp_path):
    for row in range(12):
        place = tmp_path / "photos" / "ab"[row % 2]
        place.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(row).integers(0, 255, (8, 8), dtype=np.uint8)
        Image.fromarray(pixels).save(place / f"{row:02d}.png")
    return tmp_path / "photos"


def test_files_that_came_or_changed_below_a_folder_are_seen_by_resume(photos):
    data = {"photos": {"path": str(photos)}}
    encoder = {"name": "cnn", "channels": [2], "width": 4}
    bundle = Recipe(tasks={"folder": "binary"}, encoder=encoder, data=data, training={"epochs": 1}).run().bundle
    whole = photos.parent / "whole.csv"
    predict_file(bundle, photos, whole, piece=5)
    out = photos / "out.csv"  # in the folder itself, which changes by that
    with pytest.raises(Kill):
        predict_file(bundle, photos, out, piece=5, progress=stop)
    assert predict_file(bundle, photos, out, piece=5, resume=True)[0] == 12
    assert out.read_bytes() == whole.read_bytes()
    changes = [
        lambda: (photos / "a" / "00.png").rename(photos / "a" / "99.png"),
        lambda: os.utime(photos / "b" / "01.png", (1, 1)),
    ]
    for change in changes:
        out.unlink()
        with pytest.raises(Kill):
            predict_file(bundle, photos, out, piece=5, progress=stop)
        change()
        with pytest.raises(StorageError, match="holds predictions of other files"):
            predict_file(bundle, photos, out, piece=5, resume=True)
        predict_file(bundle, photos, out, piece=5, overwrite=True)


def test_a_key_that_a_whole_piece_lacks_is_missing_there(tmp_path):
    bundle = load(SCHEMA_BUNDLE)
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(30, 4)), columns=["a", "b", "c", "d"])
    frame["town"] = [None] * 10 + ["x", "y"] * 10
    frame.loc[12:20, "b"] = np.nan
    with (tmp_path / "rows.jsonl").open("w") as file:
        for row in frame.to_dict("records"):
            file.write(json.dumps({name: v for name, v in row.items() if pd.notna(v)}) + "\n")
    assert predict_file(bundle, tmp_path / "rows.jsonl", tmp_path / "out.csv", piece=4)[0] == 30
    found = pd.read_csv(tmp_path / "out.csv")
    pd.testing.assert_frame_equal(found, bundle.predict_frame(frame), rtol=1e-5, check_dtype=False)


def test_alike_lengths_are_not_promised_where_rows_come_in_blocks(tmp_path):
    frame = pd.DataFrame({"text": ["a day", "a good day"] * 20, "mood": [0, 1] * 20})
    frame.to_parquet(tmp_path / "notes.parquet")
    data = {"notes": {"path": str(tmp_path / "notes.parquet"), "reads": "text", "streamed": True}}
    training = {"epochs": 1, "alike_lengths": True}
    recipe = Recipe(tasks={"mood": "binary"}, encoder={"name": "bigru", "width": 4}, data=data, training=training)
    with pytest.raises(RecipeError, match="'notes' are read from their file block by block"):
        recipe.run()
