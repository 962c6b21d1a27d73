"""SIGTERM, by which machines that may be taken away give notice: noted, and acted on between two steps."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
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


@contextmanager
def noting_termination() -> Iterator[threading.Event]:
    """Give an event that SIGTERM sets, in place of ending the process."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        # Only the main thread may say what signals do.
        yield event
        return

    def note(*_: Any) -> None:
        event.set()

    previous = signal.signal(signal.SIGTERM, note)
    try:
        yield event
    finally:
        signal.signal(signal.SIGTERM, previous)
