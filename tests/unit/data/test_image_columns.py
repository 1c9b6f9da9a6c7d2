"""A column of image files: components against scikit-learn's, bad files named by row, copies found."""

import base64
import io
import json

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from polytask import Recipe, load
from polytask.data import TableTransform, open_table
from polytask.data.thumbnails import contents
from polytask.errors import InputError
from polytask.study import Protocol, Study

DIGITS = load_digits()
PIXELS = (DIGITS.images * 15.9).astype(np.uint8)


def written(folder, n=60, mode="L"):
    """Images in a folder beside a table that names them."""
    folder.mkdir(exist_ok=True)
    (folder / "shots").mkdir(exist_ok=True)
    for row in range(n):
        Image.fromarray(PIXELS[row]).convert(mode).save(folder / "shots" / f"{row}.png")
    frame = pd.DataFrame(
        {
            "photo": [f"shots/{row}.png" for row in range(n)],
            "light": np.linspace(0, 1, n),
            "digit": DIGITS.target[:n],
            "ink": PIXELS[:n].mean((1, 2)),
        }
    )
    frame.to_csv(folder / "shots.csv", index=False)
    return frame


def fitted(folder, **options):
    return TableTransform(["photo", "light"], kinds={"photo": "image"}, **options).fit(open_table(folder / "shots.csv"))


def inline(row, mode="L"):
    held = io.BytesIO()
    Image.fromarray(PIXELS[row]).convert(mode).save(held, "png")
    return "data:image/png;base64," + base64.b64encode(held.getvalue()).decode()


def test_components_are_the_principal_ones_with_deviation_one(tmp_path):
    written(tmp_path)
    transform = fitted(tmp_path)
    bits = transform.transform(open_table(tmp_path / "shots.csv"))["molecule"].numpy()
    flat = PIXELS[:60].reshape(60, -1) / 255
    learned = PCA(random_state=0).fit(flat)
    n_kept = bits.shape[1]
    assert (
        learned.explained_variance_ratio_[:n_kept].sum() >= 0.95 > learned.explained_variance_ratio_[: n_kept - 1].sum()
    )
    wanted = learned.transform(flat)[:, :n_kept] / np.sqrt(learned.explained_variance_[:n_kept])
    signs = np.sign((wanted * bits).sum(0))
    np.testing.assert_allclose(bits, wanted * signs, atol=2e-3)
    np.testing.assert_allclose(bits.std(0, ddof=1), 1.0, rtol=1e-3)
    assert transform.positions(["photo"])["molecule"] == tuple(range(n_kept))


def test_what_was_learned_is_kept_and_missing_images_are_zeros(tmp_path):
    frame = written(tmp_path)
    frame.loc[3, "photo"] = None
    frame.loc[4, "photo"] = "  "
    frame.to_csv(tmp_path / "shots.csv", index=False)
    transform = fitted(tmp_path)
    table = open_table(tmp_path / "shots.csv")
    bits = transform.transform(table)["molecule"]
    assert not bits[[3, 4]].any()
    assert bits[[2, 5]].any(1).all()
    again = TableTransform().load_state(json.loads(json.dumps(transform.state())))
    assert torch.equal(again.transform(table)["molecule"], bits)
    one = again.transform({"photo": [inline(7), inline(7, "RGB")], "light": [0.0, 0.0]})["molecule"]
    torch.testing.assert_close(one, bits[[7, 7]])


def test_large_images_are_made_small_and_colours_stay_if_there_are_any(tmp_path):
    (tmp_path / "shots").mkdir()
    rng = np.random.default_rng(0)
    for row in range(12):
        pixels = np.zeros((60, 100, 3), np.uint8)
        pixels[..., row % 3] = 255
        pixels[: rng.integers(5, 60)] //= 2
        Image.fromarray(pixels).save(tmp_path / "shots" / f"{row}.jpg")
    frame = pd.DataFrame({"photo": [f"shots/{row}.jpg" for row in range(12)], "light": np.arange(12.0)})
    frame.to_csv(tmp_path / "shots.csv", index=False)
    transform = fitted(tmp_path)
    (column,) = transform.read_as_bits.values()
    assert column.size == (100, 60)
    assert len(column.mean) == 32 * 19 * 3
    bits = transform.transform(open_table(tmp_path / "shots.csv"))["molecule"].numpy()
    apart = np.linalg.norm(bits[:, None] - bits, axis=2)
    np.fill_diagonal(apart, np.inf)
    nearest = apart.argmin(1)
    assert (nearest % 3 == np.arange(12) % 3).mean() > 0.7  # images of a colour lie together


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "5.png").unlink(), r"row 5: '.*shots/5\.png' is not there"),
        (lambda f: (f / "5.png").write_bytes(b"no image"), r"row 5: '.*5\.png' is not an image that can be read"),
        (lambda f: (f / "5.png").write_bytes((f / "6.png").read_bytes()[:60]), r"row 5: '.*5\.png' is not an image"),
        (
            lambda f: Image.new("L", (9, 8)).save(f / "5.png"),
            r"of 8 x 8 pixels, .*; row 5: '.*5\.png' is 9 x 8 pixels",
        ),
        (lambda f: Image.new("I;16", (8, 8)).save(f / "5.png"), r"row 5: .* more than 8 bits a pixel"),
        (lambda f: [(f / "5.png").unlink(), (f / "5.png").mkdir()], r"row 5: '.*5\.png' is no file"),
    ],
)
def test_bad_files_are_named_by_row(tmp_path, spoil, message):
    written(tmp_path)
    known = fitted(tmp_path)
    (tmp_path / "shots" / "5.png").touch()
    spoil(tmp_path / "shots")
    with pytest.raises(InputError, match=message):
        fitted(tmp_path)
    with pytest.raises(InputError, match=message):
        known.transform(open_table(tmp_path / "shots.csv"))


def test_images_that_say_nothing_are_left_out_and_files_are_guessed(tmp_path):
    frame = written(tmp_path)
    frame["photo"] = "shots/1.png"
    frame.to_csv(tmp_path / "shots.csv", index=False)
    assert "its images are all alike" in fitted(tmp_path).notes[0]
    frame["photo"] = [f"shots/{row}.png" for row in range(60)]
    assert "kinds.photo=image looks at the files" in TableTransform(["photo", "light"]).fit(frame).notes[0]
    with pytest.raises(InputError, match="is not base64"):
        TableTransform(kinds={"photo": "image"}).fit({"photo": ["data:image/png;base64,???"], "light": [1.0]})


def test_copies_are_known_by_what_they_show(tmp_path):
    written(tmp_path)
    shots = tmp_path / "shots"
    (shots / "copy.png").write_bytes((shots / "1.png").read_bytes())
    found = contents(pd.Series([str(shots / "1.png"), str(shots / "copy.png"), str(shots / "2.png"), None]))
    assert found[0] == found[1] != found[2]
    assert found[3] is None


def test_a_run_and_its_bundle_read_images_from_the_folder_of_each_table(tmp_path, monkeypatch):
    written(tmp_path / "here", 240)
    new = written(tmp_path / "there", 20).drop(columns=["digit", "ink"])
    new.to_csv(tmp_path / "there" / "new.csv", index=False)
    recipe = Recipe(
        tasks={"digit": "multiclass", "ink": "regression"},
        data={"shots": {"path": str(tmp_path / "here" / "shots.csv"), "kinds": {"photo": "image"}}},
        encoder={"name": "tabular", "width": 48, "n_blocks": 1},
        training={"epochs": 12, "batch_size": 16, "patience": None},
    )
    run = recipe.run(out=tmp_path / "run")
    assert run.record.tasks["digit"].metrics["accuracy"] > 0.6
    assert run.record.tasks["ink"].metrics["r2"] > 0.5
    monkeypatch.chdir(tmp_path)
    bundle = load(tmp_path / "run")
    answers = bundle.predict(tmp_path / "there" / "new.csv")
    assert (answers["digit"].values == DIGITS.target[:20]).mean() > 0.6
    same = bundle.predict({"photo": [inline(row) for row in range(20)], "light": new["light"].to_numpy()})
    np.testing.assert_allclose(answers["ink"].values, same["ink"].values, rtol=1e-4, atol=1e-3)


def test_every_arm_of_a_study_reads_images(tmp_path):
    written(tmp_path, 120)
    study = Study(
        tmp_path / "shots.csv",
        {"digit": "multiclass", "ink": "regression"},
        arms=["single", "joint", "linear", "boosting"],
        protocol=Protocol(folds=2),
        kinds={"photo": "image"},
        encoder={"name": "mlp", "widths": [16]},
        training={"epochs": 2},
    )
    record = study.run()
    assert set(record.arms) >= {"single", "joint", "linear", "boosting"}
    json.dumps(record.to_json())


def test_a_row_may_come_twice_as_in_a_resample(tmp_path):
    table = open_table(written(tmp_path, 20).assign(photo=lambda t: str(tmp_path) + "/" + t["photo"]))
    fitted = TableTransform(["photo"], kinds={"photo": "image"}).fit(table, np.array([*range(20), 3, 3, 7]))
    assert fitted.transform(table, np.arange(4))["molecule"].isfinite().all()
