"""Independent pieces of work on several processes, or on several machines, through Dask."""

from __future__ import annotations

import logging
import os
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from tibert_keras.errors import InputError
from tibert_keras.storage import exists


def run_tasks(
    function: Callable[..., Any],
    tasks: Sequence[tuple[Any, ...]],
    *,
    workers: int,
    scheduler: str | None,
    on_result: Callable[[int, Any], object],
) -> None:
    """Call a function once for each task, in any order and on any number of workers.

    Args:
        function: A function at the top level of a module, whose arguments and results can be pickled.
        tasks: The arguments of each call.
        workers: Number of processes on this machine, or 0 for one a core. A single one is this process itself.
        scheduler: Address of a Dask scheduler, such as `tcp://HOST:PORT`, whose workers do the work instead. It
            and they need this package, and the workers the same paths. A worker that is lost is replaced by another.
        on_result: Called here as each task ends, with its number and its result.

    Raises:
        InputError: If a task raised it, when the others are done, so that their work is not lost; or if no scheduler
            answers, or workers were killed.
        OSError: If a task raised it, when the others are done.
    """
    if workers < 0:
        raise InputError(f"workers must be at least 1, or 0 for one a core. Received: {workers}.")
    if not tasks:
        return
    errors: list[Exception] = []

    def on_end(number: int, result: Any) -> None:
        if isinstance(result, (InputError, OSError)):
            errors.append(result)
        else:
            on_result(number, result)

    if scheduler:
        _run_on_cluster(function, tasks, scheduler, on_end)
    else:
        # More processes than tasks would only take memory.
        _run_here(function, tasks, min(workers or os.cpu_count() or 1, len(tasks)), on_end)
    if errors:
        raise errors[0]


def _run_here(
    function: Callable[..., Any], tasks: Sequence[tuple[Any, ...]], workers: int, on_end: Callable[[int, Any], None]
) -> None:
    import dask
    from dask.callbacks import Callback

    def ended(key: str, result: Any, *_: Any) -> None:
        on_end(int(key.rpartition("-")[2]), result)

    guarded = dask.delayed(_guard, pure=False)
    calls = [guarded(function, task, dask_key_name=f"task-{number}") for number, task in enumerate(tasks)]
    options = {"scheduler": "sync"} if workers == 1 else {"scheduler": "processes", "num_workers": workers}
    try:
        with Callback(posttask=ended):
            # One task at a time to each worker: tasks are few and long.
            dask.compute(*calls, optimize_graph=False, chunksize=1, initializer=_end_with_parent, **options)
    except BrokenProcessPool as error:
        raise InputError(
            "A worker process ended: it was killed, perhaps for want of memory, or could not import the main module. "
            f"Received: workers={workers}. Give the command again, with fewer workers if need be; in a script, call it "
            'under `if __name__ == "__main__":`, or with workers=1.'
        ) from error


def _end_with_parent() -> None:
    """Let a worker process end when this process does, however it ends."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _run_on_cluster(
    function: Callable[..., Any],
    tasks: Sequence[tuple[Any, ...]],
    scheduler: str,
    on_end: Callable[[int, Any], None],
) -> None:
    from distributed import Client, as_completed
    from distributed.scheduler import KilledWorker

    # Its own account of lost workers and unreadable work comes with tracebacks; ours says the same.
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    try:
        client = Client(scheduler, timeout=20)
        client.wait_for_workers(1, timeout=60)
    except (OSError, ValueError) as error:
        raise InputError(
            f"No Dask scheduler with workers answers. Received: scheduler={scheduler!r}. Start one there."
        ) from error
    job = uuid.uuid4().hex
    with client:
        futures = {
            client.submit(_guard, function, task, key=f"{job}-{number}", pure=False): number
            for number, task in enumerate(tasks)
        }
        try:
            for future in as_completed(futures):
                on_end(futures[future], future.result())
        except (KilledWorker, CancelledError) as error:
            raise InputError(
                "The workers or the scheduler were lost, perhaps for want of memory. "
                f"Received: scheduler={scheduler!r}. Give the command again when they are there."
            ) from error
        except (RuntimeError, ImportError) as error:
            # The first is how Dask puts it when the scheduler cannot import what is called.
            if isinstance(error, RuntimeError) and "deserialization" not in str(error):
                raise
            raise InputError(
                f"The Dask cluster cannot run this package. Received: scheduler={scheduler!r}. Install the same "
                "versions of tibert-keras, dask and distributed with the scheduler and with the workers."
            ) from error
        finally:
            client.cancel(list(futures))


def check_shared(path: str) -> None:
    """Check that what a worker has written is here too.

    Raises:
        InputError: If it is not.
    """
    if not exists(path):
        raise InputError(
            f"The workers do not share this folder: what one has written is not here. Received: {path!r}. "
            "Give paths that are the same on all machines, such as gs:// or a network disk."
        )


def _guard(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """Hand errors that are meant for the user over as results: Dask would wrap them in a traceback."""
    try:
        return function(*arguments)
    except (InputError, OSError) as error:
        return error
    except Exception as error:
        # A full disk, too many open files or a bucket that is gone, as TensorFlow puts it.
        if not type(error).__module__.startswith("tensorflow"):
            raise
        # It puts the path of an unfinished file before the reason.
        reason = " ".join(str(getattr(error, "message", error)).rpartition("; ")[2].split())
        return InputError(f"A file cannot be read or written: {reason}. Received: the work on {arguments[0]!r}.")
