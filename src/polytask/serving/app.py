"""The HTTP application of a bundle."""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pandas as pd
from fastapi import FastAPI, Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from polytask import __version__
from polytask.bundle import Bundle
from polytask.data.tables import FrameTable
from polytask.errors import PolytaskError, UnknownNameError
from polytask.serving.answers import Answers, as_json, json_text
from polytask.serving.batching import Batcher, BusyError
from polytask.serving.description import ANSWER, ERROR, Description
from polytask.serving.files import FORMATS, format_of, read_file, written
from polytask.serving.limits import Limits
from polytask.serving.meters import Meters
from polytask.serving.pages import Pages
from polytask.serving.refusals import Refusal, response_to
from polytask.serving.rows import Columns, RowReader
from polytask.serving.watching import Watching

__all__ = ["Service", "make_app"]

_PIECE = 4096
"""Rows of a file that go through the model at once, so that requests of few rows need not wait for a whole file."""


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
            columns = await asyncio.to_thread(reader.read, asked.rows)  # images are decoded, and others wait for no one
        else:
            columns = reader.read(asked.rows)
        answers = await self.batcher.answer(source, columns, len(asked.rows), tasks)
        self.meters.rows.labels("/predict").inc(len(asked.rows))
        return Response(json_text({"predictions": as_json(answers, len(asked.rows))}), media_type="application/json")

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
        needed = {column.name for column in reader.columns}
        frame = await asyncio.to_thread(read_file, await self.body(request), ending, needed, self.limits)
        parts = []
        for start in range(0, len(frame), _PIECE):
            piece = FrameTable(frame.iloc[start : start + _PIECE], "The file", first_row=start)
            piece.folder = None
            parts.append(await self.batcher.run(lambda piece=piece: self.bundle.predict_frame(piece, tasks, source)))
        answers = pd.concat(parts, ignore_index=True)
        self.meters.rows.labels("/predict/file").inc(len(answers))
        return Response(await asyncio.to_thread(written, answers, FORMATS[out]), media_type=out)


def make_app(service: Service) -> ASGIApp:
    """The application: predictions, health, metrics, the description, two pages.

    Predictions are described by the framework and do not go through it: its layers, routes and tracing cost several
    times what reading a row does.

    Args:
        service: The bundle and its limits.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.batcher.start()
        yield
        service.is_draining = True
        await service.batcher.close()

    app = FastAPI(title="polytask", version=__version__, docs_url=None, redoc_url=None, lifespan=lifespan)
    for kind in (Refusal, PolytaskError, BusyError, HTTPException):
        app.add_exception_handler(kind, _handler)
    app.add_middleware(Watching, meters=service.meters, seconds=service.limits.seconds)
    _add_predictions(app, service)
    _add_health(app, service)
    pages = Pages(service.description)

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return pages.form()

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return pages.docs(app.openapi())

    if service.needs_key:
        _describe_key(app.openapi())
    answering = {"/predict": service.predict, "/predict/file": service.predict_file}
    direct = {path: Watching(_plain(f), service.meters, service.limits.seconds) for path, f in answering.items()}

    async def straight(scope: Scope, receive: Receive, send: Send) -> None:
        is_post = scope["type"] == "http" and scope["method"] == "POST"
        await (direct.get(scope["path"], app) if is_post else app)(scope, receive, send)

    return straight


def _plain(answer: Callable[[Request], Awaitable[Response]]) -> ASGIApp:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        response = await answer(Request(scope, receive))
        await response(scope, receive, send)

    return application


def _describe_key(schema: dict[str, Any]) -> None:
    """Say in the description how the key is sent, at every operation that asks for it."""
    schemes = {
        "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        "bearer": {"type": "http", "scheme": "bearer"},
    }
    schema.setdefault("components", {})["securitySchemes"] = schemes
    for operations in schema["paths"].values():
        for operation in operations.values():
            if "401" in operation["responses"]:
                operation["security"] = [{name: []} for name in schemes]


async def _handler(request: Request, error: Exception) -> Response:
    return response_to(request, error)


def _refused(*statuses: int) -> dict[int | str, dict[str, Any]]:
    words = {401: "No key.", 413: "Too large.", 415: "Unknown format.", 422: "Rows that cannot be used.",
             500: "A failure of the server.", 503: "Busy, or out of time."}  # fmt: skip
    return {n: {"description": words[n], "content": {"application/json": {"schema": ERROR}}} for n in statuses}


def _add_predictions(app: FastAPI, service: Service) -> None:
    tasks = [task.name for task in service.bundle.tasks]
    files = {kind: {"schema": {"type": "string", "format": "binary"}} for kind in FORMATS}
    rows = {"application/json": {"schema": service.description.request_schema()}}
    asked = [
        {"name": "tasks", "in": "query", "schema": {"type": "array", "items": {"type": "string", "enum": tasks}},
         "description": "The tasks to answer, one by one; all if left out."},
        {"name": "source", "in": "query", "schema": {"type": "string", "enum": list(service.readers)},
         "description": "Which source the rows are of."},
    ]  # fmt: skip
    refused = _refused(401, 413, 415, 422, 503)
    answered = {"description": "Answers.", "content": {"application/json": {"schema": ANSWER}}}

    @app.post(
        "/predict",
        summary="Predict rows given as JSON.",
        responses={200: answered, **refused},
        openapi_extra={"requestBody": {"required": True, "content": rows}},
        response_class=Response,
    )
    async def predict(request: Request) -> Response:
        return await service.predict(request)

    @app.post(
        "/predict/file",
        summary="Predict a file: CSV, Parquet or Arrow in, the same or what Accept names out.",
        responses={200: {"description": "A row of answers for each row.", "content": files}, **refused},
        openapi_extra={"requestBody": {"required": True, "content": files}, "parameters": asked},
        response_class=Response,
    )
    async def predict_file(request: Request) -> Response:
        return await service.predict_file(request)


def _add_health(app: FastAPI, service: Service) -> None:
    @app.get("/health/live", summary="Whether the process answers.")
    async def live() -> dict[str, str]:
        return {"status": "alive"}

    @app.get("/health/ready", summary="Whether requests should be sent here.", responses=_refused(503))
    async def ready() -> dict[str, str]:
        if service.is_draining:
            raise Refusal(503, "draining", "This server is about to stop.")
        return {"status": "ready"}

    @app.get("/model", summary="Tasks, sources and columns.", responses=_refused(401), response_class=Response)
    async def model(request: Request) -> Response:
        service.check_key(request)
        return Response(json_text(service.description.plain()), media_type="application/json")

    @app.get("/metrics", summary="Counters for Prometheus.", responses=_refused(401), response_class=Response)
    async def metrics(request: Request) -> Response:
        service.check_key(request)
        return Response(service.meters.text(), media_type="text/plain; version=0.0.4")
