"""Dynamic batching: which items share a batch, the limits of the queue, and errors of single items."""

import asyncio
import threading
from collections.abc import Sequence

import pytest

from tibert_keras.serving.batching import Batcher, BatchItem
from tibert_keras.serving.protocol import RequestError


class Squares:
    """Squares numbers batch by batch, waiting for `go_on` in each."""

    def __init__(self, *, held: bool = False) -> None:
        self.batches: list[list[int]] = []
        self.go_on = threading.Event()
        if not held:
            self.go_on.set()

    def __call__(self, numbers: Sequence[int]) -> list[int]:
        self.batches.append(list(numbers))
        self.go_on.wait(10)
        if any(number < 0 for number in numbers):
            raise RequestError(400, f"negative: {min(numbers)}")
        if any(number > 1000 for number in numbers):
            raise ZeroDivisionError
        return [number**2 for number in numbers]


def run(scenario, **limits):
    """Run a coroutine function of a batcher while the batcher runs."""
    options = {"max_batch_size": 4, "max_queue_size": 20, **limits}

    async def main():
        batcher = Batcher(**options)
        running = asyncio.create_task(batcher.run())
        try:
            return await asyncio.wait_for(scenario(batcher), 10)
        finally:
            await batcher.stop()
            await running

    return asyncio.run(main())


async def submit(batcher, squares, *numbers, length=0, kind="squares"):
    return await batcher.submit([BatchItem(kind, squares, number, length) for number in numbers])


async def held_up(batcher, squares, *waiting):
    """Submit 0, and the rest while 0 is being computed."""
    first = asyncio.create_task(submit(batcher, squares, 0))
    while not squares.batches:
        await asyncio.sleep(0.001)
    tasks = [asyncio.create_task(each) for each in waiting]
    await asyncio.sleep(0.01)
    return first, tasks


class TestBatches:
    def test_what_waits_goes_together(self):
        squares = Squares(held=True)

        async def scenario(batcher):
            first, tasks = await held_up(batcher, squares, *(submit(batcher, squares, n) for n in range(1, 7)))
            squares.go_on.set()
            return await asyncio.gather(first, *tasks)

        assert run(scenario) == [[n**2] for n in range(7)]
        assert squares.batches == [[0], [1, 2, 3, 4], [5, 6]]

    def test_a_request_larger_than_a_batch(self):
        squares = Squares()
        assert run(lambda batcher: submit(batcher, squares, *range(10))) == [n**2 for n in range(10)]
        assert squares.batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]

    def test_a_large_request_takes_turns(self):
        """It neither keeps others waiting until it is done, nor fills the queue."""
        squares = Squares(held=True)

        async def scenario(batcher):
            first, tasks = await held_up(
                batcher, squares, submit(batcher, squares, *range(1, 21)), submit(batcher, squares, 30, 31, kind="b")
            )
            squares.go_on.set()
            return await asyncio.gather(first, *tasks)

        assert run(scenario)[2] == [900, 961]
        assert squares.batches[:3] == [[0], [1, 2, 3, 4], [30, 31]]
        assert len(squares.batches) == 7

    def test_only_of_a_kind_and_of_like_length(self):
        squares = Squares(held=True)

        async def scenario(batcher):
            waiting = [(1, 100, "a"), (2, 1000, "a"), (3, 110, "b"), (4, 120, "a"), (5, 900, "a"), (6, 90, "a")]
            first, tasks = await held_up(
                batcher, squares, *(submit(batcher, squares, n, length=size, kind=kind) for n, size, kind in waiting)
            )
            squares.go_on.set()
            await asyncio.gather(first, *tasks)

        run(scenario)
        assert squares.batches == [[0], [1, 6, 4], [2, 5], [3]]

    def test_sizes_are_told(self):
        sizes = []
        run(lambda batcher: submit(batcher, Squares(), *range(5)), on_batch=sizes.append)
        assert sizes == [4, 1]


class TestErrors:
    def test_one_of_a_batch(self):
        squares = Squares(held=True)

        async def scenario(batcher):
            first, tasks = await held_up(batcher, squares, *(submit(batcher, squares, n) for n in (1, -2, 3)))
            squares.go_on.set()
            return await asyncio.gather(first, *tasks, return_exceptions=True)

        *others, error, last = run(scenario)
        assert others == [[0], [1]] and last == [9]
        assert isinstance(error, RequestError) and error.reason == "negative: -2"

    def test_only_a_refusal_is_looked_for_in_halves(self):
        """Other errors would only occur again."""
        squares = Squares()

        async def scenario(batcher):
            with pytest.raises(ZeroDivisionError):
                await submit(batcher, squares, 1, 2, 1001, 4)

        run(scenario)
        assert squares.batches == [[1, 2, 1001, 4]]

    def test_a_fault_is_told_and_does_not_end_it(self):
        async def scenario(batcher):
            with pytest.raises(ZeroDivisionError):
                await submit(batcher, Squares(), 1001)
            return await submit(batcher, Squares(), 5)

        assert run(scenario) == [25]


class TestLimits:
    def test_the_queue(self):
        squares = Squares(held=True)

        async def scenario(batcher):
            first, tasks = await held_up(batcher, squares, submit(batcher, squares, 1, 2))
            assert len(batcher) == 2
            with pytest.raises(RequestError) as full:
                await submit(batcher, squares, 3, 4)
            with pytest.raises(RequestError) as never:
                await submit(batcher, squares, 3, 4, 5, 6)
            squares.go_on.set()
            await asyncio.gather(first, *tasks)
            return full.value.status, never.value.status, await submit(batcher, squares, 3)

        assert run(scenario, max_queue_size=3) == (429, 400, [9])

    def test_bytes(self):
        """A few large items fill the queue as well as many small ones."""
        squares = Squares(held=True)

        def asking(batcher, *sizes):
            return batcher.submit([BatchItem("squares", squares, 2, size=size) for size in sizes])

        async def scenario(batcher):
            first, tasks = await held_up(batcher, squares, asking(batcher, 60, 30))
            with pytest.raises(RequestError) as full:
                await asking(batcher, 11)
            with pytest.raises(RequestError, match="may hold 100 bytes at most. Received: 101") as never:
                await asking(batcher, 50, 51)
            fits = asyncio.create_task(asking(batcher, 10))
            await asyncio.sleep(0.01)
            squares.go_on.set()
            await asyncio.gather(first, *tasks)
            return full.value.status, never.value.status, await fits, await asking(batcher, 100)

        assert run(scenario, max_queue_bytes=100) == (429, 400, [4], [4])

    def test_who_leaves_makes_room(self):
        squares = Squares(held=True)

        async def scenario(batcher):
            first, (second,) = await held_up(batcher, squares, submit(batcher, squares, 1, 2, 3))
            second.cancel()
            await asyncio.sleep(0.01)
            assert len(batcher) == 0
            first.cancel()  # it is being computed; its answer is dropped
            squares.go_on.set()
            return await submit(batcher, squares, 7)

        assert run(scenario, max_queue_size=3) == [49]
        assert squares.batches == [[0], [7]]

    def test_a_stop_finishes_what_waits(self):
        squares = Squares(held=True)

        async def scenario(batcher):
            first, tasks = await held_up(batcher, squares, submit(batcher, squares, 1))
            await batcher.stop()
            with pytest.raises(RequestError, match="stopping"):
                await submit(batcher, squares, 2)
            squares.go_on.set()
            return await asyncio.gather(first, *tasks)

        assert run(scenario) == [[0], [1]]
