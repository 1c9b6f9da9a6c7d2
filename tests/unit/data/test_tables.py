import gzip
import sys

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch

from polytask.data import open_table, read_table
from polytask.data.table_files import MISSING
from polytask.errors import DataError, MissingExtraError

FRAME = pd.DataFrame(
    {
        "n": [1.5, None, 3.0],
        "i": [1, 2, 3],
        "b": pd.array([True, None, False], dtype="boolean"),
        "c": ["x", None, "y"],
        "d": pd.to_datetime(["2024-01-01", None, "2025-12-31"]),
    }
)


def same(table):
    frame = table.frame()
    assert list(frame) == list(FRAME)
    assert np.array_equal(frame["n"].to_numpy(dtype=float, na_value=np.nan), [1.5, np.nan, 3.0], equal_nan=True)
    assert frame["i"].tolist() == [1, 2, 3]
    assert frame["c"].isna().tolist() == [False, True, False]
    assert frame["c"][0] == "x"
    assert frame["b"].isna().tolist() == [False, True, False]
    assert str(pd.to_datetime(frame["d"])[2].date()) == "2025-12-31"


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".csv.gz", ".parquet", ".feather", ".CSV"])
def test_files(tmp_path, ending):
    path = tmp_path / f"table{ending}"
    if "parquet" in ending:
        FRAME.to_parquet(path)
    elif "feather" in ending:
        FRAME.to_feather(path)
    else:
        FRAME.to_csv(path, index=False, sep="\t" if "tsv" in ending else ",")
    same(open_table(path))
    same(open_table(str(path)))


@pytest.mark.parametrize("make", [lambda f: f, pl.from_pandas, pa.Table.from_pandas, lambda f: dict(f.items())])
def test_frames(make):
    same(open_table(make(FRAME)))


def test_a_table_is_opened_once():
    table = open_table(FRAME)
    assert open_table(table) is table


def test_frame_index_does_not_matter():
    moved = FRAME.set_axis([7, 7, 9], axis=0)
    assert open_table(moved).column("i").index.tolist() == [0, 1, 2]


def test_parquet_with_an_index_column(tmp_path):
    path = tmp_path / "t.parquet"
    pd.DataFrame({"a": [1, 2]}, index=[5, 8]).to_parquet(path)
    assert open_table(path).names == ("a",)


def test_days_without_time_from_arrow_are_dates():
    table = pa.table({"d": pa.array([19_000, None], pa.date32())})
    assert pd.api.types.is_datetime64_any_dtype(open_table(table).column("d"))


def test_arrays_have_numbered_columns():
    table = open_table(np.arange(6).reshape(3, 2))
    assert table.names == ("x0", "x1")
    assert table.is_positional
    assert open_table(torch.ones(2, 3)).names == ("x0", "x1", "x2")


def test_text_without_names(tmp_path):
    path = tmp_path / "a.data"
    path.write_text("# a line to skip\n39, State-gov, ?\n50, ?, <=50K\n")
    frame = read_table(path, header=False, missing=["?"], skip_rows=1)
    assert frame.columns.tolist() == ["x0", "x1", "x2"]
    assert frame.isna().to_numpy().tolist() == [[False, False, True], [False, True, False]]
    assert frame["x1"][0] == "State-gov"


def test_empty_and_na_are_missing(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("a,b\n1,x\n,NA\nNA,\n2,y\n")
    frame = read_table(path)
    assert frame["a"].dtype == np.float64
    assert frame.isna().sum().tolist() == [2, 2]


def test_separator(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("a;b\n1;2\n")
    assert read_table(path, separator=";")["b"].tolist() == [2]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", "", "is empty"),
        ("a.csv", "a,b\n", "no rows"),
        ("a.csv", "\n\n", "is empty"),
        ("a.csv", "a,a\n1,2\n", "more than one column named 'a'"),
        ("a.csv", "a,b\n1,2\n1,2,3\n", "same columns in every row"),
        ("a.csv", "a,b\n1,2,3\n1,2,3\n", "same columns in every row"),
        ("a.xlsx", "x", "no known table format"),
        ("a", "x", "no known table format"),
        ("a.parquet", "no parquet", "not a Parquet file"),
        ("a.feather", "no feather", "not a Feather"),
        ("a.csv.gz", "no gzip", "cannot be read"),
    ],
)
def test_bad_files(tmp_path, name, content, words):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(DataError, match=words):
        open_table(path).frame()


def test_truncated_gzip(tmp_path):
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(b"a,b\n" + b"1,2\n" * 9999)[:-20])
    with pytest.raises(DataError, match="cannot be read"):
        read_table(path)


def test_bytes_that_are_no_text(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"a,b\n\xff\xfe\x80,1\n")
    with pytest.raises(DataError, match="cannot be read as text"):
        read_table(path)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("nowhere.csv", "No file named"),
        (np.ones(3), "two dimensions"),
        ({"a": [1, 2], "b": [1]}, "same number of rows"),
        ({"a": [[1], [2]]}, "one value a row"),
        ({}, "no columns"),
        (pd.DataFrame({"a": []}), "no rows"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "more than one column named 'a'"),
        (pd.DataFrame([[1, 2]], columns=["1", 1]), "more than one column named '1'"),
        (pl.LazyFrame({"a": [1]}), "collect"),
        (3, "A table is needed, got int"),
    ],
)
def test_bad_tables(data, words):
    with pytest.raises(DataError, match=words):
        open_table(data)


def test_a_folder_is_no_table(tmp_path):
    with pytest.raises(DataError, match="is a folder"):
        open_table(tmp_path)


def test_without_pyarrow(tmp_path, monkeypatch):
    path = tmp_path / "t.parquet"
    FRAME.to_parquet(path)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"polytask\[parquet\]"):
        open_table(path)


def test_what_a_file_of_text_means_by_missing_is_what_pandas_means():
    from pandas._libs.parsers import STR_NA_VALUES

    assert set(MISSING) == set(STR_NA_VALUES)
