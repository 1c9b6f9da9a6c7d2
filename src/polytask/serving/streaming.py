"""Predictions for files larger than memory: in pieces, in order, and gone on with after a kill."""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from polytask.bundle import Bundle
from polytask.data.digests import digest_of
from polytask.data.pieces import column_names, count_rows, pieces
from polytask.data.reads import FILE, Reads, is_of_files, listed
from polytask.data.table import FrameTable, Table
from polytask.data.tables import write_table
from polytask.errors import DataError, InputError, PolytaskError, StorageError
from polytask.serving.needed import needed_columns
from polytask.serving.parts import Parts
from polytask.wording import counted

__all__ = ["predict_file"]

PIECE = 16_384
_NAMED = 8
"""Ignored columns that a note names."""
ENDINGS = (".csv", ".tsv", ".parquet", ".arrow", ".feather")


def predict_file(
    bundle: Bundle,
    data: str | Path,
    out: str | Path,
    tasks: Sequence[str] | None = None,
    source: str | None = None,
    *,
    resume: bool = False,
    overwrite: bool = False,
    piece: int = PIECE,
    progress: Callable[[int, int | None], None] | None = None,
    notes: list[str] | None = None,
) -> tuple[int, tuple[str, ...]]:
    """Write the answers for each row of a file, in the order of the rows.

    Answers are written in parts beside ``out``, each whole or not there, and joined at the end; so memory holds one
    piece, and a run that was killed goes on after the last part. The result is the same bytes for CSV, and the same
    values for the other formats, as without the kill.

    Args:
        bundle: The bundle.
        data: CSV, TSV, JSON lines, Parquet, Feather or Arrow; for models of files also a folder or zip archive of them,
            whose names come before the answers then.
        out: The table to write: ``.csv``, ``.tsv``, ``.parquet``, ``.arrow`` or ``.feather``.
        tasks: Names of the tasks; all if ``None``.
        source: Which source the rows are of, if the bundle reads several.
        resume: Go on with the parts that are there; nothing is left to do if ``out`` is whole, which is told by its
            length, its columns, and the answers to the first rows.
        overwrite: Replace ``out``, and begin anew.
        piece: Rows in memory at once.
        progress: Told the rows that are done, and all rows where the file tells them.
        notes: A list to which a note on columns that the model does not read is added.

    Returns:
        The number of rows, and the names of the columns written.

    Raises:
        StorageError: If ``out`` is there already, or cannot be written.
        DataError: If the file cannot be used; names the row.
    """
    target = Path(out)
    if target.suffix not in ENDINGS:
        raise DataError(f"Cannot write {target.name}: the ending must be one of {', '.join(ENDINGS)}.")
    name = bundle.source(source)
    if not bundle.transforms_of(name) and bundle.column(name) is None:
        raise InputError(f"Rows of {name!r} are arrays, not tables: call Bundle.predict on them.")
    whole = listed(Path(data), Reads(form=bundle.files[name].form))[0] if _is_folder(bundle, name, data) else None
    total = count_rows(data) if whole is None else len(whole)
    needed = needed_columns(bundle, name)

    def tables(skip: int = 0) -> Iterator[Table]:
        if whole is not None:
            return _parts_of(whole, piece, skip)
        return pieces(data, piece, needed.names, needed.texts, skip, needed.literal)

    def answered(table: Table) -> pd.DataFrame:
        answers = bundle.predict_frame(table, tasks, name)
        if whole is not None:  # nobody else knows in which order files come
            answers.insert(0, FILE, table.column(FILE).to_numpy())
        return answers

    parts = Parts(target, _plan(bundle, Path(data), whole, tasks, name, piece))
    if resume and not overwrite and target.exists() and not parts.begun:
        return _found(target, answered(next(tables())), piece, sum(map(len, tables())))
    if whole is None and notes is not None and (ignored := needed.ignored(column_names(data))):
        some = ", ".join(map(repr, ignored[:_NAMED])) + (f" and {len(ignored) - _NAMED} more" * (len(ignored) > _NAMED))
        notes.append(f"The model does not read {counted(len(ignored), 'column')} of {data}: {some}.")
    done = parts.open(resume=resume, overwrite=overwrite)
    try:
        for number, table in enumerate(tables(done), start=done):
            answers = answered(table)
            write_table(answers, parts.path(number))
            if progress is not None:
                first = int(table.column(table.names[0]).index[0])
                progress(first + len(answers), total)
    except StorageError:
        raise  # the disk is full: with room on it, the parts are gone on with
    except PolytaskError:
        parts.remove()  # what was asked, or the file, has to be changed, and the parts are of no use then
        raise
    return parts.join()


def _is_folder(bundle: Bundle, source: str, data: str | Path) -> bool:
    """Whether the rows are the files of a folder or an archive."""
    return source in bundle.files and is_of_files(data)


def _parts_of(whole: Table, n_rows: int, skip: int) -> Iterator[Table]:
    """The files of a folder in pieces, from one of them on."""
    for start in range(skip * n_rows, len(whole), n_rows):
        part = FrameTable(whole.frame().iloc[start : start + n_rows], whole.origin, first_row=start)
        part.folder = whole.folder
        yield part


def _told(data: Path, whole: Table | None) -> dict[str, Any]:
    """What a file system says of the rows: a folder itself does not change with the files in folders below it."""
    if whole is None or not data.is_dir():
        told = data.stat()
        return {"bytes": told.st_size, "changed": told.st_mtime_ns}
    names: list[str] = whole.column(FILE).tolist()
    found = [(data / name).stat() for name in names if (data / name).exists()]  # one that is not there is named later
    return {"files": digest_of(names, [(told.st_size, told.st_mtime_ns) for told in found])}


def _plan(
    bundle: Bundle, data: Path, whole: Table | None, tasks: Sequence[str] | None, source: str, piece: int
) -> dict[str, Any]:
    """What parts must have in common to be of one table."""
    learned = json.dumps([model.n_parameters for model in bundle.models] + [task.state() for task in bundle.tasks])
    return {
        "data": str(data.resolve()),
        **_told(data, whole),
        "tasks": None if tasks is None else list(tasks),
        "source": source,
        "piece": piece,
        "bundle": hashlib.sha256((learned + json.dumps(bundle.provenance, default=str)).encode()).hexdigest(),
    }


def _found(target: Path, head: pd.DataFrame, piece: int, n_rows: int) -> tuple[int, tuple[str, ...]]:
    """What is in a file of answers that is there already, once it is sure that it has those for these rows.

    Raises:
        StorageError: If it is another file.
    """
    with tempfile.TemporaryDirectory(prefix="polytask-") as folder:
        expected = Path(folder) / f"head{target.suffix}"
        write_table(head, expected)
        with contextlib.suppress(AssertionError, PolytaskError):  # told below: no table, or one of other answers
            one, other = (next(pieces(path, len(head))).frame() for path in (target, expected))
            pd.testing.assert_frame_equal(one, other, check_dtype=False, rtol=1e-4)
            if sum(map(len, pieces(target, piece))) == n_rows:
                return n_rows, tuple(one.columns)
    raise StorageError(
        f"{target} exists already, is not the answers of this model to all these rows, and nothing is overwritten. "
        "Choose another --out, or give --overwrite."
    )
