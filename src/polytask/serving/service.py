"""What a server does with a request, whatever framework brings it."""

from __future__ import annotations

import asyncio
import hmac
import json
import time
from typing import Any

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from polytask.bundle import Bundle
from polytask.data.tables import FrameTable
from polytask.errors import UnknownNameError
from polytask.serving.answers import Answers, as_json, json_text
from polytask.serving.batching import Batcher
from polytask.serving.description import Description
from polytask.serving.files import FORMATS, format_of, read_file, written
from polytask.serving.limits import Limits
from polytask.serving.meters import Meters
from polytask.serving.needed import needed_columns
from polytask.serving.refusals import Refusal
from polytask.serving.rows import Columns, RowReader

__all__ = ["IGNORED", "NAMED", "Service"]

_PIECE = 4096
"""Rows of a file that go through the model at once, so that requests of few rows need not wait for a whole file."""
_PIECE_OF_MEDIA = 16
"""The same where rows are images or recordings: a piece is decoded to its end, also if nobody waits for it any more."""
IGNORED = "X-Ignored-Columns"
NAMED = 20
"""Ignored columns that the header of a file's answer names."""


class _Asked(BaseModel):
    """The body of ``POST /predict``."""

    model_config = ConfigDict(extra="forbid")
    rows: list[Any] = Field(min_length=1)
    tasks: list[str] | None = Field(default=None, min_length=1)
    source: str | None = None


class Service:
    """What the application's endpoints share.

    Args:
        bundle: The bundle.
        limits: What is taken from a client.
        api_key: Clients must send it; anybody may ask if ``None``.
    """

    def __init__(self, bundle: Bundle, limits: Limits, api_key: str | None = None):
        self.bundle, self.limits = bundle, limits
        self._api_key = api_key.encode() if api_key else None
        self.readers = {source: RowReader(bundle, source) for source in bundle.sources}
        self.description = Description(bundle, self.readers)
        self.meters = Meters()
        self.is_draining = False
        self.batcher = Batcher(self._predict, limits.batch_rows, limits.waiting, self.meters)

    def _predict(self, source: str, columns: Columns, tasks: Any) -> Answers:
        return self.bundle.predict(self.readers[source].data(columns), tasks, source)

    @property
    def needs_key(self) -> bool:
        """Whether clients must send a key."""
        return self._api_key is not None

    def check_key(self, request: Request) -> None:
        """Raise if the request lacks the key."""
        if self._api_key is None:
            return
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        given = request.headers.get("x-api-key") or (token if scheme.lower() == "bearer" else "")
        # Headers come as bytes, which the framework reads as Latin-1.
        if not hmac.compare_digest(given.encode("latin-1"), self._api_key):
            raise Refusal(401, "key", "This server needs a key: send it as 'X-API-Key: KEY' or as a bearer token.")

    def chosen(self, source: str | None, tasks: list[str] | None) -> tuple[str, list[str]]:
        """Source and tasks, once it is sure that the bundle has them."""
        if source is None and len(self.readers) > 1:
            raise Refusal(422, "source", f"Say which source the rows are of: {', '.join(self.readers)}.")
        name = next(iter(self.readers)) if source is None else source
        if name not in self.readers:
            raise UnknownNameError("source", name, self.readers)
        able = self.description.answered[name]
        for task in tasks or ():
            if task not in able:
                raise UnknownNameError("task", task, able)
        return name, list(dict.fromkeys(tasks)) if tasks else able

    async def body(self, request: Request) -> bytes:
        """The request's body, if it is not too long."""
        told = request.headers.get("content-length", "")
        size = int(told) if told.isdecimal() else 0
        parts = []
        if size <= self.limits.bytes:
            size = 0
            async for part in request.stream():
                size += len(part)
                if size > self.limits.bytes:
                    break
                parts.append(part)
        if size > self.limits.bytes:
            raise Refusal(413, "bytes", f"This server takes bodies of up to {self.limits.bytes:,} bytes.")
        return b"".join(parts)

    async def predict(self, request: Request) -> Response:
        """Rows as JSON."""
        self.check_key(request)
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise Refusal(415, "format", "The content type must be application/json; files go to /predict/file.")
        try:
            asked = _Asked.model_validate(json.loads(await self.body(request)))
        except ValidationError as error:
            found = [f"{'.'.join(map(str, e['loc'])) or 'body'}: {e['msg']}" for e in error.errors()]
            raise Refusal(422, "body", "; ".join(found)) from None
        except (ValueError, RecursionError) as error:
            raise Refusal(422, "body", f"The body is no JSON that can be read: {error}") from None
        if len(asked.rows) > self.limits.rows:
            raise Refusal(413, "rows", f"This server takes {self.limits.rows:,} rows at once; got {len(asked.rows):,}.")
        source, tasks = self.chosen(asked.source, asked.tasks)
        reader = self.readers[source]
        if any(column.check is not None for column in reader.columns):
            # Images are decoded, and others do not wait for them. A thread cannot be stopped: it looks at the clock.
            until = time.monotonic() + self.limits.seconds
            columns = await asyncio.to_thread(reader.read, asked.rows, until)
        else:
            columns = reader.read(asked.rows)
        answers = await self.batcher.answer(source, columns, len(asked.rows), tasks)
        self.meters.rows.labels("/predict").inc(len(asked.rows))
        content: dict[str, Any] = {"predictions": as_json(answers, len(asked.rows))}
        if reader.columns and (ignored := reader.ignored(asked.rows)):
            content["ignored"] = ignored
        return Response(json_text(content), media_type="application/json")

    async def predict_file(self, request: Request) -> Response:
        """A file in, a file out."""
        self.check_key(request)
        ending = format_of(request.headers.get("content-type", ""))
        accepted = request.headers.get("accept", "*/*").partition(",")[0].partition(";")[0].strip().lower()
        out = next((kind for kind, known in FORMATS.items() if known == ending), "text/csv")
        out = accepted if accepted in FORMATS else out
        given = request.query_params
        source, tasks = self.chosen(given.get("source"), given.getlist("tasks") or None)
        reader = self.readers[source]
        if not reader.columns:
            raise Refusal(422, "source", f"Rows of {source!r} are arrays: send them to /predict as JSON.")
        needed = needed_columns(self.bundle, source)
        frame, ignored = await asyncio.to_thread(read_file, await self.body(request), ending, needed, self.limits)
        parts = []
        n_rows = _PIECE_OF_MEDIA if any(column.kind in ("image", "sound") for column in reader.columns) else _PIECE
        for start in range(0, len(frame), n_rows):
            piece = FrameTable(frame.iloc[start : start + n_rows], "The file", first_row=start)
            piece.folder = None
            parts.append(await self.batcher.run(lambda piece=piece: self.bundle.predict_frame(piece, tasks, source)))
        answers = pd.concat(parts, ignore_index=True)
        self.meters.rows.labels("/predict/file").inc(len(answers))
        headers = {IGNORED: json.dumps(ignored[:NAMED])} if ignored else {}
        return Response(await asyncio.to_thread(written, answers, FORMATS[out]), headers=headers, media_type=out)
