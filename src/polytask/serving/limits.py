"""What a server takes from one client, and from all of them."""

from __future__ import annotations

from dataclasses import dataclass

from polytask.errors import RecipeError

__all__ = ["Limits"]


@dataclass(frozen=True)
class Limits:
    """Bounds of a server; whatever is beyond is refused with an answer that says which one.

    Args:
        rows: Rows of one request.
        file_rows: Rows of one file.
        bytes: Bytes of one request's body, as it comes over the wire.
        seconds: Time for one request, the time to send it included.
        batch_rows: Rows that go through the model at once; rows of several requests are put together up to this.
        waiting: Requests that may wait for the model; more are told to come again later.
        drain_seconds: After a stop was asked for, how long the server still takes requests while it says that it is
            not ready, so that a load balancer can turn away from it.

    Raises:
        RecipeError: If one is not above 0 (``drain_seconds``: below 0).
    """

    rows: int = 10_000
    file_rows: int = 1_000_000
    bytes: int = 32 << 20
    seconds: float = 30.0
    batch_rows: int = 1024
    waiting: int = 1024
    drain_seconds: float = 0.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 0 or (value == 0 and name != "drain_seconds"):
                raise RecipeError(f"The limit {name} must be above 0, got {value!r}.")
