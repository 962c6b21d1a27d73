"""Independent pieces of work on several processes, or on several machines, through Dask."""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from tibert_keras.errors import InputError


def run_tasks(
    function: Callable[..., Any],
    tasks: Sequence[tuple[Any, ...]],
    *,
    workers: int,
    scheduler: str | None,
    on_result: Callable[[int, Any], None],
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
        InputError: If a task raises it, no scheduler answers, or workers were killed. Tasks not begun are dropped.
        OSError: If a task raises it.
    """
    if workers < 0:
        raise InputError(f"workers must be at least 1, or 0 for one a core. Received: {workers}.")
    if not tasks:
        return
    if scheduler:
        _run_on_cluster(function, tasks, scheduler, on_result)
    else:
        # More processes than cores or tasks would only take memory.
        _run_here(function, tasks, min(workers or os.cpu_count() or 1, len(tasks)), on_result)


def _run_here(
    function: Callable[..., Any], tasks: Sequence[tuple[Any, ...]], workers: int, on_result: Callable[[int, Any], None]
) -> None:
    import dask
    from dask.callbacks import Callback

    def ended(key: str, result: Any, *_: Any) -> None:
        on_result(int(key.rpartition("-")[2]), _result(result))

    guarded = dask.delayed(_guard, pure=False)
    calls = [guarded(function, task, dask_key_name=f"task-{number}") for number, task in enumerate(tasks)]
    options = {"scheduler": "sync"} if workers == 1 else {"scheduler": "processes", "num_workers": workers}
    try:
        with Callback(posttask=ended):
            # One task at a time to each worker: tasks are few and long.
            dask.compute(*calls, optimize_graph=False, chunksize=1, **options)
    except BrokenProcessPool as error:
        raise InputError(
            f"A worker process was killed, perhaps for want of memory. Received: workers={workers}. "
            "Give the command again, with fewer workers if need be."
        ) from error


def _run_on_cluster(
    function: Callable[..., Any],
    tasks: Sequence[tuple[Any, ...]],
    scheduler: str,
    on_result: Callable[[int, Any], None],
) -> None:
    from distributed import Client, as_completed
    from distributed.scheduler import KilledWorker

    # Its own account of lost workers and unreadable work comes with tracebacks; ours says the same.
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    try:
        client = Client(scheduler, timeout=20)
    except (OSError, ValueError) as error:
        raise InputError(f"No Dask scheduler answers. Received: scheduler={scheduler!r}. Start one there.") from error
    job = uuid.uuid4().hex
    with client:
        futures = {
            client.submit(_guard, function, task, key=f"{job}-{number}", pure=False): number
            for number, task in enumerate(tasks)
        }
        try:
            for future in as_completed(futures):
                on_result(futures[future], _result(future.result()))
        except KilledWorker as error:
            raise InputError(
                f"The workers were lost again and again, perhaps for want of memory. Received: scheduler={scheduler!r}."
            ) from error
        except RuntimeError as error:
            # As Dask puts it when the scheduler cannot import what is called.
            if "deserialization" not in str(error):
                raise
            raise InputError(
                f"The Dask cluster cannot run this package. Received: scheduler={scheduler!r}. Install the same "
                "versions of tibert-keras, dask and distributed with the scheduler and with the workers."
            ) from error
        finally:
            client.cancel(list(futures))


def _guard(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """Hand errors that are meant for the user over as results: Dask would wrap them in a traceback."""
    try:
        return function(*arguments)
    except (InputError, OSError) as error:
        return error


def _result(result: Any) -> Any:
    if isinstance(result, (InputError, OSError)):
        raise result
    return result
