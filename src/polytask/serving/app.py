"""The HTTP application of a bundle: its end points and their description."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from polytask import __version__
from polytask.errors import PolytaskError
from polytask.serving.answers import json_text
from polytask.serving.batching import BusyError
from polytask.serving.description import ANSWER, ERROR
from polytask.serving.files import FORMATS
from polytask.serving.pages import Pages
from polytask.serving.refusals import Refusal, response_to
from polytask.serving.service import IGNORED, NAMED, Service
from polytask.serving.watching import Watching

__all__ = ["make_app"]


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
        responses={
            200: {
                "description": "A row of answers for each row.",
                "content": files,
                "headers": {
                    IGNORED: {
                        "description": f"Columns of the file that the model does not read, as JSON; at most {NAMED}.",
                        "schema": {"type": "string"},
                    }
                },
            },
            **refused,
        },
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
