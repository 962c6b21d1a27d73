"""Dynamic batching: computes the items of concurrent requests together, in one thread.

No item waits for others to arrive. While one batch is computed the next one gathers, so batches grow with the load,
and a single request is answered at once. A large request takes turns with the others, a batch at a time.
"""

import asyncio
import itertools
import logging
import math
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

from tibert_keras.serving.protocol import RequestError

_LOG = logging.getLogger(__name__)

# Texts are padded to the longest of their batch, and padding costs as much as text: a batch only holds texts not much
# longer than its shortest. On CPUs, where a batch is hardly faster than its texts one by one, that matters more than
# full batches.
_LENGTH_RATIO = 1.25
_LENGTH_SLACK = 16

# Computes several payloads at once; each answer may be an error.
Compute = Callable[[Sequence[Any]], Sequence[Any]]


@dataclass(frozen=True)
class BatchItem:
    """One thing to compute; a batch consists of several.

    Attributes:
        kind: Only items of equal kinds share a batch.
        compute: Computes payloads; the same for all of a kind.
        payload: The input of `compute`.
        length: The length of the payload, in any unit that its kind has in common.
        size: The bytes it holds while it waits.
    """

    kind: Hashable
    compute: Compute
    payload: Any
    length: int = 0
    size: int = 0


class _Turn(NamedTuple):
    """The place of an item in the queue: by the batch before which it could be computed if its request were alone."""

    batch: int
    request: int
    number: int


class Batcher:
    """Combines the items of concurrent requests into batches.

    Args:
        max_batch_size: Maximum number of items in a batch.
        max_queue_size: Maximum number of waiting items, not counting the batch under way. Of one request no more than
            `max_batch_size` count, so that a large one does not turn the others away.
        max_queue_bytes: Maximum size of the waiting items.
        on_batch: Called with the size of each batch.
    """

    def __init__(
        self,
        *,
        max_batch_size: int,
        max_queue_size: int,
        max_queue_bytes: float = math.inf,
        on_batch: Callable[[int], None] = lambda size: None,
    ) -> None:
        self._max_batch_size = max_batch_size
        self._max_queue_size = max_queue_size
        self._max_queue_bytes = max_queue_bytes
        self._on_batch = on_batch
        self._waiting: dict[_Turn, tuple[BatchItem, asyncio.Future[Any]]] = {}
        self._requests = itertools.count()
        self._batches = 0
        self._changed = asyncio.Condition()
        self._stopped = False

    def __len__(self) -> int:
        return len(self._waiting)

    def check_count(self, count: int) -> None:
        """Raise `RequestError` if the queue could never hold so many items of one request."""
        if count > self._max_queue_size:
            raise RequestError(400, f"A request may have {self._max_queue_size} items at most. Received: {count}.")

    async def submit(self, items: Sequence[BatchItem]) -> list[Any]:
        """Compute items, or raise the `RequestError` of one of them: 429 of a full queue, 503 of a stopping server."""
        if self._stopped:
            raise RequestError(503, "The server is stopping.")
        self.check_count(len(items))
        size = sum(item.size for item in items)
        if size > self._max_queue_bytes:
            raise RequestError(400, f"A request may hold {self._max_queue_bytes} bytes at most. Received: {size}.")
        waiting = sum(item.size for item, _ in self._waiting.values())
        counts = [len(items), *Counter(turn.request for turn in self._waiting).values()]
        count = sum(min(count, self._max_batch_size) for count in counts)
        if count > self._max_queue_size or waiting + size > self._max_queue_bytes:
            raise RequestError(429, "The server has as many requests waiting as it may. Try again later.")
        loop = asyncio.get_running_loop()
        request = next(self._requests)
        mine = {
            _Turn(self._batches + index // self._max_batch_size, request, index): (item, loop.create_future())
            for index, item in enumerate(items)
        }
        async with self._changed:
            self._waiting |= mine
            self._changed.notify()
        try:
            return list(await asyncio.gather(*(future for _, future in mine.values())))
        finally:
            for turn, (_, future) in mine.items():
                self._waiting.pop(turn, None)
                future.cancel()

    async def run(self) -> None:
        """Compute until `stop` is called and no item waits."""
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1, thread_name_prefix="batch") as thread:
            while True:
                async with self._changed:
                    await self._changed.wait_for(lambda: self._waiting or self._stopped)
                if not self._waiting:
                    return
                batch = [self._waiting.pop(turn) for turn in self._choose()]
                self._batches += 1
                self._on_batch(len(batch))
                answers = await loop.run_in_executor(thread, _answers, [item for item, _ in batch])
                for (_, future), answer in zip(batch, answers, strict=True):
                    if future.done():
                        continue  # the request was cancelled
                    if isinstance(answer, Exception):
                        future.set_exception(answer)
                    else:
                        future.set_result(answer)

    async def stop(self) -> None:
        """Make `run` end once all waiting items are computed."""
        async with self._changed:
            self._stopped = True
            self._changed.notify()

    def _choose(self) -> list[_Turn]:
        """The item whose turn it is, and those of its kind that are nearest to it in length."""
        first = self._waiting[min(self._waiting)][0]
        alike = [(item.length, turn) for turn, (item, _) in self._waiting.items() if item.kind == first.kind]
        chosen: list[_Turn] = []
        shortest = longest = first.length
        for length, turn in sorted(alike, key=lambda pair: (abs(pair[0] - first.length), pair[1])):
            shortest, longest = min(shortest, length), max(longest, length)
            if len(chosen) == self._max_batch_size or longest > _LENGTH_RATIO * shortest + _LENGTH_SLACK:
                break
            chosen.append(turn)
        return chosen


def _answers(items: Sequence[BatchItem]) -> list[Any]:
    """Compute items of one kind; one that is refused has its error for an answer."""
    try:
        return list(items[0].compute([item.payload for item in items]))
    except RequestError as error:
        if len(items) == 1:
            return [error]
        # One of the items is at fault: find it by halving.
        middle = len(items) // 2
        return _answers(items[:middle]) + _answers(items[middle:])
    except Exception as error:  # an error must not end the thread
        _LOG.exception("A batch failed")
        return [error] * len(items)
