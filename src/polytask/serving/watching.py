"""Every request is counted, timed, and answered in time, whatever happens in it."""

from __future__ import annotations

import asyncio
import time

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from polytask.serving.meters import Meters
from polytask.serving.refusals import response_to

__all__ = ["Watching"]

_KNOWN = {"/", "/docs", "/openapi.json", "/model", "/metrics", "/predict", "/predict/file", "/health/live",
          "/health/ready"}  # fmt: skip


class Watching:
    """Around an application: a clock, a limit on time, and the last answer to what nobody else caught.

    Args:
        app: The application.
        meters: Where requests are counted.
        seconds: Time for one request.
    """

    def __init__(self, app: ASGIApp, meters: Meters, seconds: float):
        self.app, self.meters, self.seconds = app, meters, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.perf_counter(), 0

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message["headers"], (b"x-content-type-options", b"nosniff")]}
            await send(message)

        try:
            async with asyncio.timeout(self.seconds):
                await self.app(scope, receive, sent)
        except Exception as error:
            if status:  # the answer was on its way: the client sees that it is cut, and the log why
                raise
            await response_to(Request(scope), error)(scope, receive, sent)
        finally:
            path = scope["path"] if scope["path"] in _KNOWN else "other"
            self.meters.requests.labels(path, status or "none").inc()
            self.meters.seconds.labels(path).observe(time.perf_counter() - began)
