"""Who may ask: the token, and the names under which web pages may address the server; and how many have."""

import hmac
import ipaddress
import socket
import time
from urllib.parse import urlsplit

import prometheus_client as prometheus
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tibert_keras.serving.config import ServeConfig
from tibert_keras.serving.protocol import RequestError, refuse

# Paths that need no token: they reveal nothing of the models.
_PUBLIC = ("/", "/healthz", "/docs", "/openapi.json")
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}
# curl says `x-www-form-urlencoded` if it is told nothing else. Web pages may send it to anyone, but say where they come
# from.
_JSON_TYPES = ("", "application/json", "text/json", "application/x-www-form-urlencoded", "application/octet-stream")
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


class AccessMiddleware:
    """Refuses requests that are not for this server, counts all, and adds headers to the answers.

    Without a token, any web page could make its visitor's browser ask a server on his machine, directly or by turning
    its own name into the server's address. So the browser must have addressed the server by an address or one of the
    server's names, and a page that asks must be the server's own. With a token this is checked only if `allowed_hosts`
    is given.
    """

    def __init__(self, app: ASGIApp, *, config: ServeConfig, token: str | None, metrics: Metrics) -> None:
        self._app = app
        self._token = None if token is None else token.encode()
        self._metrics = metrics
        self._allowed = config.host_names
        self._checks_hosts = "*" not in self._allowed and (token is None or bool(self._allowed))
        self._own = {"localhost", config.host.lower(), socket.gethostname().lower(), *self._allowed}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500

        async def send_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                _complete(MutableHeaders(scope=message), closes=_is_ambiguous(Headers(scope=scope)))
            await send(message)

        app = self._app
        try:
            self._check(scope)
        except RequestError as error:
            app = refuse(error)
        try:
            await app(scope, receive, send_on)
        finally:
            # The name of a method: clients may make up any number of paths.
            endpoint = getattr(scope.get("endpoint"), "__name__", "none")
            self._metrics.requests.labels(endpoint, status).inc()
            self._metrics.seconds.labels(endpoint).observe(time.perf_counter() - started)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        if _is_ambiguous(headers):
            raise RequestError(400, "A request has Content-Length or Transfer-Encoding, not both.")
        if self._checks_hosts:
            self._check_hosts(headers)
        is_public = scope["path"] in _PUBLIC or scope["path"].startswith("/page/")
        if self._token is not None and not is_public:
            scheme, _, given = headers.get("authorization", "").partition(" ")
            if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), self._token):
                raise RequestError(401, "This server asks for a token. Send it as 'Authorization: Bearer TOKEN'.")
        if scope["method"] == "POST":
            _check_type(headers)

    def _check_hosts(self, headers: Headers) -> None:
        host, origin = headers.get("host", "").lower(), headers.get("origin", "").lower()
        name = _host_name(f"//{host}")
        # Clients of HTTP/1.0 need not send it, and nobody on the internet has a name without a dot.
        if host and "." in name and name not in self._own and not _is_address(name):
            raise RequestError(
                421, f"This server has another name. Received: {host[:100]!r}. Ask it by its address, or start it with "
                "--allowed_hosts."
            )  # fmt: skip
        if origin and origin.partition("://")[2] != host and _host_name(origin) not in self._allowed:
            raise RequestError(
                403, f"A page of another server may not ask this one. Received: {origin[:100]!r}. Start the server "
                "with --allowed_hosts if it may."
            )  # fmt: skip


def _check_type(headers: Headers) -> None:
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in _JSON_TYPES and not kind.endswith("+json"):
        raise RequestError(415, f"The body must be JSON, application/json. Received: {kind[:100]!r}.")
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip"):
        raise RequestError(415, f"The body may be plain or gzip. Received: {encoding[:100]!r}.")


def _is_ambiguous(headers: Headers) -> bool:
    """Whether a proxy may see another end of the request than the server, so that nothing after it must be read."""
    return "content-length" in headers and "transfer-encoding" in headers


def _complete(headers: MutableHeaders, *, closes: bool) -> None:
    if closes:
        headers["connection"] = "close"
    for name, value in _HEADERS.items():
        headers.setdefault(name, value)
    if "location" in headers:
        # Starlette takes the server's name from the client.
        parts = urlsplit(headers["location"])
        headers["location"] = "/" + parts._replace(scheme="", netloc="").geturl().lstrip("/")


def _host_name(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
