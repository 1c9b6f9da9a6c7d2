"""Long cells, and files of texts alone, read by the line."""

import csv
import json

import numpy as np
import pytest

from polytask.data.text_rows import TextLines
from polytask.errors import DataError


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_a_cell_may_be_a_book(tmp_path, ending):
    book, path = "word " * 40_000, tmp_path / f"books.{ending}"
    if ending == "csv":
        path.write_text(f'text,y\n"{book}",1\nshort,2\n')
    else:
        path.write_text("".join(json.dumps({"text": t, "y": y}) + "\n" for t, y in ((book, 1), ("short", 2))))
    before = csv.field_size_limit(131_072)
    try:
        lines = TextLines(path, "text")
        assert lines.read(np.array([1, 0])) == ["short", book]
        assert lines.beside().column("y").tolist() == [1, 2]
    finally:
        csv.field_size_limit(before)


@pytest.mark.parametrize(("name", "content"), [("a.csv", "text\none\ntwo\n"), ("a.jsonl", '{"text": "one"}\n')])
def test_texts_without_labels_are_said_to_be_that(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match="has no column beside 'text', and so no labels"):
        TextLines(tmp_path / name, "text").beside()


def test_an_object_without_keys_is_a_row(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "one", "y": 1}\n{"text": "two"}\n{"text": "three", "z": 2}\n')
    table = TextLines(tmp_path / "a.jsonl", "text").beside()
    assert table.column("y").isna().tolist() == [False, True, True]
    assert table.names == ("y", "z")
