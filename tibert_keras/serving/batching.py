"""Dynamic batching: what concurrent requests ask for is computed together, in one thread.

Nothing waits for others to come. While one batch is computed the next one gathers, so batches grow with the load
and a lone request is answered at once.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from tibert_keras.serving.protocol import RequestError

_LOG = logging.getLogger(__name__)

# Texts are padded to the longest of their batch, and padding is computed like text: only such go together as are not
# much longer than the shortest. On CPUs, where a batch is hardly faster than its texts one by one, that matters more
# than full batches.
_LENGTH_RATIO = 1.25
_LENGTH_SLACK = 16

# Computes several payloads in one go; the answer to one of them may be an error.
Compute = Callable[[Sequence[Any]], Sequence[Any]]


@dataclass(frozen=True)
class Task:
    """One thing to compute, the smallest that a batch is made of.

    Attributes:
        kind: Only tasks of equal kinds go into one batch.
        compute: What computes them; the same for all of a kind.
        payload: What it takes.
        length: How long the payload is, in any unit that its kind has in common.
        size: How many bytes it holds while it waits.
    """

    kind: Hashable
    compute: Compute
    payload: Any
    length: int = 0
    size: int = 0


class Batcher:
    """Puts the tasks of concurrent requests together into batches.

    Args:
        max_batch_size: Tasks in a batch at most.
        max_queue_size: Tasks that may wait; those in the batch under way do not count.
        max_queue_bytes: How many bytes those may hold.
        on_batch: Told the size of each batch.

    Example:
    ```python
    batcher = Batcher(max_batch_size=8, max_queue_size=100)
    running = asyncio.create_task(batcher.run())
    [answer] = await batcher.submit([Task("squares", lambda numbers: [n * n for n in numbers], 3)])
    await batcher.stop()
    ```
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
        # In the order in which they came.
        self._waiting: dict[int, tuple[Task, asyncio.Future[Any]]] = {}
        self._numbers = itertools.count()
        self._changed = asyncio.Condition()
        self._stopped = False

    def __len__(self) -> int:
        return len(self._waiting)

    async def submit(self, tasks: Sequence[Task]) -> list[Any]:
        """Have tasks computed.

        Args:
            tasks: All of one request. If it is cancelled, those that have not begun are dropped.

        Returns:
            Their answers.

        Raises:
            RequestError: If the queue has no room for them (429), or could never have (400), or is being stopped (503);
                or of one of them, as its `compute` raised it.
        """
        if self._stopped:
            raise RequestError(503, "The server is stopping.")
        if len(tasks) > self._max_queue_size:
            raise RequestError(400, f"A request may have {self._max_queue_size} items at most. Received: {len(tasks)}.")
        size = sum(task.size for task in tasks)
        if size > self._max_queue_bytes:
            raise RequestError(400, f"A request may hold {self._max_queue_bytes} bytes at most. Received: {size}.")
        waiting = sum(task.size for task, _ in self._waiting.values())
        if len(self) + len(tasks) > self._max_queue_size or waiting + size > self._max_queue_bytes:
            raise RequestError(429, "The server has as many requests waiting as it may. Try again later.")
        loop = asyncio.get_running_loop()
        mine = {next(self._numbers): (task, loop.create_future()) for task in tasks}
        async with self._changed:
            self._waiting |= mine
            self._changed.notify()
        try:
            return list(await asyncio.gather(*(future for _, future in mine.values())))
        finally:
            for number, (_, future) in mine.items():
                self._waiting.pop(number, None)
                future.cancel()

    async def run(self) -> None:
        """Compute until `stop` is called and nothing waits."""
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1, thread_name_prefix="batch") as thread:
            while True:
                async with self._changed:
                    await self._changed.wait_for(lambda: self._waiting or self._stopped)
                if not self._waiting:
                    return
                batch = [self._waiting.pop(number) for number in self._choose()]
                self._on_batch(len(batch))
                answers = await loop.run_in_executor(thread, _answers, [task for task, _ in batch])
                for (_, future), answer in zip(batch, answers, strict=True):
                    if future.done():
                        continue  # whoever waited has gone
                    if isinstance(answer, Exception):
                        future.set_exception(answer)
                    else:
                        future.set_result(answer)

    async def stop(self) -> None:
        """Let `run` end once all that waits is computed."""
        async with self._changed:
            self._stopped = True
            self._changed.notify()

    def _choose(self) -> list[int]:
        """The longest waiting task, and those of its kind that are nearest to it in length."""
        first = next(iter(self._waiting.values()))[0]
        alike = [(task.length, number) for number, (task, _) in self._waiting.items() if task.kind == first.kind]
        chosen: list[int] = []
        shortest = longest = first.length
        for length, number in sorted(alike, key=lambda pair: abs(pair[0] - first.length)):
            shortest, longest = min(shortest, length), max(longest, length)
            if len(chosen) == self._max_batch_size or longest > _LENGTH_RATIO * shortest + _LENGTH_SLACK:
                break
            chosen.append(number)
        return chosen


def _answers(tasks: Sequence[Task]) -> list[Any]:
    """Compute tasks of one kind; in place of its answer, the error of one that cannot be."""
    try:
        return list(tasks[0].compute([task.payload for task in tasks]))
    except RequestError as error:
        if len(tasks) == 1:
            return [error]
        # One of them spoils it for the others: find it.
        middle = len(tasks) // 2
        return _answers(tasks[:middle]) + _answers(tasks[middle:])
    except Exception as error:  # what runs in the thread must not end it
        _LOG.exception("A batch failed")
        return [error] * len(tasks)
