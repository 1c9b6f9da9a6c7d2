"""Every error that polytask raises on purpose.

::

    PolytaskError
    ├── DataError            the data cannot be used as asked
    │   ├── TargetError      a target column or its labels
    │   └── InputError       an input column, image or array
    ├── RecipeError          a setting is unknown or contradicts another
    │   └── UnknownNameError no method of that name; carries near matches
    ├── TrainingError        a run cannot go on
    │   ├── NonFiniteError   NaN or infinity in a loss or gradient
    │   │   └── ExplodedError  a loss is many times what it usually was
    │   ├── HangingError     a source gives no batch in time
    │   └── RunFolderError   the run folder exists, is damaged or cannot be written
    ├── StorageError         a file cannot be written, or is damaged
    ├── BundleError          a bundle is damaged, newer than this version, or not one
    └── MissingExtraError    an optional dependency is not installed

A message says who needs what, what it got, and what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "BundleError",
    "DataError",
    "ExplodedError",
    "HangingError",
    "InputError",
    "MissingExtraError",
    "NonFiniteError",
    "PolytaskError",
    "RecipeError",
    "RunFolderError",
    "StorageError",
    "TargetError",
    "TrainingError",
    "UnknownNameError",
]


_NAMED = 60
"""Known names that a message lists: a table may have thousands of columns."""


_NEAR = 0.66
"""How alike two names are, from 0 to 1, before one is suggested for the other: a slip of the pen, not another word."""


class PolytaskError(Exception):
    """Base of every error raised on purpose; the command line prints it without a traceback."""


class DataError(PolytaskError, ValueError):
    """The data cannot be used as asked."""


class TargetError(DataError):
    """A target column, or the labels in it, cannot be used."""


class InputError(DataError):
    """An input column, image or array cannot be used.

    Args:
        message: Who needs what, got what, and what to do.
        column: The column that it is about, for programs that answer other programs.
    """

    def __init__(self, message: str, column: str | None = None):
        super().__init__(message)
        self.column = column


class RecipeError(PolytaskError, ValueError):
    """A setting is unknown, or contradicts another."""


class UnknownNameError(RecipeError):
    """No method of that name is known.

    Args:
        role: What was looked for, in one word: ``balancer``, ``sharing``, ``task``.
        name: The name that was asked for.
        known: Every name there is.
        where: What asked for it, where that is not plain.

    Example:
        >>> print(UnknownNameError("balancer", "nash", ["equal", "nash_mtl"]))
        No balancer named 'nash'. Did you mean 'nash_mtl'? Known: equal, nash_mtl.
        >>> print(UnknownNameError("task", "prize", ["price"], where="the constraint prize.loss<=0.3"))
        No task named 'prize', for the constraint prize.loss<=0.3. Did you mean 'price'? Known: price.
    """

    def __init__(self, role: str, name: str, known: Iterable[str], where: str = ""):
        names = sorted(known)
        near = self.nearest(name, names)
        hint = f" Did you mean {near!r}?" if near else ""
        asked = f"{name!r}, for {where}" if where else f"{name!r}"
        more = f", ... ({len(names):,} in all)" if len(names) > _NAMED else ""
        super().__init__(f"No {role} named {asked}.{hint} Known: {', '.join(names[:_NAMED]) or 'none'}{more}.")

    @staticmethod
    def nearest(name: str, known: Iterable[str]) -> str | None:
        """The known name that was probably meant: one like it, or one that it begins; ``None`` if there is none.

        Example:
            >>> UnknownNameError.nearest("nash", ["equal", "nash_mtl"])
            'nash_mtl'
            >>> UnknownNameError.nearest("tabnet", ["unet"]) is None
            True
        """
        names = list(known)
        near = difflib.get_close_matches(name, names, n=1, cutoff=_NEAR)
        return next(iter(near or [candidate for candidate in names if name and candidate.startswith(name)]), None)


class TrainingError(PolytaskError, RuntimeError):
    """A run cannot go on."""


class NonFiniteError(TrainingError):
    """NaN or infinity appeared in a loss or a gradient; the message names the task and the step.

    Args:
        message: Who needs what, got what, and what to do.
        tasks: The tasks whose loss it was, if it was one, and nothing was changed by the step yet.
    """

    def __init__(self, message: str, tasks: tuple[str, ...] = ()):
        super().__init__(message)
        self.tasks = tasks


class ExplodedError(NonFiniteError):
    """A loss is a number still, but many times what it usually was; the message names the task and both numbers."""


class HangingError(TrainingError):
    """A source has not given a batch in the time that was set; the message names it, and where it is."""


class RunFolderError(TrainingError):
    """The run folder exists already, is damaged, or cannot be written."""


class StorageError(PolytaskError, OSError):
    """A file cannot be written or is damaged; what was there before is whole."""


class BundleError(PolytaskError, RuntimeError):
    """A bundle is damaged, of a newer schema, or not a bundle."""


class MissingExtraError(PolytaskError, ImportError):
    """An optional dependency is needed and not installed.

    Example:
        >>> print(MissingExtraError("reading Parquet", "pyarrow", "parquet"))
        reading Parquet needs pyarrow, which is not installed. Install it with: pip install 'polytask[parquet]'.
    """

    def __init__(self, who: str, package: str, extra: str):
        super().__init__(
            f"{who} needs {package}, which is not installed. Install it with: pip install 'polytask[{extra}]'."
        )
