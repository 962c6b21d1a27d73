"""What a power cut would leave of a folder, at each moment at which the disk changes."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from tibert_keras.storage import UNFINISHED

# Every call that changes what is on the disk for good: before each of them the power may go.
CALLS = ("fsync", "replace", "rename", "unlink", "rmdir")


class Moments:
    """The states of a folder before each of these calls.

    A file that was not synced since it was made is empty: that is what some file systems leave of it.

    Attributes:
        calls: How often each function was called.
    """

    def __init__(self, folder: Path, copies: Path) -> None:
        self.folder, self.copies = folder, copies
        self.calls = dict.fromkeys(CALLS, 0)
        self._synced: set[int] = set()
        self._states: dict[tuple[tuple[str, str], ...], Path] = {}
        # Checkpoints are written in a thread of their own.
        self._lock = threading.RLock()

    def watch(self, name: str) -> Callable[..., None]:
        """The function of `os` of this name, which looks at the folder first."""
        function = getattr(os, name)

        def call(*arguments: Any, **options: Any) -> None:
            with self._lock:
                self.calls[name] += 1
                self._look()
                if name == "fsync":
                    self._synced.add(os.fstat(arguments[0]).st_ino)
            function(*arguments, **options)

        return call

    @property
    def folders(self) -> list[Path]:
        """Copies of the folder: for each state of its finished files, as it was at the last moment of that state."""
        return list(self._states.values())

    def _look(self) -> None:
        state = dict(self._files())
        finished = sorted((path, content) for path, content in state.items() if UNFINISHED not in path)
        key = tuple((path, sha256(content).hexdigest()) for path, content in finished)
        self._states[key] = self.copies / str(sum(self.calls.values()))
        for path, content in state.items():
            copy = self._states[key] / path
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(content)

    def _files(self) -> Iterator[tuple[str, bytes]]:
        for parent, _, names in os.walk(self.folder):
            for name in names:
                path = Path(parent, name)
                # TensorBoard's files grow all the time, and nothing is read from them.
                if "logs" in path.parts:
                    continue
                try:
                    synced = path.stat().st_ino in self._synced
                    yield path.relative_to(self.folder).as_posix(), path.read_bytes() if synced else b""
                except FileNotFoundError:  # the other thread has just moved it
                    pass


@contextmanager
def every_moment(folder: Path, copies: Path) -> Iterator[Moments]:
    """Copy the states of a folder while the body writes it."""
    moments = Moments(folder, copies)
    with pytest.MonkeyPatch.context() as patch:
        for name in CALLS:
            patch.setattr(os, name, moments.watch(name))
        yield moments
