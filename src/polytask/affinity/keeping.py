"""What is finished, kept in the folder of the record, so that nothing is trained twice after an interruption."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from polytask.errors import RunFolderError
from polytask.storage import write_json

__all__ = ["Kept"]


class Kept:
    """Plain results by what they are of, each a file, written whole when it is known.

    Args:
        path: The folder; nothing is kept if ``None``.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     first = Kept(folder).once({"seed": 3}, lambda: {"skill": 0.5})
        ...     Kept(folder).once({"seed": 3}, lambda: {"skill": 0.7})
        {'skill': 0.5}
    """

    def __init__(self, path: str | Path | None = None):
        self.path = None if path is None else Path(path)

    def once(self, what: Mapping[str, Any], make: Callable[[], Any]) -> Any:
        """The kept result; else what ``make`` gives, as JSON keeps it.

        Raises:
            RunFolderError: If a kept result cannot be read.
            StorageError: If it cannot be written.
        """
        if self.path is None:
            return make()
        key = json.dumps(what, sort_keys=True, ensure_ascii=False)
        file = self.path / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"
        if not file.exists():
            write_json(file, {"what": what, "found": make()})
        try:
            found = json.loads(file.read_text(encoding="utf-8"))["found"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunFolderError(f"{file} cannot be read: {error}. Remove it, and --resume does it again.") from error
        return found
