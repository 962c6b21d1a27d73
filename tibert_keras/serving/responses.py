"""Responses of JSON."""

from collections.abc import Mapping
from typing import Any

import orjson
from starlette.responses import Response

from tibert_keras.serving.protocol import RequestError

_HEADERS = {401: {"WWW-Authenticate": "Bearer"}, 429: {"Retry-After": "1"}, 503: {"Retry-After": "1"}}


def answer(value: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Make a response of JSON."""
    return Response(orjson.dumps(value), status, headers, media_type="application/json")


def refuse(error: RequestError) -> Response:
    """Make the response to a request that cannot be answered."""
    return answer({"error": error.reason}, status=error.status, headers=_HEADERS.get(error.status))
