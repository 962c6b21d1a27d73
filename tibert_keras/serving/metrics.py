"""What Prometheus is told."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The metrics of one server.

    Attributes:
        registry: What `prometheus_client.generate_latest` writes.
        requests: Requests by endpoint and status.
        seconds: How long they took, by endpoint.
        batches: Sizes of batches, by queue.
        waiting: Items in a queue.
        versions: 1 for each version that is served.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self.requests = Counter(
            "tibert_requests", "Requests, by endpoint and HTTP status", ["endpoint", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "tibert_request_seconds", "Time to the answer", ["endpoint"], buckets=_SECONDS, registry=self.registry
        )
        self.batches = Histogram(
            "tibert_batch_size", "Items computed together", ["queue"], buckets=_SIZES, registry=self.registry
        )
        self.waiting = Gauge("tibert_waiting_items", "Items that wait", ["queue"], registry=self.registry)
        self.versions = Gauge("tibert_served_version", "Versions served", ["model", "version"], registry=self.registry)
