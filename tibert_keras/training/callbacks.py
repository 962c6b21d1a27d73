"""Callbacks for `fit()` with any model: the best loss and checkpoints to resume from, both kept over restarts."""

import logging
import os
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Literal

import keras

from tibert_keras.errors import InputError
from tibert_keras.runs.history import History, Mode, criterion_value
from tibert_keras.runs.run import Run
from tibert_keras.training.workers import is_chief

_HIGHEST_IS_BEST = ("accuracy", "acc", "auc", "precision", "recall", "f1", "f1_score")

_LOG = logging.getLogger(__name__)


class BestLoss(keras.callbacks.Callback):
    """Finds the best loss of a training, and remembers it over restarts.

    Each window adds a row to `history.csv` in the run's folder, in which the next process finds the best again. A
    window is an epoch or, with `window`, a number of steps.

    Args:
        run_dir: The run's folder, local or `gs://`. Callbacks with the same folder share its `history.csv`.
        monitor: Name of a value in Keras's logs; `auto` is `val_loss` if there is one, else `loss`. Of a model with two
            tasks, a loss is that of the masked tokens alone.
        mode: Whether the lowest (`min`) or the highest value (`max`) is best; `auto` goes by the name.
        window: Number of steps over which training losses are averaged, for batches of one size. Validation values are
            still recorded at the end of each epoch.

    Attributes:
        best: The best value, or `None` before the first window.
        best_step: The global step at the end of its window, or `None`.

    Raises:
        InputError: If `window` is not positive, or the name does not tell the mode. In `fit()`, if there is no such
            value.

    Example:
    ```python
    best = BestLoss("run", window=100)
    model.fit(batches, steps_per_epoch=1000, epochs=10, callbacks=[best])
    best.best, best.best_step
    ```
    """

    def __init__(
        self,
        run_dir: str | os.PathLike[str],
        *,
        monitor: str = "auto",
        mode: Literal["auto", "min", "max"] = "auto",
        window: int | None = None,
    ) -> None:
        super().__init__()
        if window is not None and window < 1:
            raise InputError(f"A window has one step or more. Received: window={window}.")
        self.run_dir, self.monitor, self.window = os.fspath(run_dir), monitor, window
        self.mode: Mode = _mode(monitor) if mode == "auto" else mode
        self._averages = _WindowAverages()
        self._remember(self.history())

    def history(self) -> History:
        """Read the rows so far, which other callbacks may have written too."""
        return History(self.run_dir, writes=is_chief())

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._first_step = _global_step(self.model)
        self._averages.begin_epoch()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        # If several steps run in one call, the window ends with the call that fills it.
        if self.window is not None and self._averages.count(batch + 1) >= self.window:
            self._averages.add(batch + 1, logs)
            self.record(self._first_step + batch + 1, self._averages.take())

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        # A validation may take place in some of the epochs only.
        if self.monitor not in {"auto", *logs} and not self.monitor.startswith("val_"):
            raise InputError(
                f"There is no such value. Received: monitor={self.monitor!r}. Give one of {', '.join(sorted(logs))}."
            )
        step = _global_step(self.model)
        if self.window is None:
            self.record(step, logs)
            return
        self._averages.add(step - self._first_step, logs)
        if validated := {name: value for name, value in logs.items() if name.startswith("val_")}:
            self.record(step, validated)

    def record(self, step: int, values: Mapping[str, Any]) -> None:
        """Record a window, and call `on_new_best` if it is the best.

        Args:
            step: The global step at its end.
            values: Its losses and other values.
        """
        history = self.history()
        history.add({"step": step, **{name: float(value) for name, value in values.items()}})
        monitor = self._remember(history)
        if self.best_step == step and monitor in values:
            self.on_new_best()
        # A process that is killed before this leaves no row, so the next one has a new best at this step again.
        history.write()

    def on_new_best(self) -> None:
        """Do something at a new best. Subclasses override this."""

    def _remember(self, history: History) -> str:
        """Look up the best in the history, and return the name of the value that was compared."""
        monitor = history.criterion if self.monitor == "auto" else self.monitor
        row = history.best(monitor, mode=self.mode)
        self.best = None if row is None else criterion_value(row, monitor)
        self.best_step = None if row is None else int(row["step"])
        return monitor


def _global_step(model: keras.Model) -> int:
    # As an array, because under `tf.distribute` a variable consists of several.
    return int(keras.ops.convert_to_numpy(model.optimizer.iterations))


def _mode(monitor: str) -> Mode:
    if monitor == "auto" or "loss" in monitor or monitor.endswith("error"):
        return "min"
    if monitor.endswith(_HIGHEST_IS_BEST):
        return "max"
    raise InputError(
        f"The name does not tell whether high or low values are better. Received: monitor={monitor!r}, mode='auto'. "
        "Give mode='min' or mode='max'."
    )


class _WindowAverages:
    """Averages the losses of a window from those of Keras, which are averages since the epoch began."""

    def __init__(self) -> None:
        self._sums: defaultdict[str, float] = defaultdict(float)
        self._count = 0
        self.begin_epoch()

    def begin_epoch(self) -> None:
        self._sums_of_epoch: defaultdict[str, float] = defaultdict(float)
        self._count_of_epoch = 0

    def count(self, batches: int) -> int:
        """The number of batches in the window, when the epoch has had `batches`."""
        return self._count + batches - self._count_of_epoch

    def add(self, batches: int, logs: Mapping[str, Any]) -> None:
        """Add what the epoch has had since the last call: `batches` in all, with the averages in `logs`."""
        for name, average in logs.items():
            if name.endswith("loss") and not name.startswith("val_"):
                total = batches * float(average)
                self._sums[name] += total - self._sums_of_epoch[name]
                self._sums_of_epoch[name] = total
        self._count, self._count_of_epoch = self.count(batches), batches

    def take(self) -> dict[str, float]:
        """Return the averages, and begin the next window."""
        averages = {name: total / self._count for name, total in self._sums.items()}
        self._sums.clear()
        self._count = 0
        return averages


class SaveCheckpoints(keras.callbacks.Callback):
    """Saves a checkpoint at the end of each epoch, from which `fit()` goes on in another process.

    When `fit()` begins, the last undamaged checkpoint in the folder is restored: weights, optimizer, and the states of
    random generators. Training goes on with the next epoch, up to the same `epochs`. The result is that of a training
    that was never stopped, bit for bit, if each epoch takes the same batches as it would have: `step` tells how many of
    an endless dataset to skip. Checkpoints are written in the background, and read back. Variables are found by their
    paths, so the layers of a model of your own should have names: Keras numbers the others through the process.

    Args:
        run_dir: The run's folder, local or `gs://`. Checkpoints go to `checkpoints/STEP` in it, like those of
            `pretrain`.
        keep: How many of the last checkpoints to keep, besides those with the best losses that `BestLoss` recorded in
            the same folder.

    Raises:
        InputError: If the folder's checkpoints are of another model or all damaged, or one cannot be written.
        DivergedError: If a weight is not finite.

    Example:
    ```python
    checkpoints = SaveCheckpoints("run")
    batches = records.training_batches(32, seed=1, start_step=checkpoints.step)
    model.fit(batches, steps_per_epoch=100, epochs=10, callbacks=[BestLoss("run"), checkpoints])
    ```
    """

    def __init__(self, run_dir: str | os.PathLike[str], *, keep: int = 5) -> None:
        super().__init__()
        if keep < 1:
            raise InputError(f"At least one checkpoint must be kept. Received: keep={keep}.")
        self.run = Run(run_dir, keep=keep, writes=is_chief())

    @property
    def step(self) -> int:
        """The global step of the last undamaged checkpoint, from which `fit()` goes on; 0 if there is none."""
        return self.run.checkpoints.last_whole() or 0

    def on_train_begin(self, logs: Any = None) -> None:
        if self.run.resume(self.model):
            _LOG.info("Going on from step %d.", self.run.state.step)
            # As `keras.callbacks.BackupAndRestore` does.
            self.model._initial_epoch = self.run.state.epochs
            # Without the windows after it, which will be trained again.
            self.run.history.write()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.run.state.step, self.run.state.epochs = _global_step(self.model), epoch + 1
        # As other callbacks have written it.
        self.run.history = History(self.run.folder, writes=self.run.writes)
        self.save()

    def on_train_end(self, logs: Any = None) -> None:
        self.run.checkpoints.wait()

    def save(self) -> None:
        """Save a checkpoint of the model and the state of the run."""
        self.run.save(self.model)
