"""How records are read and written: as JSON, without NaN, in the form that their annotations ask for."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from polytask.errors import DataError

__all__ = ["SCHEMA", "as_annotated", "check_schema", "load_form", "read_file", "read_form", "without_nan"]

SCHEMA = 1

Form = TypeVar("Form")

_WORDS = {"study": "a study", "run": "a run"}


def check_schema(schema: int) -> None:
    """Raise if a record is of a newer form than this polytask knows.

    Raises:
        DataError: Saying what to do.
    """
    if schema > SCHEMA:
        raise DataError(f"This record has schema {schema}, this polytask reads up to {SCHEMA}: upgrade polytask.")


def read_form(kind: type[Form], data: Mapping[str, Any], form: str) -> Form:
    """A record from JSON.

    Args:
        kind: Its class.
        data: What its ``to_json`` gave.
        form: What it says of itself, which is also the verb that writes it.

    Raises:
        DataError: If it is of another form, or of a newer schema.
    """
    if data.get("form") != form:
        raise DataError(f"This is no record of {_WORDS.get(form, form)}; {_writes(form)}")
    check_schema(data["schema"])
    read: Form = as_annotated(kind, {key: value for key, value in data.items() if key != "form"})
    return read


def load_form(kind: type[Form], path: str | Path, form: str) -> Form:
    """A record from its file, or from that in a folder; see :func:`read_form`.

    Raises:
        DataError: If there is none, or it cannot be read.
    """
    file = Path(path)
    file = file / f"{form}.json" if file.is_dir() else file
    return read_file(file, lambda data: read_form(kind, data, form), form, _writes(form))


def read_file(path: str | Path, read: Callable[[Any], Form], form: str, way: str) -> Form:
    """A record from its file.

    Args:
        path: The file.
        read: Parsed JSON to the record.
        form: What it is a record of, for messages.
        way: How such a file comes about, for messages.

    Raises:
        DataError: If there is none, or it cannot be read.
    """
    file = Path(path)
    try:
        return read(json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise DataError(f"{file} does not exist; {way}") from None
    except DataError:
        raise
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:  # whatever the file holds
        raise DataError(f"{file} is damaged or no record of {_WORDS.get(form, form)}: {error}") from error


def _writes(form: str) -> str:
    return f"`polytask {form} --out RUN` writes RUN/{form}.json."


def as_annotated(form: Any, value: Any) -> Any:
    """A value from JSON in the form that an annotation asks for."""
    if is_dataclass(form) and isinstance(form, type):
        hints = get_type_hints(form)
        return form(**{key: as_annotated(hints[key], item) for key, item in value.items()})
    origin, inner = get_origin(form), get_args(form)
    if origin is tuple:
        return tuple(as_annotated(inner[0], item) for item in value)
    if origin in (Union, UnionType):
        (chosen,) = {*inner} - {NoneType} if len(inner) == 2 and NoneType in inner else (Any,)
        return None if value is None else as_annotated(chosen, value)
    if origin is Mapping:
        return {key: as_annotated(inner[1], item) for key, item in value.items()}
    return value


def without_nan(value: Any) -> Any:
    """The same data with ``None`` for NaN and infinity, for which JSON has no form.

    Example:
        >>> without_nan({"a": [1.0, float("nan")], "b": ("x",)})
        {'a': [1.0, None], 'b': ['x']}
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return value
