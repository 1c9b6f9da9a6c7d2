"""Files over HTTP: CSV, Parquet and Arrow in and out."""

from __future__ import annotations

import io
import json

import pandas as pd
import pyarrow
import pytest
from pyarrow import feather, parquet
from running_server import running
from serving_data import INPUTS

import polytask.serving.service

TYPES = {
    "csv": "text/csv",
    "parquet": "application/vnd.apache.parquet",
    "arrow": "application/vnd.apache.arrow.file",
    "stream": "application/vnd.apache.arrow.stream",
}


def packed(frame: pd.DataFrame, form: str) -> bytes:
    if form == "csv":
        return frame.to_csv(index=False).encode()
    sink = io.BytesIO()
    if form == "parquet":
        frame.to_parquet(sink, index=False)
    elif form == "arrow":
        feather.write_feather(frame, sink)
    else:
        table = pyarrow.Table.from_pandas(frame, preserve_index=False)
        with pyarrow.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
    return sink.getvalue()


def unpacked(body: bytes, form: str) -> pd.DataFrame:
    if form == "csv":
        return pd.read_csv(io.BytesIO(body))
    if form == "parquet":
        return parquet.read_table(io.BytesIO(body)).to_pandas()
    if form == "arrow":
        return feather.read_table(io.BytesIO(body)).to_pandas()
    return pyarrow.ipc.open_stream(body).read_all().to_pandas()


@pytest.mark.parametrize("out", TYPES)
@pytest.mark.parametrize("form", TYPES)
def test_a_file_is_answered_in_any_format(served, of_all_columns, form, out):
    bundle, frame = of_all_columns
    headers = {"Content-Type": TYPES[form], **({"Accept": TYPES[out]} if out != form else {})}
    found = served.post("/predict/file", content=packed(frame, form), headers=headers)
    assert found.status_code == 200, found.text
    assert found.headers["content-type"].startswith(TYPES[out])
    expected = bundle.predict_frame(frame[INPUTS])
    pd.testing.assert_frame_equal(unpacked(found.content, out), expected, rtol=1e-4, check_dtype=False)
    others = [name for name in frame if name not in INPUTS]
    assert json.loads(found.headers["x-ignored-columns"]) == others


def test_some_tasks_of_a_file_in_pieces(served, of_all_columns, monkeypatch):
    bundle, frame = of_all_columns
    monkeypatch.setattr(polytask.serving.service, "_PIECE", 7)
    found = served.post(
        "/predict/file?tasks=visits&tasks=price", content=packed(frame, "csv"), headers={"Content-Type": "text/csv"}
    )
    expected = bundle.predict_frame(frame[INPUTS], ["visits", "price"])
    pd.testing.assert_frame_equal(unpacked(found.content, "csv"), expected, rtol=1e-4, check_dtype=False)


def test_a_cell_of_a_file_is_named_by_its_row_in_the_file(served, of_all_columns, monkeypatch):
    frame = of_all_columns[1][INPUTS].astype(object)
    monkeypatch.setattr(polytask.serving.service, "_PIECE", 7)
    frame.loc[23, "length"] = "long"
    found = served.post("/predict/file", content=packed(frame, "csv"), headers={"Content-Type": "text/csv"})
    error = found.json()["error"]
    assert (found.status_code, error["column"]) == (422, "length")
    assert "row 23" in error["message"]
    found = served.post(
        "/predict/file", content=packed(frame.drop(columns="town"), "csv"), headers={"Content-Type": "text/csv"}
    )
    assert (found.status_code, found.json()["error"]["column"]) == (422, "town")


def test_a_form_with_a_file_is_told_how_to_send_the_file(served, of_all_columns):
    found = served.post("/predict/file", files={"file": ("new.csv", packed(of_all_columns[1], "csv"), "text/csv")})
    assert (found.status_code, found.json()["error"]["type"]) == (415, "format")
    for word in (*TYPES.values(), "'multipart/form-data'", "--data-binary @FILE.csv"):
        assert word in found.json()["error"]["message"]


@pytest.mark.parametrize("form", TYPES)
def test_damaged_files_are_refused_and_tell_no_paths(served, of_all_columns, form):
    whole = packed(of_all_columns[1], form)
    damaged = [b"", b"\x00\xff" * 50, whole[50:]] + [whole[: len(whole) // 3]] * (form != "csv")  # still a CSV
    for body in damaged:
        found = served.post("/predict/file", content=body, headers={"Content-Type": TYPES[form]})
        assert found.status_code == 422, (found.status_code, found.text)
        assert "/tmp" not in found.text
        assert "polytask-" not in found.text


def test_a_small_file_of_very_many_rows_is_refused_before_it_is_unpacked(of_all_columns):
    n = 3_000_000
    columns = {name: pyarrow.nulls(n, pyarrow.float64()) for name in INPUTS}
    sink = io.BytesIO()
    parquet.write_table(pyarrow.table(columns), sink)
    assert len(sink.getvalue()) < 50_000
    with running(of_all_columns[0]) as (client, _):
        found = client.post("/predict/file", content=sink.getvalue(), headers={"Content-Type": TYPES["parquet"]})
    assert (found.status_code, found.json()["error"]["type"]) == (413, "rows")
