"""The ASGI application: its routes, errors as JSON, and the tasks in the background."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.convertors import StringConvertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from tibert_keras.serving.access import AccessMiddleware
from tibert_keras.serving.config import ServeConfig
from tibert_keras.serving.connections import AcceptErrors
from tibert_keras.serving.endpoints import Endpoints
from tibert_keras.serving.models import ServedModel
from tibert_keras.serving.openapi import describe, reference_page
from tibert_keras.serving.protocol import RequestError, answer, refuse

_LOG = logging.getLogger(__name__)

_PAGE = Path(__file__).with_name("page")


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
    """Make the application."""
    endpoints = Endpoints(config, models)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        asyncio.get_running_loop().set_exception_handler(AcceptErrors())
        # Each by itself: a folder that cannot be read for a while keeps no other from being read.
        watching = [asyncio.create_task(_watch(model, config.poll_seconds)) for model in models.values()]
        running = [asyncio.create_task(batcher.run()) for batcher in endpoints.batchers.values()]
        on_ready()
        yield
        for watch in watching:
            watch.cancel()
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
            Route("/v1/transliterate", endpoints.transliterate, methods=["POST"]),
            *(
                Route(f"{place}{verb}", endpoint, methods=[method])
                for verb, endpoint, method in of_model
                for place in (model, f"{model}/versions/{{version:name}}")
            ),
            Mount("/page", StaticFiles(directory=_PAGE)),
        ],
        middleware=[Middleware(AccessMiddleware, config=config, token=token, metrics=endpoints.metrics)],
        exception_handlers={RequestError: _refuse, HTTPException: _refuse_route, Exception: _fail},
        lifespan=lifespan,
    )


async def _watch(model: ServedModel, seconds: float) -> None:
    while True:
        await asyncio.sleep(seconds)
        try:
            await asyncio.to_thread(model.refresh)
        except Exception:  # no fault may end the watch
            _LOG.exception("The folder of %s cannot be read", model.name)


async def _refuse(request: Request, error: Any) -> Response:
    return refuse(error)


async def _refuse_route(request: Request, error: Any) -> Response:
    path = request.url.path
    reason = f"Malformed request: {request.method} {path if len(path) < 200 else path[:200] + '...'}. See /docs."
    return answer({"error": reason}, status=error.status_code, headers=error.headers)


async def _fail(request: Request, error: Exception) -> Response:
    # uvicorn logs the traceback.
    return answer({"error": "The server has failed to answer; its log tells why."}, status=500)
