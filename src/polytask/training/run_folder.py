"""The folder of a run: what was asked, where it ran, what happened, what came out."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Collection
from importlib import metadata
from pathlib import Path
from typing import Any

from polytask.errors import RunFolderError, StorageError
from polytask.storage import FolderLock, append_text, is_half, remove_halves, save_tree, write_json, write_text
from polytask.training.ranks import here

__all__ = ["RunFolder"]

_MOST_CHANGES = 5


class RunFolder:
    """A folder that holds one run.

    ::

        recipe.json        what was asked
        environment.json   versions and machine
        history.jsonl      a line per epoch
        checkpoint         state of the training, to go on from
        bundle/            the trained model
        record.json        results

    Every file but the history is written whole or not at all; a line of the history is flushed to the disk before the
    checkpoint that counts it. From :meth:`open` to :meth:`close` no other run may open
    the folder. In data parallel the first process alone reads and writes, and tells the others.

    Args:
        path: The folder.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._lock: FolderLock | None = None

    @property
    def history_path(self) -> Path:
        """The history, a JSON object a line."""
        return self.path / "history.jsonl"

    @property
    def checkpoint_path(self) -> Path:
        """The newest checkpoint."""
        return self.path / "checkpoint"

    @property
    def bundle_path(self) -> Path:
        """The trained model."""
        return self.path / "bundle"

    @property
    def record_path(self) -> Path:
        """The results."""
        return self.path / "record.json"

    @property
    def is_finished(self) -> bool:
        """Whether the run came to its end."""
        return bool(here().by_first(self.record_path.exists))

    def check(self, *, resume: bool) -> None:
        """Raise if a run cannot begin here; costs nothing, so that it can be asked before data are read.

        Raises:
            RunFolderError: If it is a file, or holds something and ``resume`` is false.
        """
        here().by_first(lambda: self._check(resume))

    def _check(self, resume: bool) -> None:
        if self.path.exists() and not self.path.is_dir():
            raise RunFolderError(f"{self.path} is a file, not a folder; choose another --out.")
        if not resume and self.path.is_dir() and not self._is_untouched():
            raise RunFolderError(
                f"{self.path} holds something already, and nothing is overwritten. "
                "Choose another --out, or go on with it by --resume."
            )

    def open(self, recipe: dict[str, Any], *, resume: bool, free: Collection[str] = ()) -> None:
        """Make the folder, or go on in it.

        Args:
            recipe: What is asked.
            resume: Whether to go on with what it holds.
            free: Settings, such as ``study.budget``, that may be others than before.

        Raises:
            RunFolderError: If it holds something already and ``resume`` is false, another recipe's run, or one that
                another process is busy with.
        """
        here().by_first(lambda: self._open(recipe, resume, free))

    def _open(self, recipe: dict[str, Any], resume: bool, free: Collection[str]) -> None:
        known = self.path / "recipe.json"
        self._check(resume)
        self._hold()
        if self.path.is_dir() and not self._is_untouched():
            if known.exists():
                before = self._asked()
                # Compared as JSON holds it, as the one before was read.
                differing = _changes(before, json.loads(json.dumps(recipe)))
                if changed := [text for name, text in differing.items() if name not in free]:
                    more = "" if len(changed) <= _MOST_CHANGES else f", and {len(changed) - _MOST_CHANGES} more"
                    raise RunFolderError(
                        f"{self.path} is the run of another recipe: {'; '.join(changed[:_MOST_CHANGES])}{more}. "
                        "Resume with the same settings, or choose another --out."
                    )
                remove_halves(self.path)
                if differing:
                    write_json(known, recipe)
                return
            if self.checkpoint_path.exists():
                raise RunFolderError(f"{self.path} has a checkpoint but no recipe.json; it cannot be resumed.")
            raise RunFolderError(f"{self.path} is no run folder of polytask; choose another --out.")
        remove_halves(self.path)
        write_json(known, recipe)
        write_json(self.path / "environment.json", environment())

    def close(self) -> None:
        """Let other processes open the folder."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _hold(self) -> None:
        if self._lock is not None:
            return
        try:
            self._lock = FolderLock(self.path)
        except BlockingIOError:
            raise RunFolderError(
                f"{self.path} is in use: another run is busy with it. Wait until that ends, or choose another --out."
            ) from None

    def _is_untouched(self) -> bool:
        """Whether nothing would be lost: it is empty, or holds a run that ended before its first epoch."""
        held = {path.name for path in self.path.iterdir() if not is_half(path)}
        return held <= {"recipe.json", "environment.json", ".lock"}

    def _asked(self) -> dict[str, Any]:
        try:
            asked: dict[str, Any] = json.loads((self.path / "recipe.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RunFolderError(
                f"{self.path / 'recipe.json'} cannot be read, so the run cannot go on: {error}"
            ) from error
        return asked

    def save_checkpoint(self, state: dict[str, Any]) -> None:
        """Write the state; an interrupted write leaves the one before."""
        here().by_first(lambda: save_tree(self.checkpoint_path, state))

    def load_checkpoint(self) -> dict[str, Any] | None:
        """The newest state, or ``None`` if there is none yet.

        Raises:
            RunFolderError: If the file is damaged.
        """
        try:
            state: dict[str, Any] | None = here().tree_of_first(self.checkpoint_path)
        except StorageError as error:
            raise RunFolderError(f"The checkpoint cannot be read: {error}") from error
        return state

    def append_history(self, line: dict[str, Any]) -> None:
        """Add a line and flush it to the disk."""
        text = json.dumps(line, ensure_ascii=False) + "\n"
        here().by_first(lambda: append_text(self.history_path, text))

    def truncate_history(self, n_lines: int) -> None:
        """Keep the first lines only: what came after the checkpoint that a run goes on from is done again."""
        here().by_first(lambda: self._truncate(n_lines))

    def _truncate(self, n_lines: int) -> None:
        if not self.history_path.exists():
            if n_lines:
                raise RunFolderError(f"{self.history_path} is missing, though the checkpoint counts {n_lines} lines.")
            return
        lines = self.history_path.read_text(encoding="utf-8").splitlines(keepends=True)
        if len(lines) < n_lines:
            raise RunFolderError(f"{self.history_path} has {len(lines)} lines, though the checkpoint counts {n_lines}.")
        write_text(self.history_path, "".join(lines[:n_lines]))

    def history(self) -> list[dict[str, Any]]:
        """All lines so far."""
        lines: list[dict[str, Any]] = here().by_first(self._lines)
        return lines

    def _lines(self) -> list[dict[str, Any]]:
        if not self.history_path.exists():
            return []
        return [json.loads(line) for line in self.history_path.read_text(encoding="utf-8").splitlines()]

    def drop_checkpoint(self) -> None:
        """Remove the checkpoint of a finished run; the bundle holds the model."""
        here().by_first(lambda: self.checkpoint_path.unlink(missing_ok=True))


def _changes(before: Any, now: Any, where: str = "") -> dict[str, str]:
    """By name, each setting that differs, with both values.

    Example:
        >>> _changes({"recipe": {"seed": 0}}, {"recipe": {"seed": 3, "sharing": "mmoe"}})
        {'recipe.seed': 'recipe.seed was 0, and is 3', 'recipe.sharing': "recipe.sharing was not given, and is 'mmoe'"}
    """
    if before == now:
        return {}
    if isinstance(before, dict) and isinstance(now, dict):
        below = [(f"{where}.{key}" if where else key, key) for key in dict.fromkeys([*before, *now])]
        inner = [_changes(before.get(key), now.get(key), name) for name, key in below]
        return {name: text for each in inner for name, text in each.items()}
    shown = ["not given" if value is None else _short(repr(value)) for value in (before, now)]
    return {where: f"{where} was {shown[0]}, and is {shown[1]}"}


def _short(text: str, most: int = 60) -> str:
    return text if len(text) <= most else f"{text[:most]}..."


def environment() -> dict[str, Any]:
    """Versions of what decides the numbers, the kind of machine, and how many processes there are of several."""
    import torch

    ranks = here()
    packages = ("polytask", "torch", "numpy", "scipy", "scikit-learn", "pandas", "torchmetrics")
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "processor": platform.machine(),
        "threads": torch.get_num_threads(),
        "packages": {name: metadata.version(name) for name in packages},
        **({"processes": ranks.size} if ranks.size > 1 else {}),
    }
