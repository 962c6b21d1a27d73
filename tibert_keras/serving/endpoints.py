"""Answers requests: TensorFlow Serving's REST API, gaps, health and metrics."""

import asyncio
import sys
import threading
import zlib
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TypeVar

import prometheus_client as prometheus
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from tibert_keras.serving.access import Metrics
from tibert_keras.serving.batching import Batcher, BatchItem
from tibert_keras.serving.config import ServeConfig
from tibert_keras.serving.models import ServedModel, Version
from tibert_keras.serving.protocol import RequestError, answer, parse_predict, to_arrays, to_json
from tibert_keras.serving.signature import Signature, size_of
from tibert_keras.serving.texts import fill, parse_gaps, transliterate

# Gaps that are searched together: a larger batch would go on long after all but one of its clients have gone.
_GAPS_TOGETHER = 4
# Bytes of JSON that are read or written in about a millisecond.
_LARGE = 2**16
# Read up to this many times the allowed body, so that the client still receives the reason for a refusal.
_READ_BEYOND = 8

_TOO_LARGE = "The body of a request may have {} bytes. Send less at a time."

_Answer = TypeVar("_Answer")


class Endpoints:
    """The endpoints of one server.

    Attributes:
        batchers: The queues, by name; gaps have one of their own, because a search is slow.
    """

    def __init__(self, config: ServeConfig, models: Mapping[str, ServedModel]) -> None:
        self._config = config
        self._models = models
        self.metrics = Metrics()
        gaps_together = min(_GAPS_TOGETHER, config.max_batch_size)
        self.batchers = {
            queue: Batcher(
                max_batch_size=max_batch_size,
                max_queue_size=max_queue_size,
                max_queue_bytes=config.max_queue_bytes,
                on_batch=self.metrics.batches.labels(queue).observe,
            )
            for queue, max_batch_size, max_queue_size in (
                ("predict", config.max_batch_size, config.max_queue_size),
                ("fill_gaps", gaps_together, config.max_gap_queue_size),
            )
        }

    # === Requests to models ===

    async def models(self, request: Request) -> Response:
        """List the models; TensorFlow Serving has no such request."""
        described = []
        for name, model in self._models.items():
            _, newest = model.find(None)
            described.append(
                {
                    "name": name,
                    "versions": [str(number) for number in sorted(model.versions)],
                    "signatures": sorted(newest.signatures),
                    "fills_gaps": hasattr(newest.loaded, "vocabulary"),
                    "description": newest.description,
                }
            )
        return answer({"models": described})

    async def status(self, request: Request) -> Response:
        """List the versions of a model with their states."""
        model, wanted = self._model(request), _version(request)
        if wanted is not None and wanted not in model.failures:
            model.find(wanted)
        states = dict.fromkeys(model.versions, ("AVAILABLE", "OK", ""))
        for number, failure in model.failures.items():
            # Clients need not know where the folder is.
            reason = failure.partition(" Received:")[0].replace(model.folder, "...")
            is_served = number in model.versions
            note = f"{reason} The state of it that was loaded before is served." if is_served else reason
            states[number] = ("AVAILABLE", "DATA_LOSS", note) if is_served else ("END", "UNKNOWN", note)
        return answer(
            {
                "model_version_status": [
                    {"version": str(number), "state": state, "status": {"error_code": code, "error_message": message}}
                    for number, (state, code, message) in sorted(states.items(), reverse=True)
                    if wanted in (None, number)
                ]
            }
        )

    async def metadata(self, request: Request) -> Response:
        """Describe the signatures of a model."""
        model = self._model(request)
        number, version = model.find(_version(request))
        return answer(
            {
                "model_spec": {"name": model.name, "signature_name": "", "version": str(number)},
                "metadata": {"signature_def": {"signature_def": version.signature_def}},
            }
        )

    async def predict(self, request: Request) -> Response:
        """Run a signature."""
        deadline = self._deadline()
        _, version = self._model(request).find(_version(request))
        body = await self._body(request, deadline)
        rows, signature, items = await _compute(len(body), lambda: self._read(body, version))
        answers = await self._while_connected(request, self.batchers["predict"].submit(items), deadline)
        size = sum(map(size_of, answers))
        content = await _compute(size, lambda: to_json(signature.join(answers), rows=rows))
        return Response(content, media_type="application/json")

    async def fill_gaps(self, request: Request) -> Response:
        """Guess the syllables in the gaps of texts."""
        deadline = self._deadline()
        _, version = self._model(request).find(_version(request))
        body = await self._body(request, deadline)
        gaps, top_k = await _compute(len(body), lambda: parse_gaps(body))
        compute, gone = partial(fill, version, top_k), threading.Event()
        items = [
            # The gaps of a text share its memory.
            BatchItem((version, top_k), compute, (gap, gone), size=sys.getsizeof(gap.text) // len(of_text))
            for of_text in gaps
            for gap in of_text
        ]
        try:
            answers = await self._while_connected(request, self.batchers["fill_gaps"].submit(items), deadline)
        finally:
            gone.set()
        found = iter(answers)
        return answer({"texts": [{"gaps": [next(found) for _ in of_text]} for of_text in gaps]})

    # === Requests to the server ===

    async def transliterate(self, request: Request) -> Response:
        """Convert texts from a transliteration, or to Wylie."""
        body = await self._body(request, self._deadline())
        return answer({"texts": await _compute(len(body), lambda: transliterate(body))})

    async def healthz(self, request: Request) -> Response:
        """Confirm that requests are answered."""
        return answer({"status": "ok"})

    async def scrape(self, request: Request) -> Response:
        """Write the metrics for Prometheus."""
        for queue, batcher in self.batchers.items():
            self.metrics.waiting.labels(queue).set(len(batcher))
        self.metrics.versions.clear()
        for name, model in self._models.items():
            for number in model.versions:
                self.metrics.versions.labels(name, number).set(1)
        content = prometheus.generate_latest(self.metrics.registry)
        return Response(content, media_type=prometheus.CONTENT_TYPE_LATEST)

    def _model(self, request: Request) -> ServedModel:
        name = request.path_params["name"]
        if name not in self._models:
            raise RequestError(404, f"Servable not found: model {name[:100]!r}. Served: {sorted(self._models)}.")
        return self._models[name]

    def _deadline(self) -> float:
        """The latest time, by the event loop's clock, to answer a request that arrives now."""
        return asyncio.get_running_loop().time() + self._config.timeout

    async def _body(self, request: Request, deadline: float) -> bytes:
        limit = self._config.max_request_bytes
        body, size = bytearray(), 0
        try:
            async with asyncio.timeout_at(deadline):
                async for chunk in request.stream():
                    size += len(chunk)
                    if size <= limit:
                        body += chunk
                    elif size > _READ_BEYOND * limit:
                        break
        except TimeoutError:
            raise RequestError(408, f"The request did not arrive within {self._config.timeout:g} seconds.") from None
        except ClientDisconnect:
            raise RequestError(499, "The client has gone.") from None
        if size > limit:
            raise RequestError(413, _TOO_LARGE.format(limit))
        zipped = request.headers.get("content-encoding", "").strip().lower() == "gzip"
        return await _compute(size, lambda: _unzip(bytes(body), limit=limit)) if zipped else bytes(body)

    def _read(self, body: bytes, version: Version) -> tuple[int | None, Signature, list[BatchItem]]:
        """Parse a request: the number of rows, the signature, and the items to compute."""
        given = parse_predict(body)
        signature = version.signatures.get(given.signature_name)
        if signature is None:
            raise RequestError(
                400, f"Serving signature name not found. Received: {given.signature_name[:100]!r}. "
                f"Give one of {sorted(version.signatures)}."
            )  # fmt: skip
        if signature.is_by_row:
            self.batchers["predict"].check_count(given.rows or 0)
        arrays = to_arrays(given, signature.inputs)
        return given.rows, signature, signature.items(arrays, max_bytes=self._config.max_answer_bytes)

    async def _while_connected(self, request: Request, work: Awaitable[_Answer], deadline: float) -> _Answer:
        """Wait for an answer until the client disconnects or the deadline passes."""
        answering = asyncio.ensure_future(work)
        leaving = asyncio.ensure_future(_disconnected(request))
        try:
            left = deadline - asyncio.get_running_loop().time()
            await asyncio.wait((answering, leaving), timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if answering.done():
                return answering.result()
            if leaving.done():
                raise RequestError(499, "The client has gone.")
            raise RequestError(504, f"There was no answer within {self._config.timeout:g} seconds. Ask for less.")
        finally:
            answering.cancel()
            leaving.cancel()


def _unzip(body: bytes, *, limit: int) -> bytes:
    unzipping = zlib.decompressobj(zlib.MAX_WBITS | 16)  # gzip's format
    try:
        content = unzipping.decompress(body, limit + 1)
    except zlib.error as error:
        raise RequestError(400, f"The body is no gzip: {error}.") from None
    if len(content) > limit:
        raise RequestError(413, _TOO_LARGE.format(limit))
    if not unzipping.eof or unzipping.unused_data:
        raise RequestError(400, "The body is no gzip, or not a single whole one.")
    return content


async def _compute(size: int, work: Callable[[], _Answer]) -> _Answer:
    """Process `size` bytes: in a thread if they are many, so that other requests need not wait."""
    return work() if size < _LARGE else await asyncio.to_thread(work)


def _version(request: Request) -> int | None:
    number = request.path_params.get("version")
    if number is None:
        return None
    if not (number.isascii() and number.isdigit() and len(number) < 19):
        raise RequestError(400, f"A version is a number. Received: {number[:100]!r}.")
    return int(number)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
