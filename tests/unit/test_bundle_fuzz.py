"""Bundles that were damaged, forged, or written long ago: a clear error, or the same model; never anything else."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import polytask
from polytask.bundle import SCHEMA
from polytask.bundle.bundle import checksum_of
from polytask.errors import BundleError, PolytaskError
from polytask.storage import sha256

BUNDLES = Path(__file__).parents[1] / "fixtures" / "bundles"
TIMES = int(os.environ.get("POLYTASK_FUZZ", "1"))  # how much longer than in the usual tests
NEWEST = BUNDLES / f"schema-{SCHEMA}"
HOME = ("bundle.json", "model-0.safetensors", "model-1.safetensors", "model-2.safetensors", "model-3.skops",
        "model-4.skops")  # fmt: skip


def answers(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    tables = json.loads((folder / "answers.json").read_text())
    return pd.DataFrame(tables["rows"]), pd.DataFrame(tables["expected"])


ROWS, EXPECTED = answers(NEWEST)


@pytest.fixture
def folder(tmp_path) -> Path:
    shutil.copytree(NEWEST, tmp_path / "bundle")
    (tmp_path / "bundle" / "answers.json").unlink()
    return tmp_path / "bundle"


@pytest.mark.parametrize("written", sorted(BUNDLES.iterdir()), ids=lambda path: path.name)
def test_bundles_of_every_schema_load_and_answer_as_they_did(written):
    rows, expected = answers(written)
    pd.testing.assert_frame_equal(polytask.load(written).predict_frame(rows), expected, rtol=1e-5, check_dtype=False)


def test_the_present_schema_has_its_bundle():
    assert {path.name for path in BUNDLES.iterdir()} == {f"schema-{n}" for n in range(1, SCHEMA + 1)}
    kinds = {model["kind"] for model in json.loads((NEWEST / "bundle.json").read_text())["content"]["models"]}
    assert kinds == {"network", "pooled", "lines", "estimators"}


def same_or_refused(folder: Path) -> bool:
    """Whether the bundle was refused; else its answers are those of the whole one."""
    try:
        bundle = polytask.load(folder)
    except BundleError:
        return True
    pd.testing.assert_frame_equal(bundle.predict_frame(ROWS), EXPECTED, rtol=1e-5, check_dtype=False)
    return False


@pytest.mark.parametrize("name", HOME)
def test_no_flipped_bit_or_cut_end_changes_an_answer(folder, name):
    rng = np.random.default_rng(0)
    path = folder / name
    whole = path.read_bytes()
    for _ in range(20 * TIMES):
        data = bytearray(whole)
        data[rng.integers(len(data))] ^= 1 << rng.integers(8)
        path.write_bytes(data)
        refused = same_or_refused(folder)
        assert refused or name == "bundle.json", "only a space or the number of the schema may be read another way"
        path.write_bytes(whole[: rng.integers(len(whole) - 1)])
        with pytest.raises(BundleError):
            polytask.load(folder)
    path.unlink()
    with pytest.raises(BundleError):
        polytask.load(folder)
    path.mkdir()
    with pytest.raises(BundleError):
        polytask.load(folder)


def spots(node, path=()):
    """Every place in nested JSON."""
    yield path
    if isinstance(node, dict | list):
        for key in node if isinstance(node, dict) else range(len(node)):
            yield from spots(node[key], (*path, key))


STRANGE = [None, True, -1, 0, 3, 1e308, "", "x", "os.system", "../../etc/passwd", [], {}, [[]], {"x": 1}]


def forge(folder: Path, rng: np.random.Generator) -> None:
    """Change one place of the content, and sign it as an attacker would."""
    data = json.loads((NEWEST / "bundle.json").read_text())
    places = [path for path in spots(data["content"]) if path]
    *parents, last = places[rng.integers(len(places))]
    node = data["content"]
    for key in parents:
        node = node[key]
    if rng.random() < 0.3:
        del node[last]
    else:
        node[last] = STRANGE[rng.integers(len(STRANGE))]
    data["sha256"] = checksum_of(data["content"])
    (folder / "bundle.json").write_text(json.dumps(data))


def test_signed_nonsense_is_refused_or_answers(folder):
    """Checksums find damage, not malice: whoever can write a bundle can sign it."""
    rng = np.random.default_rng(1)
    refused = 0
    for _ in range(60 * TIMES):
        forge(folder, rng)
        try:
            bundle = polytask.load(folder)
        except BundleError:
            refused += 1
            continue
        try:
            bundle.predict(ROWS)
        except PolytaskError:
            refused += 1
    assert refused > 10


@pytest.mark.parametrize("name", HOME[1:])
def test_signed_files_of_noise_are_refused_or_load(folder, name):
    rng = np.random.default_rng(2)
    path = folder / name
    whole = path.read_bytes()
    refused = 0
    for _ in range(20 * TIMES):
        data = bytearray(whole)
        for _ in range(rng.integers(1, 4)):
            data[rng.integers(min(len(data), 2000))] ^= 1 << rng.integers(8)
        path.write_bytes(data)
        content = json.loads((NEWEST / "bundle.json").read_text())
        for model in content["content"]["models"]:
            if model["file"] == name:
                model["sha256"] = sha256(path)
        content["sha256"] = checksum_of(content["content"])
        (folder / "bundle.json").write_text(json.dumps(content))
        try:
            bundle = polytask.load(folder)
        except BundleError:
            refused += 1
            continue
        with contextlib.suppress(PolytaskError):  # numbers that are NaN or infinite now
            assert set(bundle.predict(ROWS)) == {task.name for task in bundle.tasks}
    assert refused >= 10 * TIMES


@pytest.mark.parametrize("text", ["[" * 100_000, '{"schema": ' + "1" * 5000 + "}", '{"a": "\\ud800"}', "\ud800"])
def test_json_that_breaks_readers_is_refused(folder, text):
    (folder / "bundle.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(BundleError):
        polytask.load(folder)
