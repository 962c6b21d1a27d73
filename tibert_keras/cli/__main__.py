"""The command `tibert`, also as `python -m tibert_keras.cli`: stops at Ctrl-C even while it starts."""

import gc
import os
import signal
import sys
from types import FrameType

_INTERRUPTED = 130


def run() -> int:
    """Run the command line of this process, and return the exit status."""
    signal.signal(signal.SIGINT, _interrupt)
    # TensorFlow and Keras make half a million objects, and looking for garbage among them took a sixth of their import.
    gc.set_threshold(100_000)
    try:
        # TensorFlow and others take seconds to import, and even the list of verbs takes a moment.
        from tibert_keras.cli.main import main, nobody_reads

        try:
            return main()
        finally:
            sys.stdout.flush()
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # The reader of a help text, such as `head`, has gone.
        return 0 if nobody_reads() else 1


def _interrupt(number: int, frame: FrameType | None) -> None:
    """End at once during an import, where libraries swallow the exception; nothing is lost then. Else raise it."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            os.write(2, b"tibert: Stopped.\n")
            os._exit(_INTERRUPTED)
        frame = frame.f_back
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(run())
