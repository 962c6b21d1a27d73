"""What happens while `fit()` runs: progress, the loss of each interval, checkpoints, and a stop at a bad loss."""

from __future__ import annotations

import logging
import math
import os
import time
from typing import Any

import keras
from tqdm import tqdm

from tibert_keras.errors import InputError
from tibert_keras.training.checkpoints import Checkpoints
from tibert_keras.training.history import History
from tibert_keras.training.strategy import Strategy
from tibert_keras.training.termination import RunInterrupted, Termination

_LOG = logging.getLogger(__name__)


class StepProgress(keras.callbacks.Callback):
    """Shows a progress bar over the global steps, stops at the last one, and at a loss that is not finite.

    Args:
        start_step: The global step that `fit()` starts at.
        num_train_steps: The step to stop at.
        checkpoints: Names the last good checkpoint when the loss is not finite.
        hidden: Show no bar, in a worker that is not the chief.
    """

    def __init__(
        self, *, start_step: int, num_train_steps: int, checkpoints: Checkpoints, hidden: bool = False
    ) -> None:
        super().__init__()
        self.step = start_step
        self.num_train_steps = num_train_steps
        self.checkpoints = checkpoints
        self.bar: tqdm[Any] = tqdm(
            desc="training", total=num_train_steps, initial=start_step, unit="step", disable=hidden or None
        )

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.steps_of_epoch = 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        done = batch + 1 - self.steps_of_epoch
        self.steps_of_epoch += done
        self.step += done
        loss = float(logs["loss"])
        self.bar.update(done)
        self.bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
        if not math.isfinite(loss):
            raise InputError(
                f"The loss is not finite at step {self.step}. Received: {loss}. {self.checkpoints.last_good()} "
                "Lower the learning rate and give another output_dir."
            )
        if self.step >= self.num_train_steps:
            self.model.stop_training = True


class CheckpointEachInterval(keras.callbacks.Callback):
    """Records each interval, an epoch of `fit()`, in the history and on TensorBoard, and saves a checkpoint.

    Keras averages the loss over an epoch, so `loss` is the training loss over the window between two checkpoints.
    The best loss is looked up in the history, which outlives a restart. When the run is told to end it saves a
    checkpoint in the middle of the window, with the averages so far, from which the window goes on.

    Args:
        checkpoints: Where to save.
        history: Where to record.
        progress: Knows the global step; comes before this one in the list of callbacks.
        batch_size: Examples a step, for the throughput.
        log_dir: Folder of TensorBoard's files.
        state: Facts of the run to save with each checkpoint.
        interval: Steps of a window.
        termination: Tells when the run is to end.
        strategy: Says whether this process writes; other workers only take part in what all have to do together.
        asynchronous: Whether training may go on before a checkpoint is written.
    """

    def __init__(
        self,
        *,
        checkpoints: Checkpoints,
        history: History,
        progress: StepProgress,
        batch_size: int,
        log_dir: str | os.PathLike[str],
        state: dict[str, Any],
        interval: int,
        termination: Termination,
        strategy: Strategy,
        asynchronous: bool = True,
    ) -> None:
        super().__init__()
        self.interval = interval
        self.termination = termination
        self.strategy = strategy
        self.asynchronous = asynchronous
        self.checkpoints = checkpoints
        self.history = history
        self.progress = progress
        self.batch_size = batch_size
        self.log_dir = os.fspath(log_dir)
        self.state = state

    def on_train_begin(self, logs: Any = None) -> None:
        import tensorflow as tf

        self.summary = tf.summary
        if self.strategy.is_chief:
            self.writer = tf.summary.create_file_writer(self.log_dir)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        step, before = self.progress.step, 0.0
        self.first_step = step // self.interval * self.interval
        if step > self.first_step:
            # Keras has just reset the averages.
            self.checkpoints.restore_metrics(self.model, step)
            before = self.checkpoints.state(step)["seconds"]
        self.started = time.monotonic() - before

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        # Before the validation, which follows the last batch and is no part of the throughput.
        self.seconds = time.monotonic() - self.started
        step = self.progress.step
        if self.termination.is_set() and step % self.interval and not self.model.stop_training:
            self._save(step)
            self._end_if_told()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if self.strategy.is_chief:
            self._record(self.progress.step, logs)
        self._save(self.progress.step)
        if not self.model.stop_training:
            self._end_if_told()

    def _record(self, step: int, logs: dict[str, Any]) -> None:
        row = {
            "step": step,
            **{name: float(value) for name, value in logs.items()},
            "learning_rate": float(self.model.optimizer.learning_rate),
            "seconds": round(self.seconds, 3),
            "examples_per_second": round((step - self.first_step) * self.batch_size / self.seconds, 2),
        }
        self.history.append(row)
        best_step = int(self.history.best()["step"])
        with self.writer.as_default(step=step):
            for name, value in row.items():
                self.summary.scalar(name, value)
        self.writer.flush()
        values = ", ".join(f"{name} {value:.6g}" for name, value in row.items() if name != "step")
        _LOG.info("step %d/%d: %s%s", step, self.progress.num_train_steps, values, " (best)" * (best_step == step))

    def _save(self, step: int) -> None:
        state = {**self.state, "seconds": self.seconds}
        best_step = int(self.history.best()["step"]) if self.history.rows else step
        self.checkpoints.save(self.model, step, state=state, best_step=best_step)
        if not self.asynchronous:
            self.checkpoints.wait()

    def _end_if_told(self) -> None:
        if self.termination.is_set():
            self.checkpoints.wait()
            self.strategy.meet()
            raise RunInterrupted(self.progress.step)
