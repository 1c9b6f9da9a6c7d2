"""Predictions for whole files: the same as at once, in order, resumable, and nothing overwritten."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from serving_data import SCHEMA_BUNDLE

from polytask.bundle import load
from polytask.data.tables import read_table, write_table
from polytask.errors import DataError, InputError, StorageError
from polytask.serving.streaming import predict_file


@pytest.fixture(scope="module")
def bundle():
    return load(SCHEMA_BUNDLE)


def rows(n: int = 60) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(n, 4)), columns=["a", "b", "c", "d"])
    frame["town"] = rng.choice(["x", "y", "new", None], n)
    frame["note"] = [f"{i}, and\nmore" for i in range(n)]
    return frame


@pytest.mark.parametrize("out", ["csv", "tsv", "parquet", "arrow"])
@pytest.mark.parametrize("given", ["csv", "tsv", "parquet", "arrow", "csv.gz"])
def test_pieces_give_what_the_whole_gives(bundle, tmp_path, given, out):
    data, target = tmp_path / f"rows.{given}", tmp_path / f"out.{out}"
    if given == "csv.gz":
        rows().to_csv(data, index=False)
    elif given == "parquet":
        rows().to_parquet(data, index=False, row_group_size=13)
    else:
        write_table(rows(), data)
    told = []
    n_rows, columns = predict_file(bundle, data, target, piece=16, progress=lambda *now: told.append(now))
    expected = bundle.predict_frame(rows())
    assert (n_rows, list(columns)) == (60, list(expected.columns))
    pd.testing.assert_frame_equal(read_table(target), expected, rtol=1e-5, check_dtype=False)
    assert [done for done, _ in told] == [16, 32, 48, 60] or given == "parquet"
    assert told[-1] == (60, None if "csv" in given or given == "tsv" else 60)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([data.name, target.name])


@pytest.mark.parametrize("given", ["csv", "parquet", "arrow"])
def test_each_row_is_told_its_own_task_whatever_the_format(bundle, tmp_path, given):
    """The column that says which task a row is of is no input, and is read all the same."""
    by = {"column": "shop", "tasks": {"cost": {"north": "price"}}}
    asked = rows().assign(shop=["north", "south"] * 30)
    write_table(asked, tmp_path / f"rows.{given}")
    predict_file(replace(bundle, by=by), tmp_path / f"rows.{given}", tmp_path / "out.csv", piece=16)
    found = read_table(tmp_path / "out.csv")
    assert list(found) == ["cost"]
    np.testing.assert_allclose(found["cost"][::2], bundle.predict_frame(rows())["price"][::2], rtol=1e-5)
    assert found["cost"][1::2].isna().all()


@pytest.mark.parametrize(
    ("keys", "written"),
    [
        (["007", "A1"], ["007", "007", "A1", "007"]),
        (["007", "012"], ["007", "007", "012", "007"]),
        (["1", "2"], ["1.0", "1", "02", "1"]),
        (["True", "False"], ["true", "TRUE", "False", "true"]),
    ],
)
def test_the_task_of_a_row_does_not_depend_on_its_piece(bundle, tmp_path, keys, written):
    by = {"column": "shop", "tasks": {"cost": dict.fromkeys(keys, "price")}}
    rows().head(4).assign(shop=written).to_csv(tmp_path / "rows.csv", index=False)
    for piece in (10, 2):
        predict_file(replace(bundle, by=by), tmp_path / "rows.csv", tmp_path / f"{piece}.csv", piece=piece)
        found = read_table(tmp_path / f"{piece}.csv")["cost"]
        np.testing.assert_allclose(found, bundle.predict_frame(rows().head(4))["price"], rtol=1e-5)


@pytest.mark.parametrize("given", ["csv", "tsv", "parquet", "arrow"])
def test_columns_that_are_not_read_are_named(bundle, tmp_path, given):
    write_table(rows(), tmp_path / f"rows.{given}")
    notes = []
    predict_file(bundle, tmp_path / f"rows.{given}", tmp_path / "out.csv", notes=notes)
    assert notes == [f"The model does not read 1 column of {tmp_path / f'rows.{given}'}: 'note'."]
    wide = rows().assign(**{f"extra {i}": i for i in range(20)})
    write_table(wide, tmp_path / f"wide.{given}")
    predict_file(bundle, tmp_path / f"wide.{given}", tmp_path / "wide-out.csv", notes=notes)
    assert notes[1].endswith("'extra 6' and 13 more.")
    assert "does not read 21 columns of" in notes[1]


class Kill(BaseException):
    pass


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_gone_on_with_after_a_stop_at_every_part(bundle, tmp_path, ending):
    data = tmp_path / f"rows.{ending}"
    write_table(rows(), data)
    whole = tmp_path / f"whole.{ending}"
    predict_file(bundle, data, whole, ["price", "ill"], piece=16)
    for stop in range(1, 5):
        target = tmp_path / f"out-{stop}.{ending}"
        seen = []

        def kill(done, total, stop=stop, seen=seen):
            seen.append(done)
            if len(seen) == stop:
                raise Kill

        with pytest.raises(Kill):
            predict_file(bundle, data, target, ["price", "ill"], piece=16, progress=kill)
        assert not target.exists()
        with pytest.raises(StorageError, match="--resume"):
            predict_file(bundle, data, target, ["price", "ill"], piece=16)
        with pytest.raises(StorageError, match="other tasks"):
            predict_file(bundle, data, target, ["price"], piece=16, resume=True)
        again = []
        predict_file(
            bundle, data, target, ["price", "ill"], piece=16, resume=True, progress=lambda n, _, a=again: a.append(n)
        )
        assert seen + again == [16, 32, 48, 60], "a part that is done is not done again"
        assert target.read_bytes() == whole.read_bytes()


def test_a_killed_process_goes_on(bundle, tmp_path):
    data, whole, target = (tmp_path / name for name in ("rows.csv", "whole.csv", "out.csv"))
    rows(800).to_csv(data, index=False)
    predict_file(bundle, data, whole, ["price"], piece=10)
    command = [sys.executable, "-m", "polytask.cli", "predict", str(SCHEMA_BUNDLE), str(data), "--out", str(target)]
    process = subprocess.Popen([*command, "--tasks", "price", "--piece", "10"], stderr=subprocess.DEVNULL)
    parts = tmp_path / "out.csv.parts"
    while process.poll() is None and len(list(parts.glob("0*"))) < 5:
        time.sleep(0.001)
    process.kill()
    assert process.wait(60) == -signal.SIGKILL
    assert not target.exists()
    predict_file(bundle, data, target, ["price"], piece=10, resume=True)
    assert target.read_bytes() == whole.read_bytes()
    assert not parts.exists()


def test_nothing_is_overwritten_unasked(bundle, tmp_path):
    data, target = tmp_path / "rows.csv", tmp_path / "out.csv"
    rows().to_csv(data, index=False)
    target.write_text("mine")
    for resume in (False, True):
        with pytest.raises(StorageError, match="nothing is overwritten"):
            predict_file(bundle, data, target, resume=resume)
    assert target.read_text() == "mine"
    predict_file(bundle, data, target, overwrite=True)
    assert len(read_table(target)) == 60


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet", "arrow"])
def test_going_on_with_what_is_done_is_done(bundle, tmp_path, ending):
    data, target = tmp_path / "rows.csv", tmp_path / f"out.{ending}"
    rows().to_csv(data, index=False)
    first = predict_file(bundle, data, target, piece=16)
    written = target.read_bytes()

    def again(asked=None):
        return predict_file(
            bundle, data, target, asked, piece=16, resume=True, progress=lambda *_: pytest.fail("again")
        )

    assert again() == first
    with pytest.raises(StorageError, match="not the answers"):
        again(["price"])
    for changed in (rows().tail(40), rows(61), rows()[::-1]):
        changed.to_csv(data, index=False)
        with pytest.raises(StorageError, match="not the answers"):
            again()
    assert target.read_bytes() == written
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([data.name, target.name])


def test_a_row_that_cannot_be_used_is_named_as_in_the_file(bundle, tmp_path):
    data = tmp_path / "rows.csv"
    frame = rows().astype(object)
    frame.loc[41, "b"] = "much"
    frame.to_csv(data, index=False)
    with pytest.raises(InputError, match=r"Column 'b'.*row 41.*'much'"):
        predict_file(bundle, data, tmp_path / "out.csv", piece=16)
    with pytest.raises(DataError, match="the ending must be"):
        predict_file(bundle, data, tmp_path / "out.txt")
    with pytest.raises(DataError, match="No file named"):
        predict_file(bundle, tmp_path / "no.csv", tmp_path / "out2.csv")
    (tmp_path / "empty.csv").write_text("a,b,c,d,town\n")
    with pytest.raises(DataError, match="has no rows"):
        predict_file(bundle, tmp_path / "empty.csv", tmp_path / "out3.csv")
    (tmp_path / "odd.csv").write_text("a,b,c,d,town\n1,2,3,4,x\n1,2,3,4,x,6,7\n")
    with pytest.raises(DataError, match="same columns"):
        predict_file(bundle, tmp_path / "odd.csv", tmp_path / "out4.csv")


def test_codes_with_zeros_in_front_are_texts_in_every_piece(tmp_path):
    from polytask import Recipe

    codes = np.array(["007", "008", "A1"])[np.arange(90) % 3]
    frame = pd.DataFrame({"code": codes, "y": np.arange(90) % 3 + np.linspace(0, 1, 90)})
    made = Recipe(tasks=["y"], encoder={"name": "tabular", "width": 4}, training={"epochs": 1}).run(frame).bundle
    asked = frame.sort_values("code", ignore_index=True)
    asked.to_csv(tmp_path / "rows.csv", index=False)
    predict_file(made, tmp_path / "rows.csv", tmp_path / "out.csv", piece=30)
    expected = made.predict_frame(asked)
    pd.testing.assert_frame_equal(read_table(tmp_path / "out.csv"), expected, rtol=1e-5)
