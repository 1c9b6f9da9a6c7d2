"""Files that are whole or not there; records as plain data."""

from __future__ import annotations

import errno
import json
import os
import pickle
import resource

import numpy as np
import pytest
import torch

from polytask.errors import DataError, StorageError
from polytask.records import RunRecord, TaskResult, without_nan
from polytask.storage import load_tree, save_tree, sha256, whole_file, write_json, write_text


def test_trees_come_back_as_they_were(tmp_path, monkeypatch):
    shared = torch.arange(6.0)
    tree = {
        "step": 3,
        7: [True, None, "text"],
        "pair": (1.5, -0.0, float("inf")),
        "state": {0: {"exp_avg": torch.randn(2, 3), "step": torch.tensor(4.0)}},
        "views": [shared[:3], shared[1:4], shared.view(2, 3).T],
        "bytes": torch.arange(5, dtype=torch.uint8),
        "half": torch.ones(2, dtype=torch.bfloat16),
        "empty": torch.empty(0, 4),
        "array": np.arange(4).reshape(2, 2)[:, ::-1],
        "none": {},
    }
    for name in ("load", "loads", "Unpickler", "dump", "dumps"):
        monkeypatch.setattr(pickle, name, lambda *args, **kwargs: pytest.fail("pickle was used"))
    save_tree(tmp_path / "tree", tree)
    back = load_tree(tmp_path / "tree")

    def same(one, other):
        assert type(one) is type(other)
        if isinstance(one, torch.Tensor):
            assert one.dtype == other.dtype
            assert torch.equal(one, other)
        elif isinstance(one, np.ndarray):
            np.testing.assert_array_equal(one, other)
        elif isinstance(one, dict):
            assert list(one) == list(other)
            for key in one:
                same(one[key], other[key])
        elif isinstance(one, list | tuple):
            assert len(one) == len(other)
            for a, b in zip(one, other, strict=True):
                same(a, b)
        else:
            assert one == other

    same(tree, back)


@pytest.mark.parametrize("leaf", [object(), {1, 2}, np.array(["a"]), np.array([None])])
def test_what_is_no_number_or_text_is_refused(tmp_path, leaf):
    with pytest.raises(TypeError, match="cannot be saved"):
        save_tree(tmp_path / "tree", {"x": [leaf]})
    assert list(tmp_path.iterdir()) == []


def test_damaged_trees_are_named(tmp_path):
    path = tmp_path / "tree"
    with pytest.raises(StorageError, match="does not exist"):
        load_tree(path)
    save_tree(path, {"x": torch.ones(100)})
    whole = path.read_bytes()
    for n in (0, 5, 50, len(whole) - 1):
        path.write_bytes(whole[:n])
        with pytest.raises(StorageError, match="damaged"):
            load_tree(path)
    path.write_bytes(b"x" * 500)
    with pytest.raises(StorageError, match="damaged"):
        load_tree(path)
    from safetensors.torch import save_file

    save_file({"x": torch.ones(2)}, path)
    with pytest.raises(StorageError, match="not one that polytask wrote"):
        load_tree(path)


def test_a_write_that_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / "file"
    write_text(path, "before")
    with pytest.raises(RuntimeError, match="in the middle"), whole_file(path) as temporary:  # noqa: PT012
        temporary.write_text("half")
        raise RuntimeError("in the middle")
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limit[1]))
    try:
        with pytest.raises(StorageError, match=f"Cannot write {path}.*untouched"):
            write_text(path, "x" * 1000)
        with pytest.raises(StorageError, match=f"Cannot write {path}.*untouched"):
            save_tree(path, {"x": torch.ones(1000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_on_the_disk_before_it_takes_its_place(tmp_path, monkeypatch):
    events = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (events.append("fsync"), fsync(handle)))
    monkeypatch.setattr("pathlib.Path.replace", lambda a, b: (events.append("rename"), replace(a, b)))
    write_text(tmp_path / "file", "x")
    assert events == ["fsync", "rename", "fsync"]


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="Cannot write"):
        write_text(tmp_path / "file" / "below", "x")

    def refuse(*args, **kwargs):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("polytask.storage.tempfile.mkstemp", refuse)
    with pytest.raises(StorageError, match="Read-only file system"):
        write_json(tmp_path / "x.json", {})


def test_json_has_no_nan(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"a": float("nan")})
    write_json(tmp_path / "x.json", without_nan({"a": float("nan"), "b": [float("inf"), 1.0], "c": {"d": -0.5}}))
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": None, "b": [None, 1.0], "c": {"d": -0.5}}


def test_checksum(tmp_path):
    (tmp_path / "file").write_bytes(b"abc")
    assert sha256(tmp_path / "file") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def record() -> RunRecord:
    result = TaskResult("binary", "auroc", True, {"auroc": 0.8, "f1": None}, {"auroc": 0.7}, 50, 10)
    return RunRecord(
        tasks={"ill": result},
        recipe={"tasks": ["ill"]},
        recipe_hash="abc",
        data={"main": {"rows": 60}},
        epochs=3,
        best_epoch=None,
        seconds=1.5,
        parameters={"shared": 1, "private": 2, "heads": 3},
        notes=("one", "two"),
    )


def test_records_come_back_through_json(tmp_path):
    write_json(tmp_path / "record.json", record().to_json())
    assert RunRecord.load(tmp_path / "record.json") == record()


def test_a_newer_record_is_refused():
    with pytest.raises(DataError, match=r"schema 99.*upgrade"):
        RunRecord.from_json({**record().to_json(), "schema": 99})


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"schema": 1}', '{"tasks": 3, "schema": 1}', "\udcff"])
def test_a_damaged_record_is_named(tmp_path, text):
    (tmp_path / "record.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(DataError, match=r"record\.json is damaged or no record of a run"):
        RunRecord.load(tmp_path / "record.json")
    with pytest.raises(DataError, match="does not exist"):
        RunRecord.load(tmp_path / "none.json")


def test_a_place_that_can_hold_no_folder_is_named(tmp_path):
    file = tmp_path / "a file"
    file.write_text("held")
    with pytest.raises(StorageError, match=r"a file is a file, no folder\. Choose another place"):
        write_text(file / "run" / "recipe.json", "{}")
    assert file.read_text() == "held"
    with pytest.raises(StorageError, match=r"/proc takes no new folder\. Choose another place"):
        write_text("/proc/no such/recipe.json", "{}")
