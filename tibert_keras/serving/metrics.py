"""The counters of the server, for Prometheus."""

import prometheus_client as prometheus

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The metrics of one server, for Prometheus."""

    def __init__(self) -> None:
        self.registry = registry = prometheus.CollectorRegistry()
        prometheus.ProcessCollector(registry=registry)
        prometheus.PlatformCollector(registry=registry)
        self.requests = prometheus.Counter(
            "tibert_requests", "Requests, by endpoint and HTTP status", ["endpoint", "status"], registry=registry
        )
        self.seconds = prometheus.Histogram(
            "tibert_request_seconds", "Time to the answer", ["endpoint"], buckets=_SECONDS, registry=registry
        )
        self.batches = prometheus.Histogram(
            "tibert_batch_size", "Items computed together", ["queue"], buckets=_SIZES, registry=registry
        )
        self.waiting = prometheus.Gauge("tibert_waiting_items", "Items that wait", ["queue"], registry=registry)
        self.versions = prometheus.Gauge(
            "tibert_served_version", "Versions served", ["model", "version"], registry=registry
        )
