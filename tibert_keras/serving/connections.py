"""Bounds the connections of clients: their number, and the time in which nothing comes of them."""

from __future__ import annotations

import asyncio
import logging
import resource
import time
from http import HTTPStatus
from typing import Any

import orjson
from uvicorn.protocols.http.h11_impl import H11Protocol

_LOG = logging.getLogger(__name__)

# A client that takes its answer more slowly than this, over the time that it has, is cut off.
_SLOWEST_BYTES = 2**20
# A new connection is not closed for others within this time, unless there are 1.5 times as many as allowed.
_SECONDS_TO_ASK = 0.2
# The time for a refused client to read the reason.
_SECONDS_TO_READ = 1.0
_SECONDS_BETWEEN_REPORTS = 60.0


class BoundedProtocol(H11Protocol):
    """uvicorn's HTTP/1.1, in which a client cannot hold a connection without making progress.

    One timer runs whenever the server waits for the client: for a whole head, for the rest of a body that was answered
    already, or until it takes its answer. Single bytes do not start it anew. While a request is being answered, the
    application's deadline counts instead.

    Args:
        max_connections: Maximum number of open connections. Beyond it the one that has kept the server waiting longest
            is closed; if none has, the new one gets status 503. Half as many more are let in if nobody has had the time
            to ask: those that connect at the same moment do not close each other.
        seconds: How long the server waits.
        waiting: The connections whose client the server waits for, and since when, oldest first. All connections share
            it.
    """

    def __init__(
        self,
        *arguments: Any,
        max_connections: int,
        seconds: float,
        waiting: dict[BoundedProtocol, float],
        **options: Any,
    ) -> None:
        super().__init__(*arguments, **options)
        self._max_connections = max_connections
        self._seconds = seconds
        self._waiting = waiting
        self._timer: asyncio.TimerHandle | None = None
        self._unsent = 0
        self._has_ended = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait_for_client()
        if len(self.connections) > self._max_connections:
            self._make_room()

    def _make_room(self) -> None:
        while len(self.connections) > self._max_connections:
            oldest, since = next(iter(self._waiting.items()))
            is_crowded = len(self.connections) > self._max_connections * 1.5
            if oldest is self or not (is_crowded or self.loop.time() > since + _SECONDS_TO_ASK):
                break
            oldest._stop_waiting()
            oldest.transport.abort()
            self.connections.discard(oldest)  # at once, not when the loop comes to it
        if len(self.connections) - len(self._waiting) >= self._max_connections:
            self._end(503, "The server has as many connections as it may. Try again later.")

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._has_ended or self.transport.is_closing():
            return
        super().data_received(data)
        if self._is_answering():
            self._stop_waiting()

    def on_response_complete(self) -> None:
        # Another request may have arrived meanwhile, and begins here.
        super().on_response_complete()
        if not self._is_answering():
            self._wait_for_client()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._wait_for_client()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._is_answering():
            self._stop_waiting()

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete and not self.flow.write_paused

    def _wait_for_client(self) -> None:
        self._stop_waiting()
        self._unsent = self.transport.get_write_buffer_size()
        self._timer = self.loop.call_later(self._seconds, self._give_up)
        self._waiting[self] = self.loop.time()

    def _stop_waiting(self) -> None:
        self._waiting.pop(self, None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        unsent = self.transport.get_write_buffer_size()
        if 0 < unsent <= self._unsent - _SLOWEST_BYTES:
            self._wait_for_client()
        elif unsent:
            # `close` would wait until the client has taken the rest.
            self.transport.abort()
        elif self.conn.trailing_data[0] and (self.cycle is None or self.cycle.response_complete):
            self._end(408, f"The request did not arrive within {self._seconds:g} seconds.")
        else:
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        self._end(400, f"{msg} See /docs.")

    def _end(self, status: int, reason: str) -> None:
        """Send a last answer, and close once the client has had the time to read it."""
        self._stop_waiting()
        self._has_ended = True
        body = orjson.dumps({"error": reason})
        lines = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", "Content-Type: application/json",
            f"Content-Length: {len(body)}", "Connection: close", "", "",
        )  # fmt: skip
        self.transport.write("\r\n".join(lines).encode() + body)
        self.transport.write_eof()
        self._timer = self.loop.call_later(_SECONDS_TO_READ, self.transport.abort)
        self._waiting[self] = self.loop.time()


def cap_connections(wanted: int) -> int:
    """Bound a number of connections by the files that the process may open, and tell if that is less.

    Half of them are left for the models and everything else, also while half as many connections more are let in.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if limit == resource.RLIM_INFINITY else min(wanted, max(1, limit // 3))
    _LOG.info(
        "At most %d connections stay open (max_connections=%d; the process may open %d files, `ulimit -n`).",
        allowed, wanted, limit,
    )  # fmt: skip
    return allowed


class AcceptErrors:
    """An exception handler of an event loop that tells once a minute that no connection can be accepted.

    asyncio waits a second before it tries again, but reports each connection that waits.
    """

    def __init__(self) -> None:
        self._next = 0.0

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if "accept()" not in context.get("message", ""):
            loop.default_exception_handler(context)
        elif time.monotonic() >= self._next:
            self._next = time.monotonic() + _SECONDS_BETWEEN_REPORTS
            _LOG.error("Connections wait, because none can be accepted: %s.", context.get("exception"))
