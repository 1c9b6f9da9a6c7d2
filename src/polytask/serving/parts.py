"""A table that is written in parts, each whole or not there: after a kill, the writing goes on after the last one."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from polytask.errors import StorageError
from polytask.storage import is_half, remove_halves, whole_file, write_json

__all__ = ["Parts"]


class Parts:
    """The parts of a table that is being written, in a folder beside it.

    Args:
        target: The table.
        plan: What tells whether parts are of this table: what is kept of it with them must be equal.
    """

    def __init__(self, target: Path, plan: dict[str, Any]):
        self.target, self.plan = target, plan
        self.folder = target.with_name(f"{target.name}.parts")

    def path(self, number: int) -> Path:
        """The file of a part."""
        return self.folder / f"{number:06d}{self.target.suffix}"

    @property
    def begun(self) -> bool:
        """Whether there are parts to go on with."""
        return (self.folder / "plan.json").exists()

    def open(self, *, resume: bool, overwrite: bool) -> int:
        """Make the folder, or go on in it; how many parts are done."""
        begun = self.begun
        held = self.folder.is_dir() and any(not is_half(path) for path in self.folder.iterdir())
        if not begun and self.folder.exists() and (held or not self.folder.is_dir()):
            raise StorageError(f"{self.folder} is needed for parts, but is something else. Choose another --out.")
        if overwrite:
            if begun:
                self.remove()
            begun = False
        elif begun and not resume:
            raise StorageError(
                f"{self.folder} holds part of these predictions: go on by --resume, or begin anew by --overwrite."
            )
        elif self.target.exists() and not begun:
            raise StorageError(
                f"{self.target} exists already, and nothing is overwritten. Choose another --out, or give --overwrite."
            )
        if begun:
            self._check_plan()
            remove_halves(self.target.parent, self.target.name)
            number = 0
            while self.path(number).exists():
                number += 1
            return number
        write_json(self.folder / "plan.json", self.plan)
        return 0

    def _check_plan(self) -> None:
        try:
            before = json.loads((self.folder / "plan.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise StorageError(
                f"{self.folder / 'plan.json'} cannot be read: {error}. Begin anew by --overwrite."
            ) from None
        if before != self.plan:
            changed = sorted(key for key in self.plan if before.get(key) != self.plan[key])
            raise StorageError(
                f"{self.folder} holds predictions of other {', '.join(changed)}; begin anew by --overwrite."
            )

    def join(self) -> tuple[int, tuple[str, ...]]:
        """The parts as one table, a part in memory at a time; then they are removed, what says so last."""
        paths: list[Path] = []
        while (path := self.path(len(paths))).exists():
            paths.append(path)
        with whole_file(self.target) as temporary:
            joining = _join_text if self.target.suffix in (".csv", ".tsv") else _join_arrow
            n_rows, names = joining(paths, temporary)
        self.remove()
        return n_rows, names

    def remove(self) -> None:
        """Remove the parts, and what says that they are parts last."""
        for path in self.folder.glob(f"*{self.target.suffix}"):
            path.unlink()
        remove_halves(self.folder)
        (self.folder / "plan.json").unlink()
        self.folder.rmdir()


def _join_text(paths: Sequence[Path], out: Path) -> tuple[int, tuple[str, ...]]:
    sep = "\t" if paths[0].suffix == ".tsv" else ","
    names = tuple(pd.read_csv(paths[0], sep=sep, nrows=0).columns)
    n_rows = 0
    with out.open("wb") as joined:
        for number, path in enumerate(paths):
            frame = pd.read_csv(path, sep=sep, dtype=str, keep_default_na=False)
            n_rows += len(frame)
            with path.open("rb") as part:
                if number:
                    header = pd.read_csv(path, sep=sep, nrows=0).to_csv(index=False, sep=sep).encode()
                    part.seek(len(header))
                shutil.copyfileobj(part, joined)
    return n_rows, names


def _join_arrow(paths: Sequence[Path], out: Path) -> tuple[int, tuple[str, ...]]:
    n_rows = 0
    with contextlib.ExitStack() as stack:
        writer: Any = None
        for table in map(_arrow_table, paths):
            if writer is None:
                schema = table.schema.remove_metadata()
                writer = stack.enter_context(_writer(out, schema, paths[0].suffix))
            writer.write_table(table.replace_schema_metadata(None).cast(schema))
            n_rows += len(table)
    return n_rows, tuple(schema.names)


def _arrow_table(path: Path) -> Any:
    if path.suffix == ".parquet":
        from pyarrow import parquet

        return parquet.read_table(path)
    from pyarrow import feather

    return feather.read_table(path)


@contextlib.contextmanager
def _writer(out: Path, schema: Any, ending: str) -> Iterator[Any]:
    if ending == ".parquet":
        from pyarrow import parquet

        with parquet.ParquetWriter(out, schema) as writer:
            yield writer
        return
    import pyarrow

    with pyarrow.OSFile(str(out), "wb") as sink, pyarrow.ipc.new_file(sink, schema) as writer:
        yield writer
