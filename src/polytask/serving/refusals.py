"""Everything that a server refuses, in one form: a type, a message, the column and the row."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from polytask.errors import InputError, MissingExtraError, PolytaskError
from polytask.serving.answers import json_text
from polytask.serving.batching import BusyError

__all__ = ["Refusal", "response_to"]

_LOG = logging.getLogger("polytask.serving")


class Refusal(Exception):
    """A request that is not answered.

    Args:
        status: HTTP status.
        kind: Its type in one word.
        message: Why, and what to do.
        column: The column that it is about.
        row: The row that it is about.
    """

    def __init__(self, status: int, kind: str, message: str, column: str | None = None, row: int | None = None):
        super().__init__(message)
        self.status, self.kind, self.column, self.row = status, kind, column, row


def response_to(request: Request, error: Exception) -> Response:
    """The answer to a request that failed; a failure of the server's own is logged and told by a number only."""
    refusal = _refusal(error)
    if refusal is None:
        number = uuid.uuid4().hex[:12]
        _LOG.error("Failure %s at %s", number, request.url.path, exc_info=error)
        message = f"The server failed. The reason is in its log under {number}."
        refusal = Refusal(500, "internal", message)
    content = {"type": refusal.kind, "message": str(refusal), "column": refusal.column, "row": refusal.row}
    headers: Mapping[str, str] = {"Retry-After": "1"} if refusal.status == 503 else {}
    if refusal.status == 401:
        headers = {"WWW-Authenticate": "Bearer"}
    if isinstance(error, HTTPException) and error.headers:
        headers = error.headers
    return Response(json_text({"error": content}), refusal.status, headers, "application/json")


def _refusal(error: Exception) -> Refusal | None:
    if isinstance(error, Refusal):
        return error
    if isinstance(error, InputError):
        return Refusal(422, "input", str(error), error.column, getattr(error, "row", None))
    if isinstance(error, MissingExtraError):
        return Refusal(415, "format", str(error))
    if isinstance(error, PolytaskError):
        return Refusal(422, "input", str(error))
    if isinstance(error, BusyError):
        return Refusal(503, "busy", "Too many requests wait already; come again in a second.")
    if isinstance(error, TimeoutError):
        return Refusal(503, "time", "The request took longer than this server allows; send fewer rows.")
    if isinstance(error, ClientDisconnect):
        return Refusal(400, "disconnected", "The client went away before its request was whole.")
    if isinstance(error, HTTPException):
        kinds = {404: "not_found", 405: "method"}
        return Refusal(error.status_code, kinds.get(error.status_code, "http"), str(error.detail))
    return None
