"""What happens while `fit()` runs: progress, the loss of each window, checkpoints, and a stop at a bad loss."""

from __future__ import annotations

import logging
import os
import time
from typing import Any

import keras
from tqdm import tqdm

from tibert_keras.runs.checkpoints import Checkpoints
from tibert_keras.runs.history import History
from tibert_keras.training.divergence import check_loss
from tibert_keras.training.norms import norms
from tibert_keras.training.strategy import Strategy
from tibert_keras.training.termination import RunInterrupted, Termination

_LOG = logging.getLogger(__name__)


class StepProgress(keras.callbacks.Callback):
    """Shows a progress bar over the global steps, stops at the last one, and at a loss that is not finite.

    Args:
        start_step: The global step that `fit()` starts at.
        num_train_steps: The step to stop at.
        batch_size: Examples a step.
        checkpoints: Names the last good checkpoint when the loss is not finite.
        hidden: Show no bar, in a worker that is not the chief.
    """

    def __init__(
        self,
        *,
        start_step: int,
        num_train_steps: int,
        batch_size: int,
        checkpoints: Checkpoints,
        hidden: bool = False,
    ) -> None:
        super().__init__()
        self.step = start_step
        self.num_train_steps = num_train_steps
        self.batch_size = batch_size
        self.checkpoints = checkpoints
        self.bar: tqdm[Any] = tqdm(
            desc="training", total=num_train_steps, initial=start_step, unit="step", disable=hidden or None
        )

    def go_back_to(self, step: int) -> None:
        """Count on from an earlier step."""
        self.bar.update(step - self.step)
        self.step = step

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.steps_of_epoch = 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        done = batch + 1 - self.steps_of_epoch
        self.steps_of_epoch += done
        self.step += done
        loss = float(logs["loss"])
        if self.bar.update(done):
            # It was drawn just now, as it is several times a second, and shows these when it is drawn next.
            rate = float(self.model.optimizer.learning_rate)
            sequences = (self.bar.format_dict["rate"] or 0) * self.batch_size
            self.bar.set_postfix_str(
                f"loss {loss:.4f}, learning rate {rate:.3g}, {sequences:.1f} sequences/s", refresh=False
            )
        check_loss(self.step, loss, checkpoints=self.checkpoints)
        if self.step >= self.num_train_steps:
            self.model.stop_training = True


class CheckpointEachInterval(keras.callbacks.Callback):
    """Records each interval, an epoch of `fit()`, in the history and on TensorBoard, and saves a checkpoint.

    Keras averages the loss over an epoch, so `loss` is the training loss over the window between two checkpoints.
    The best is looked up in the history, which outlives a restart. A window whose loss has risen far above the lowest
    leaves no row and no checkpoint. When the run is told to end it saves a checkpoint in the middle of the window, with
    the averages so far, from which the window goes on.

    Args:
        checkpoints: Where to save.
        history: Where to record.
        progress: Knows the global step; comes before this one in the list of callbacks.
        log_dir: Folder of TensorBoard's files.
        state: Facts of the run to save with each checkpoint.
        interval: Steps of a window.
        divergence_factor: How many times the lowest loss is too much.
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
        log_dir: str | os.PathLike[str],
        state: dict[str, Any],
        interval: int,
        divergence_factor: float,
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
        self.divergence_factor = divergence_factor
        self.log_dir = os.fspath(log_dir)
        self.state = state

    def on_train_begin(self, logs: Any = None) -> None:
        import tensorflow as tf

        self.summary = tf.summary
        if self.strategy.is_chief:
            self.writer = tf.summary.create_file_writer(self.log_dir)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.first_step, before = self.progress.step, 0.0
        if self.first_step % self.interval:
            # The window was interrupted, and Keras has just reset the averages.
            self.checkpoints.restore_metrics(self.model, self.first_step)
            state = self.checkpoints.state(self.first_step)
            self.first_step, before = state["first_step"], state["seconds"]
        self.started = time.monotonic() - before

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        # Before the validation, which follows the last batch and is no part of the throughput.
        self.seconds = time.monotonic() - self.started
        step = self.progress.step
        if self.termination.is_set() and step % self.interval and not self.model.stop_training:
            self._save(step)
            self._end_if_told()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        step = self.progress.step
        if self.history.rows:
            bound = self.divergence_factor * min(row["loss"] for row in self.history.rows)
            check_loss(step, float(logs["loss"]), bound=bound, checkpoints=self.checkpoints)
        row = {
            "step": step,
            **{name: float(value) for name, value in logs.items()},
            "learning_rate": float(self.model.optimizer.learning_rate),
            "seconds": round(self.seconds, 3),
            "examples_per_second": round((step - self.first_step) * self.progress.batch_size / self.seconds, 2),
        }
        self.history.append(row)
        self._save(step)
        if self.strategy.is_chief:
            self._show(row)
        if not self.model.stop_training:
            self._end_if_told()

    def _show(self, row: dict[str, Any]) -> None:
        """Tell of a window on TensorBoard and in the log."""
        step = row["step"]
        best_step = int(self.history.best()["step"])
        with self.writer.as_default(step=step):
            for name, value in {**row, **norms(self.model)}.items():
                self.summary.scalar(name, value)
        self.writer.flush()
        values = ", ".join(f"{name} {value:.6g}" for name, value in row.items() if name != "step")
        _LOG.info("step %d/%d: %s%s", step, self.progress.num_train_steps, values, " (best)" * (best_step == step))

    def _save(self, step: int) -> None:
        state = {**self.state, "first_step": self.first_step, "seconds": self.seconds}
        # By every criterion: the champion may be chosen by another than the run's own.
        best_steps = self.history.best_steps() if self.history.rows else {step}
        self.checkpoints.save(self.model, step, state=state, best_steps=best_steps)
        if not self.asynchronous:
            self.checkpoints.wait()

    def _end_if_told(self) -> None:
        if self.termination.is_set():
            self.checkpoints.wait()
            self.strategy.meet()
            raise RunInterrupted(self.progress.step)
