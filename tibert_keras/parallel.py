"""Run independent tasks in this process, in several processes, or on a Dask cluster."""

import logging
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Executor, Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

from tibert_keras.errors import InputError
from tibert_keras.storage import exists

# Starting a worker process takes as long as its work on about this much text.
_BYTES_PER_WORKER = 1 << 22


def run_tasks(
    function: Callable[..., Any],
    tasks: Sequence[tuple[Any, ...]],
    *,
    workers: int,
    scheduler: str | None,
    on_result: Callable[[int, Any], object],
    input_bytes: int | None = None,
) -> None:
    """Call a function once for each task, in any order and on any number of workers.

    Args:
        function: A function at the top level of a module. Its arguments and results must be picklable.
        tasks: The arguments of each call.
        workers: Number of processes on this machine, or 0 for one a core. A single worker is this process itself.
        scheduler: Address of a Dask scheduler, such as `tcp://HOST:PORT`, whose workers do the work instead. They need
            this package and the same paths. Another worker takes over the tasks of a lost one.
        on_result: Called in this process as each task ends, with its number and its result.
        input_bytes: Size of the input of all tasks. With `workers=0`, small input gets fewer processes.

    Raises:
        InputError: If a task raised it or an `OSError`, once the other tasks are done and their work is saved, or if no
            scheduler answers, or workers were killed.
    """
    if workers < 0:
        raise InputError(f"workers must be at least 1, or 0 for one a core. Received: {workers}.")
    if not tasks:
        return
    if not workers:
        workers = os.cpu_count() or 1
        if input_bytes is not None:
            workers = min(workers, 1 + input_bytes // _BYTES_PER_WORKER)
    workers = min(workers, len(tasks))
    errors: list[Exception] = []

    def report(number: int, future: Future[Any]) -> None:
        error = future.exception()
        if error is None:
            on_result(number, future.result())
        elif isinstance(error, (InputError, OSError)):
            errors.append(error)
        elif type(error).__module__.startswith("tensorflow"):
            # A full disk, too many open files or a missing bucket. The reason follows the path of the unfinished file.
            reason = " ".join(str(getattr(error, "message", error)).rpartition("; ")[2].split())
            errors.append(
                InputError(f"A file cannot be read or written: {reason}. Received: the work on {tasks[number][0]!r}.")
            )
        else:
            raise error

    if workers == 1 and not scheduler:
        for number, task in enumerate(tasks):
            report(number, _call(function, task))
    else:
        with _cluster(scheduler) if scheduler else _processes(workers) as executor:
            futures = {executor.submit(function, *task): number for number, task in enumerate(tasks)}
            try:
                for future in as_completed(futures):
                    report(futures[future], future)
            finally:
                for future in futures:
                    future.cancel()
    if errors:
        raise errors[0]


def check_shared(path: str) -> None:
    """Check that a file written by a worker is visible here."""
    if not exists(path):
        raise InputError(
            f"The workers do not share this folder: what one has written is not here. Received: {path!r}. "
            "Give paths that are the same on all machines, such as gs:// or a network disk."
        )


def _call(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Future[Any]:
    future: Future[Any] = Future()
    try:
        future.set_result(function(*arguments))
    except Exception as error:
        future.set_exception(error)
    return future


@contextmanager
def _processes(workers: int) -> Iterator[Executor]:
    # Forked processes hang if this one runs TensorFlow's threads.
    spawn = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(workers, mp_context=spawn, initializer=_end_with_parent) as executor:
            yield executor
    except BrokenProcessPool as error:
        raise InputError(
            "A worker process ended: it was killed, perhaps for want of memory, or could not import the main module. "
            f"Received: workers={workers}. Give the command again, with fewer workers if need be; in a script, call it "
            'under `if __name__ == "__main__":`, or with workers=1.'
        ) from error


def _end_with_parent() -> None:
    """End a worker process when this process ends, even if it is killed."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def _cluster(scheduler: str) -> Iterator[Executor]:
    from distributed import Client
    from distributed.scheduler import KilledWorker

    # Dask logs tracebacks of lost workers and failed imports; the errors below say the same.
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    try:
        client = Client(scheduler, timeout=20)
        client.wait_for_workers(1, timeout=60)
    except (OSError, ValueError) as error:
        raise InputError(
            f"No Dask scheduler with workers answers. Received: scheduler={scheduler!r}. Start one there."
        ) from error
    with client:
        try:
            yield client.get_executor(pure=False)
        except (KilledWorker, CancelledError) as error:
            raise InputError(
                "The workers or the scheduler were lost, perhaps for want of memory. "
                f"Received: scheduler={scheduler!r}. Give the command again when they are there."
            ) from error
        except (RuntimeError, ImportError) as error:
            # Dask raises RuntimeError if the scheduler cannot import the function.
            if isinstance(error, RuntimeError) and "deserialization" not in str(error):
                raise
            raise InputError(
                f"The Dask cluster cannot run this package. Received: scheduler={scheduler!r}. Install the same "
                "versions of tibert-keras, dask and distributed with the scheduler and with the workers."
            ) from error
