"""A bundle on the disk: equal predictions, no trust in the file."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import polytask
from polytask import Recipe
from polytask.bundle.bundle import SCHEMA, checksum_of
from polytask.errors import BundleError, InputError, PolytaskError, RecipeError
from polytask.training.data_sets import ArrayData


def table(n: int = 60) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "a": rng.normal(size=n),
            "c": rng.choice(["red", "green", None], n),
            "price": rng.normal(100, 5, n),
            "ill": rng.choice(["yes", "no"], n),
            "visits": rng.poisson(2.0, n),
        }
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    recipe = Recipe(
        tasks={"price": "regression", "ill": "binary", "visits": "count"},
        sharing="mmoe",
        training={"epochs": 2, "batch_size": 16},
    )
    return recipe.run(table(), out=tmp_path_factory.mktemp("bundle") / "run")


@pytest.fixture
def folder(run, tmp_path) -> Path:
    shutil.copytree(run.path / "bundle", tmp_path / "bundle")
    return tmp_path / "bundle"


def change(folder: Path, edit, *, sign: bool = True) -> None:
    """Change the content as an attacker would, who can compute a checksum too."""
    data = json.loads((folder / "bundle.json").read_text())
    edit(data["content"])
    if sign:
        data["sha256"] = checksum_of(data["content"])
    (folder / "bundle.json").write_text(json.dumps(data))


def test_predictions_are_equal_bit_for_bit(run, folder, monkeypatch):
    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, lambda *args, **kwargs: pytest.fail("pickle was used"))
    monkeypatch.setattr(torch, "load", lambda *args, **kwargs: pytest.fail("torch.load was used"))
    loaded = polytask.load(folder)
    pd.testing.assert_frame_equal(
        loaded.predict_frame(table()), run.bundle.predict_frame(table()), check_exact=True, rtol=0, atol=0
    )
    assert [task.name for task in loaded.tasks] == ["price", "ill", "visits"]
    assert loaded.provenance["recipe_hash"] == run.record.recipe_hash
    assert loaded.metrics["price"]["r2"] == run.record.tasks["price"].metrics["r2"]


def test_saved_again_is_equal(folder, tmp_path):
    polytask.load(folder).save(tmp_path / "again")
    assert (tmp_path / "again" / "bundle.json").read_bytes() == (folder / "bundle.json").read_bytes()


def test_some_tasks_only_and_rows_in_pieces(run):
    bundle = run.bundle
    everything = bundle.predict(table())
    assert list(bundle.predict(table(), ["visits", "price"])) == ["visits", "price"]
    rows = [bundle.predict(table().iloc[[i]])["price"].values[0] for i in range(5)]
    np.testing.assert_allclose(rows, everything["price"].values[:5], rtol=1e-5)
    with pytest.raises(RecipeError, match="Did you mean 'price'"):
        bundle.predict(table(), ["prize"])


def test_no_file_of_a_bundle_is_a_pickle(folder):
    for path in folder.iterdir():
        assert path.suffix in (".json", ".safetensors"), path
        assert not path.read_bytes().startswith((b"\x80", b"PK")), path


def test_what_is_no_bundle(tmp_path):
    with pytest.raises(BundleError, match="is no bundle"):
        polytask.load(tmp_path / "nothing")
    (tmp_path / "bundle.json").write_text("[]")
    with pytest.raises(BundleError, match="is no bundle"):
        polytask.load(tmp_path)
    (tmp_path / "bundle.json").write_text('{"schema": "one"}')
    with pytest.raises(BundleError, match="is no bundle"):
        polytask.load(tmp_path)


def test_every_truncation_is_noticed(folder):
    for path in list(folder.iterdir()):
        whole = path.read_bytes()
        for n in (0, 1, len(whole) // 2, len(whole) - 2):
            path.write_bytes(whole[:n])
            with pytest.raises(BundleError):
                polytask.load(folder)
        path.write_bytes(whole)
    polytask.load(folder)


def test_an_altered_byte_is_noticed(folder):
    (parameters,) = folder.glob("*.safetensors")
    data = bytearray(parameters.read_bytes())
    data[-1] ^= 1
    parameters.write_bytes(data)
    with pytest.raises(BundleError, match="missing, damaged or altered"):
        polytask.load(folder)
    parameters.unlink()
    with pytest.raises(BundleError, match="missing, damaged or altered"):
        polytask.load(folder)


def test_an_altered_setting_is_noticed(folder):
    change(folder, lambda content: content["tasks"][0]["options"].update(weight=7.0), sign=False)
    with pytest.raises(BundleError, match="altered"):
        polytask.load(folder)


def test_a_newer_schema_is_refused(folder):
    data = json.loads((folder / "bundle.json").read_text())
    (folder / "bundle.json").write_text(json.dumps({**data, "schema": SCHEMA + 1}))
    with pytest.raises(BundleError, match=f"schema {SCHEMA + 1}.*Upgrade polytask"):
        polytask.load(folder)


@pytest.mark.parametrize("file", ["../../secret.safetensors", "/etc/passwd", "..", "."])
def test_a_file_outside_of_the_bundle_is_never_read(folder, file):
    """Also where the checksum of the outer file is right."""
    (inside,) = folder.glob("*.safetensors")
    shutil.move(inside, folder.parent.parent / "secret.safetensors")
    change(folder, lambda content: content["models"][0].update(file=file))
    with pytest.raises(BundleError):
        polytask.load(folder)
    (folder.parent.parent / "secret.safetensors").unlink()


@pytest.mark.parametrize(
    "edit",
    [
        lambda content: content.pop("tasks"),
        lambda content: content["tasks"][0].pop("state"),
        lambda content: content["tasks"][0]["options"].update(kind="os.system"),
        lambda content: content["tasks"][0]["options"].update(more=1),
        lambda content: content["models"][0].update(kind="pickle"),
        lambda content: content["models"][0]["spec"].update(encoder="subprocess"),
        lambda content: content["models"][0]["spec"]["n_outputs"].update(price=3),
        lambda content: content["models"][0]["spec"].pop("inputs"),
        lambda content: content["models"][0].pop("file"),
        lambda content: content["transforms"]["data"].pop("names"),
        lambda content: content.update(models={}),
        lambda content: content.update(models=[3]),
    ],
)
def test_content_that_makes_no_sense_is_refused(folder, edit):
    change(folder, edit)
    if json.loads((folder / "bundle.json").read_text())["content"].get("models") == {}:
        with pytest.raises(PolytaskError):
            polytask.load(folder).predict(table())
        return
    with pytest.raises(BundleError):
        polytask.load(folder)


def test_rows_that_are_not_those_of_the_training(run):
    bundle = run.bundle
    with pytest.raises(InputError, match="lacks 'c'"):
        bundle.predict(table().drop(columns="c"))
    with pytest.raises(InputError, match="has 3 columns, but training had 2"):
        bundle.predict(np.zeros((4, 3)))
    with pytest.raises(InputError, match="infinite"):
        bundle.predict(table().assign(a=np.inf))
    unseen = bundle.predict(table().assign(c="purple"))
    assert np.isfinite(unseen["price"].values).all(), "a category never seen is a rare one"


def test_a_module_of_the_users_own_has_to_be_given_again(tmp_path):
    rng = np.random.default_rng(0)
    data = ArrayData("d", rng.normal(size=(40, 4)).astype(np.float32), {"y": rng.normal(size=40)})
    torch.manual_seed(0)

    def network():
        return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU())

    run = Recipe(tasks={"y": "regression"}, training={"epochs": 2}).run(data, module=network(), out=tmp_path / "run")
    assert run.bundle.models[0].spec.encoder == "module"
    loaded = polytask.load(tmp_path / "run", module=network())
    np.testing.assert_array_equal(loaded.predict(data.inputs)["y"].values, run.predict(data.inputs)["y"].values)
    with pytest.raises(PolytaskError, match="module"):
        polytask.load(tmp_path / "run")
