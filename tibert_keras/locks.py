"""Lets one process at a time write to a folder."""

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from tibert_keras.errors import InputError
from tibert_keras.storage import UNFINISHED, exists, is_remote, join, read_bytes, remove, write_text

_LOCK = f".lock{UNFINISHED}"

_LOG = logging.getLogger(__name__)


@contextmanager
def only_writer(folder: str | os.PathLike[str], *, wait: float = 0.0) -> Iterator[None]:
    """Hold the lock of an output folder, which the system releases when this process ends, however it ends.

    The lock is a hidden file beside the folder, or in it if only the folder is writable. It is removed afterwards. A
    remote storage has no locks: there, a note says who writes, and others only warn of it, as the writer may have been
    killed.
    """
    with (_remote_note if is_remote(folder) else _lock)(os.fspath(folder), wait):
        yield


@contextmanager
def _lock(folder: str, wait: float) -> Iterator[None]:
    target = Path(os.path.realpath(folder))
    # The folders that a refused command must not leave behind.
    made = [place for place in (target, *target.parents) if not place.exists()]
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = os.access(target.parent, os.W_OK)
    path = target.parent / f".{target.name}{_LOCK}" if beside else target / _LOCK
    lock = FileLock(path)
    try:
        lock.acquire(timeout=wait)
    except Timeout as error:
        raise InputError(
            f"Another process writes there: {_read_holder(os.fspath(path))}. Received: {folder!r}. "
            "Wait until it has ended, or choose another folder."
        ) from error
    try:
        path.write_text(_holder(), encoding="utf-8")
        yield
    finally:
        # While it is locked: whoever has opened the file meanwhile notices that it is gone, and makes a new one.
        path.unlink(missing_ok=True)
        lock.release()
        for place in made:
            with suppress(OSError):  # not empty, or no folder
                place.rmdir()


@contextmanager
def _remote_note(folder: str, _: float) -> Iterator[None]:
    path = join(folder, _LOCK)
    if exists(path):
        _LOG.warning("Another process may be writing to %r: %s.", folder, _read_holder(path))
    write_text(path, _holder())
    try:
        yield
    finally:
        with suppress(InputError):  # another is removing it
            remove(path)


def _holder() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}, since {datetime.now():%Y-%m-%d %H:%M:%S}"


def _read_holder(path: str) -> str:
    try:
        return read_bytes(path).decode(errors="replace") or "it has just begun"
    except InputError:
        return "it has just ended"
