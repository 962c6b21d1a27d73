"""The ASGI application: its routes, the token, errors as JSON, and the tasks in the background."""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.convertors import StringConvertor, register_url_convertor
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tibert_keras.serving.config import ServeConfig
from tibert_keras.serving.endpoints import Endpoints, Metrics, answer
from tibert_keras.serving.models import ServedModel
from tibert_keras.serving.openapi import describe, reference_page
from tibert_keras.serving.protocol import RequestError

_LOG = logging.getLogger(__name__)

_PAGE = Path(__file__).with_name("page")
# Paths that need no token: they reveal nothing of the models.
_PUBLIC = ("/", "/healthz", "/docs", "/openapi.json")
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}


class _NameConvertor(StringConvertor):
    """A part of a path up to the colon before TensorFlow Serving's verbs."""

    regex = "[^/:]+"


register_url_convertor("name", _NameConvertor())


def make_app(
    config: ServeConfig,
    models: Mapping[str, ServedModel],
    *,
    token: str | None = None,
    on_ready: Callable[[], None] = lambda: None,
) -> Starlette:
    """Make the application.

    Args:
        config: The limits.
        models: The models, by name.
        token: The token that requests must send, or `None` for no token.
        on_ready: Called once requests are answered.
    """
    endpoints = Endpoints(config, models)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        watching = asyncio.create_task(_watch(models, config.poll_seconds))
        running = [asyncio.create_task(batcher.run()) for batcher in endpoints.batchers.values()]
        on_ready()
        yield
        watching.cancel()
        for batcher in endpoints.batchers.values():
            await batcher.stop()
        await asyncio.gather(*running)

    async def openapi(_: Request) -> Response:
        return answer(describe(models, with_token=token is not None))

    async def docs(_: Request) -> Response:
        return HTMLResponse(reference_page(describe(models, with_token=token is not None)))

    async def page(_: Request) -> Response:
        return FileResponse(_PAGE / "index.html")

    model = "/v1/models/{name:name}"
    of_model = [
        ("", endpoints.status, "GET"),
        ("/metadata", endpoints.metadata, "GET"),
        (":predict", endpoints.predict, "POST"),
        (":fillGaps", endpoints.fill_gaps, "POST"),
    ]
    return Starlette(
        routes=[
            Route("/", page),
            Route("/docs", docs),
            Route("/openapi.json", openapi),
            Route("/healthz", endpoints.healthz),
            Route("/metrics", endpoints.scrape),
            Route("/v1/models", endpoints.models),
            *(
                Route(f"{place}{verb}", endpoint, methods=[method])
                for verb, endpoint, method in of_model
                for place in (model, f"{model}/versions/{{version:name}}")
            ),
            Mount("/page", StaticFiles(directory=_PAGE)),
        ],
        middleware=[Middleware(_AccessMiddleware, token=token, metrics=endpoints.metrics)],
        exception_handlers={RequestError: _refuse, HTTPException: _refuse_route, Exception: _fail},
        lifespan=lifespan,
    )


async def _watch(models: Mapping[str, ServedModel], seconds: float) -> None:
    while True:
        await asyncio.sleep(seconds)
        for model in models.values():
            try:
                await asyncio.to_thread(model.refresh)
            except Exception:  # the folder may be half replaced: try again later
                _LOG.exception("The folder of %s cannot be read", model.name)


class _AccessMiddleware:
    """Checks the token, counts the requests, and adds headers to the answers."""

    def __init__(self, app: ASGIApp, *, token: str | None, metrics: Metrics) -> None:
        self._app = app
        self._expected = None if token is None else f"Bearer {token}".encode()
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500

        async def send_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        app = self._app if self._is_authorized(scope) else _no_token
        try:
            await app(scope, receive, send_on)
        finally:
            # The name of a method: clients may make up any number of paths.
            endpoint = getattr(scope.get("endpoint"), "__name__", "none")
            self._metrics.requests.labels(endpoint, status).inc()
            self._metrics.seconds.labels(endpoint).observe(time.perf_counter() - started)

    def _is_authorized(self, scope: Scope) -> bool:
        if self._expected is None or scope["path"] in _PUBLIC or scope["path"].startswith("/page/"):
            return True
        given = Headers(scope=scope).get("authorization", "")
        return hmac.compare_digest(given.encode(), self._expected)


async def _no_token(scope: Scope, receive: Receive, send: Send) -> None:
    reason = "This server asks for a token. Send it as 'Authorization: Bearer TOKEN'."
    await answer({"error": reason}, status=401, headers={"WWW-Authenticate": "Bearer"})(scope, receive, send)


async def _refuse(request: Request, error: Any) -> Response:
    headers = {"Retry-After": "1"} if error.status in (429, 503) else None
    return answer({"error": error.reason}, status=error.status, headers=headers)


async def _refuse_route(request: Request, error: Any) -> Response:
    path = request.url.path
    reason = f"Malformed request: {request.method} {path if len(path) < 200 else path[:200] + '...'}. See /docs."
    return answer({"error": reason}, status=error.status_code, headers=error.headers)


async def _fail(request: Request, error: Exception) -> Response:
    # uvicorn logs the traceback.
    return answer({"error": "The server has failed to answer; its log tells why."}, status=500)
