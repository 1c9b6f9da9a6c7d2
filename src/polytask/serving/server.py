"""A server that stops without losing a request."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator
from types import FrameType

import uvicorn

from polytask.bundle import Bundle
from polytask.errors import PolytaskError
from polytask.serving.app import make_app
from polytask.serving.limits import Limits
from polytask.serving.service import Service

__all__ = ["Server", "serve"]


class Server(uvicorn.Server):
    """Uvicorn, which says that it is not ready before it stops taking requests, and answers those that it has.

    The first signal (SIGTERM, or Ctrl-C) begins the drain; without a time for it, or at a second signal, no new
    connection is taken, and those that are open are answered; a Ctrl-C after that ends the process at once.

    Args:
        service: What is served.
        host: Address to listen on.
        port: Port; any free one if 0.
        when_ready: Told the address once requests are taken.
    """

    def __init__(self, service: Service, host: str, port: int, when_ready: Callable[[str], None] | None = None):
        config = uvicorn.Config(
            make_app(service),
            host=host,
            port=port,
            log_level="warning",
            access_log=False,
            server_header=False,
            # Not the parser that is found: the other one bounds no head, and loses the body of a request that offers to
            # go on by another protocol, as Java's client does.
            http="h11",
            ws="none",
            h11_max_incomplete_event_size=64 << 10,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=round(service.limits.seconds) + 1,
        )
        super().__init__(config)
        self.service, self._when_ready = service, when_ready
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        if self.started and self._when_ready is not None:
            self._when_ready(self.url)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal begins the drain; the second one ends it."""
        seconds, is_first = self.service.limits.drain_seconds, not self.service.is_draining
        self.service.is_draining = True
        if self._loop is None or not is_first or seconds == 0:  # before it listens there is nothing to drain
            super().handle_exit(sig, frame)
        else:
            self._captured_signals.append(sig)
            self._loop.call_soon_threadsafe(self._loop.call_later, seconds, setattr, self, "should_exit", True)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Uvicorn raises the signals again at the end; after a stop that lost nothing, the process ends with 0."""
        with super().capture_signals():
            yield
            if not self.force_exit:
                self._captured_signals.clear()


def listening_on(host: str, port: int) -> socket.socket:
    """A socket that clients can connect to.

    Raises:
        PolytaskError: If the address cannot be listened on.
    """
    try:
        listening = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except (OSError, OverflowError) as error:
        raise PolytaskError(f"Cannot listen on {host}:{port}: {error}. Choose another --port or --host.") from error
    # Connections inherit it. Without it an answer's body waits until the client has acknowledged its head, 40 ms:
    # asyncio turns it on for sockets that name TCP as their protocol, and ``create_server`` names none.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def serve(
    bundle: Bundle,
    host: str = "127.0.0.1",
    port: int = 8000,
    limits: Limits | None = None,
    api_key: str | None = None,
    when_ready: Callable[[str], None] | None = None,
) -> None:
    """Serve a bundle until a signal comes; what was taken by then is answered.

    Args:
        bundle: The bundle.
        host: Address to listen on; this machine only unless told otherwise.
        port: Port; any free one if 0.
        limits: What is taken from a client.
        api_key: Clients must send it.
        when_ready: Told the address once requests are taken.

    Raises:
        PolytaskError: If the address cannot be listened on.
        KeyboardInterrupt: If a second Ctrl-C ended it before all was answered.
    """
    server = Server(Service(bundle, limits or Limits(), api_key), host, port, when_ready)
    listening = listening_on(host, port)
    try:
        server.run(sockets=[listening])
    finally:
        listening.close()
