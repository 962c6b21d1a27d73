"""Commands in processes of their own that start at once: forks of one that has imported TensorFlow and the package.

They train, fail and are killed like any other process. What Python does before and after a command is not theirs.
"""

import gc
import multiprocessing
import os
import runpy
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tibert_keras.training.pretrain", "tibert_keras.saved_model.export"])


def spare_time() -> None:
    """Optimize no graphs, by which nothing so small gains, and collect no garbage among what has been imported."""
    if tf := sys.modules.get("tensorflow"):
        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    gc.freeze()
    gc.set_threshold(10_000)


class Command:
    """A module or a script that runs.

    Args:
        words: Name of the module, or path of the script, and its arguments.
        folder: Where its standard output and its log are written.
        environment: Its environment. The backend is that of this process.
    """

    def __init__(self, words: Sequence[object], folder: Path, environment: Mapping[str, str] = os.environ) -> None:
        if str(ROOT) not in sys.path:  # where the child looks for this module
            sys.path.append(str(ROOT))
        number = len(list(folder.glob("*.log")))
        self._output, self._log = folder / f"{number}.out", folder / f"{number}.log"
        self._log.touch()
        arguments = ([str(word) for word in words], dict(environment), self._output, self._log)
        self._process = _FORKS.Process(target=_run, args=arguments, daemon=True)
        self._process.start()

    def poll(self) -> int | None:
        """The exit status, negative for a signal, or nothing while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float = 300) -> int:
        """Wait until it ends; returns the exit status."""
        self._process.join(timeout)
        status = self.poll()
        assert status is not None, self.log
        return status

    def send_signal(self, kind: signal.Signals) -> None:
        with suppress(ProcessLookupError):  # it has ended
            os.kill(self._process.pid, kind)

    @property
    def output(self) -> str:
        return self._output.read_text(encoding="utf-8") if self._output.exists() else ""

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8")


def _run(words: list[str], environment: dict[str, str], output: Path, log: Path) -> None:
    os.environ.clear()
    os.environ.update(environment)
    for path, descriptor in ((output, 1), (log, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), descriptor)
    # Tests send it, and whatever `nohup` has started ignores it.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    spare_time()
    sys.argv = words
    run = runpy.run_path if words[0].endswith(".py") else runpy.run_module
    run(words[0], run_name="__main__")
