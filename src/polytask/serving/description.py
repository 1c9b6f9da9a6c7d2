"""What a bundle answers and what it needs for that: for people, and as OpenAPI schemas for programs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from polytask.bundle import Bundle
from polytask.serving.rows import RowColumn, RowReader
from polytask.tasks.task import Task

__all__ = ["Description"]

_MOST_CHOICES = 200
_TEXTS = {
    "molecule": "A molecule, as SMILES.",
    "words": "Free text.",
    "sound": "A WAV file: data:audio/wav;base64,...",
    "image": "An image of the size of those in training: data:image/png;base64,...",
}


class Description:
    """A bundle in words and schemas.

    Args:
        bundle: The bundle.
        readers: How the rows of each source are read.
    """

    def __init__(self, bundle: Bundle, readers: Mapping[str, RowReader]):
        self.bundle, self.readers = bundle, readers
        self.answered = {
            source: [
                task.name
                for task in bundle.tasks
                if any(source in model.sources and task.name in model.tasks for model in bundle.models)
            ]
            for source in bundle.sources
        }
        """By source, the tasks that some model answers for its rows, in order."""

    def plain(self) -> dict[str, Any]:
        """Tasks, sources and columns as JSON can hold them."""
        return {
            "tasks": [self._task(task) for task in self.bundle.tasks],
            "sources": [
                {
                    "name": source,
                    "tasks": self.answered[source],
                    "columns": [_plain(column) for column in reader.columns],
                    "arrays": None if reader.shape is None else reader.shape.to_json(),
                }
                for source, reader in self.readers.items()
            ],
            "provenance": self.bundle.provenance,
        }

    def _task(self, task: Task) -> dict[str, Any]:
        labels = getattr(getattr(task, "classes_", None), "names", None) or getattr(task, "labels", None) or ()
        metrics = self.bundle.metrics.get(task.name, {})
        return {
            "name": task.name,
            "kind": task.kind,
            "labels": [str(label) for label in labels],
            "metric": task.metrics[0].name,
            "measured": metrics.get(task.metrics[0].name),
        }

    def request_schema(self) -> dict[str, Any]:
        """JSON schema of the body of ``POST /predict``."""
        rows = [self._row_schema(reader) for reader in self.readers.values()]
        schema: dict[str, Any] = {
            "type": "object",
            "required": ["rows"],
            "additionalProperties": False,
            "properties": {
                "rows": {"type": "array", "minItems": 1, "items": rows[0] if len(rows) == 1 else {"anyOf": rows}},
                "tasks": {
                    "type": ["array", "null"],
                    "minItems": 1,
                    "items": {"type": "string", "enum": [task.name for task in self.bundle.tasks]},
                    "description": "The tasks to answer; all if left out.",
                },
                "source": {
                    "type": ["string", "null"],
                    "enum": [*self.readers, None],
                    "description": "Which source the rows are of; may be left out if there is only one.",
                },
            },
        }
        if len(rows) > 1:
            schema["required"].append("source")
        return schema

    def _row_schema(self, reader: RowReader) -> dict[str, Any]:
        if reader.columns:
            return {
                "type": "object",
                "title": reader.source,
                "required": [column.name for column in reader.columns],
                "properties": {column.name: _cell_schema(column) for column in reader.columns},
            }
        fields = {} if reader.shape is None else reader.shape.fields
        cells = {}
        for name, field in fields.items():
            cell: dict[str, Any] = {"type": "integer", "minimum": 0} if field.cardinalities else {"type": "number"}
            for extent in reversed(field.shape):
                cell = {"type": "array", "items": cell, "minItems": extent, "maxItems": extent}
            cells[name] = cell
        if len(cells) == 1:
            return {"title": reader.source, **next(iter(cells.values()))}
        return {"title": reader.source, "type": "object", "required": list(cells), "properties": cells}


def _plain(column: RowColumn) -> dict[str, Any]:
    return {key: value for key, value in vars(column).items() if key != "check"}


def _cell_schema(column: RowColumn) -> dict[str, Any]:
    if column.kind == "numeric":
        schema: dict[str, Any] = {"type": ["number", "null"]}
    elif column.kind == "boolean":
        schema = {"type": ["boolean", "null"]}
    elif column.kind == "date":
        schema = {"type": ["string", "null"], "format": "date"}
    elif column.kind in _TEXTS:
        schema = {"type": "string" if column.is_needed else ["string", "null"], "description": _TEXTS[column.kind]}
    else:
        schema = {"type": ["string", "null"]}
        known = list(column.choices[:_MOST_CHOICES])
        more = " ..." if len(column.choices) > len(known) else ""
        schema["description"] = f"Known: {', '.join(known)}{more}. Others count as rare."
    return {**schema, "examples": [column.typical]}


ANSWER = {
    "type": "object",
    "required": ["predictions"],
    "properties": {
        "predictions": {
            "type": "array",
            "description": "An object a row, in the order of the rows: for each task, its value and probabilities.",
            "items": {
                "type": "object",
                "additionalProperties": {
                    "type": "object",
                    "required": ["value"],
                    "properties": {
                        "value": {"description": "The answer in the user's units; by label where there are several."},
                        "probabilities": {"type": "object", "additionalProperties": {"type": "number"}},
                    },
                },
            },
        },
        "ignored": {
            "type": "array",
            "description": "Columns that rows of the request have and the model does not read, if there are any.",
            "items": {"type": "string"},
        },
    },
}
"""JSON schema of what ``POST /predict`` gives."""

ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["type", "message", "column", "row"],
            "properties": {
                "type": {"type": "string"},
                "message": {"type": "string"},
                "column": {"type": ["string", "null"]},
                "row": {"type": ["integer", "null"]},
            },
        }
    },
}
"""JSON schema of every refusal."""
