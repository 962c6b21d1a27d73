"""SIGTERM, by which machines that may be taken away give notice: noted, and acted on between two steps."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class RunInterrupted(Exception):  # noqa: N818 (nothing went wrong)
    """A run was told to stop, and has saved a checkpoint; the same command goes on from it.

    Args:
        step: The checkpoint's step.
    """

    def __init__(self, step: int) -> None:
        super().__init__(f"Stopped at step {step}, where a checkpoint is. Give the same command again to go on.")
        self.step = step


class Termination:
    """Tells whether a run is to end.

    Args:
        any_worker: Says whether a flag is set on any of several workers, which have to end at the same step.
    """

    def __init__(self, any_worker: Callable[[bool], bool] = bool) -> None:
        self._any_worker = any_worker
        self._noted = False

    def note(self, *_: Any) -> None:
        """Note that this process is to end."""
        self._noted = True

    def is_set(self) -> bool:
        """Whether this or another worker is to end. All ask at the same points, and wait there for each other."""
        return self._any_worker(self._noted)


@contextmanager
def noting_termination(any_worker: Callable[[bool], bool] = bool) -> Iterator[Termination]:
    """Note SIGTERM, which would end the process, and give what tells of it; `any_worker` as for `Termination`."""
    termination = Termination(any_worker)
    if threading.current_thread() is not threading.main_thread():
        # Only the main thread may say what signals do.
        yield termination
        return
    previous = signal.signal(signal.SIGTERM, termination.note)
    try:
        yield termination
    finally:
        signal.signal(signal.SIGTERM, previous)
