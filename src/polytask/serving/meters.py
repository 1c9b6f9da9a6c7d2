"""What a server counts, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

__all__ = ["Meters"]


class Meters:
    """Counters and histograms of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("polytask_requests", "Requests answered.", ["path", "status"], registry=self.registry)
        self.seconds = Histogram(
            "polytask_request_seconds",
            "Time from a request's first byte to its answer.",
            ["path"],
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
            registry=self.registry,
        )
        self.rows = Counter("polytask_rows", "Rows predicted.", ["path"], registry=self.registry)
        self.batch_rows = Histogram(
            "polytask_batch_rows",
            "Rows that went through the model at once.",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024),
            registry=self.registry,
        )
        self.waiting = Gauge("polytask_waiting_requests", "Requests that wait for the model.", registry=self.registry)
        self.split = Counter(
            "polytask_split_batches",
            "Batches that failed and were done again, request by request.",
            registry=self.registry,
        )
        self.failed = Counter(
            "polytask_failures", "Requests that failed by the server's fault.", registry=self.registry
        )

    def text(self) -> bytes:
        """All of it, in Prometheus' text form."""
        return generate_latest(self.registry)
