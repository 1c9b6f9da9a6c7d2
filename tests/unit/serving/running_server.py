"""A real server on loopback, in a thread of the test's process."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from polytask.bundle import Bundle
from polytask.serving.limits import Limits
from polytask.serving.server import Server
from polytask.serving.service import Service


@contextmanager
def running(bundle: Bundle, api_key: str | None = None, **limits) -> Iterator[tuple[httpx.Client, Server]]:
    server = Server(Service(bundle, Limits(**limits), api_key), "127.0.0.1", 0)
    thread = threading.Thread(target=server.run)
    thread.start()
    began = time.monotonic()
    while not server.started:
        assert thread.is_alive()
        assert time.monotonic() - began < 60
        time.sleep(0.005)
    try:
        with httpx.Client(base_url=server.url, timeout=60) as client:
            yield client, server
    finally:
        server.should_exit = True
        thread.join(60)
        assert not thread.is_alive(), "the server did not stop"
