"""Keeps what C++ libraries say at start-up away from standard error."""

import os
import re
import signal
import sys

# TensorFlow reports processors, CUDA, XLA and its own flags through Abseil's log, which no environment variable
# silences any more. Of errors, those about what this machine lacks are dropped. 2.20 has the other form.
_CHATTER = re.compile(
    rb"[IW]\d{4} [\d:.]+ +\d+ [\w./-]+:\d+\]"
    rb"|E\d{4} .*(failed call to cuInit|Unable to register cu|oneDNN supports)"
    rb"|WARNING: All log messages before absl::InitializeLog"
    rb"|To enable the following instructions: .*rebuild TensorFlow"
    rb"|\d{4}-\d\d-\d\d [\d:.]+: ([IW] |E .*(failed call to cuInit|Unable to register cu))"
)


def filter_stderr() -> None:
    """Drop the chatter of C++ libraries from this process's standard error, and from that of its children.

    They write to the file descriptor, so another process stands between it and the terminal: one that still passes on
    the last words of a process that C++ code ends. Python's own `sys.stderr` goes to the terminal as before.
    """
    if not hasattr(os, "fork") or sys.stderr is None or sys.stdout is None:
        return
    reading, writing = os.pipe()
    if os.fork() == 0:
        try:
            os.close(writing)
            _copy(reading)
        finally:
            os._exit(0)
    os.close(reading)
    sys.stderr.flush()
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1, encoding=sys.stderr.encoding, errors="backslashreplace")
    os.dup2(writing, 2)
    os.close(writing)


def _copy(source: int) -> None:
    """Copy lines to standard error until the last writer is gone, even if the others get a signal."""
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    os.close(1)
    # Not buffered: the messages of libraries appear at once.
    with os.fdopen(source, "rb") as lines, os.fdopen(2, "wb", buffering=0) as output:
        for line in lines:
            if not _CHATTER.match(line):
                output.write(line)
