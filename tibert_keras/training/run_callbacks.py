"""Callbacks of a run: progress, windows, TensorBoard, and stops at SIGTERM or a diverged loss."""

import logging
import math
import signal
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from keras import ops
from tqdm import tqdm

from tibert_keras.errors import DivergedError, RunInterrupted
from tibert_keras.optimizers.lamb import LAMB
from tibert_keras.runs.checkpoints import Checkpoints
from tibert_keras.runs.folder import LOG_FOLDER
from tibert_keras.runs.history import History
from tibert_keras.runs.run import Run
from tibert_keras.runs.tensorboard import ScalarWriter
from tibert_keras.storage import join
from tibert_keras.training.callbacks import BestLoss, SaveCheckpoints
from tibert_keras.training.config import PretrainConfig
from tibert_keras.training.strategy import Strategy

_LOG = logging.getLogger(__name__)


class StepProgress(keras.callbacks.Callback):
    """Counts the global steps, shows a progress bar, and stops at the last step or at a loss that is not finite.

    To read the loss of a step, the host waits for the device, which then waits for its next step. So a loss is read
    when the device has the next step to compute; the last one of a window, at once.

    The steps are counted in the `state.step` of the run. A run that writes no files shows no bar.
    """

    def __init__(self, run: Run, config: PretrainConfig) -> None:
        super().__init__()
        self.run = run
        self.config = config
        self.bar: tqdm[Any] = tqdm(
            desc="training",
            total=config.num_train_steps,
            initial=run.state.step,
            unit="step",
            mininterval=1.0,
            disable=None if run.writes else True,
        )

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.steps_of_epoch = 0
        self.unread: list[tuple[int, Any]] = []
        # Moves the bar back after a rollback.
        self.bar.update(self.run.state.step - self.bar.n)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        done = batch + 1 - self.steps_of_epoch
        self.steps_of_epoch += done
        self.run.state.step += done
        step = self.run.state.step
        is_last = step >= self.config.num_train_steps
        ends_window = is_last or step % self.config.save_checkpoints_steps == 0
        self.unread.append((step, logs["loss"]))
        loss = self._read_losses(all_but=0 if ends_window else 1)
        if self.bar.update(done) and loss is not None:
            # The bar has just been drawn, and shows these figures the next time.
            rate = float(self.model.optimizer.learning_rate)
            sequences = (self.bar.format_dict["rate"] or 0) * self.config.train_batch_size
            self.bar.set_postfix_str(
                f"loss {loss:.4f}, learning rate {rate:.3g}, {sequences:.1f} sequences/s", refresh=False
            )
        if is_last:
            self.model.stop_training = True

    def _read_losses(self, *, all_but: int) -> float | None:
        """Read and check the losses of all but the last steps, and return the last one read, if any."""
        loss = None
        while len(self.unread) > all_but:
            step, value = self.unread.pop(0)
            loss = float(value)
            check_loss(step, loss, checkpoints=self.run.checkpoints)
        return loss


class RecordEachWindow(BestLoss):
    """Records each window, an epoch of `fit()`, in the history, in the log and on TensorBoard.

    Keras averages the loss over an epoch, so `loss` is the training loss over the window between two checkpoints. A
    window whose loss has risen far above the lowest leaves no row. Only the chief writes files; other workers just take
    part in what all must do together.
    """

    def __init__(self, run: Run, config: PretrainConfig) -> None:
        self.run = run
        self.config = config
        self.writer = ScalarWriter(join(run.folder, LOG_FOLDER))
        super().__init__(run.folder)

    def history(self) -> History:
        return self.run.history

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        state = self.run.state
        if state.step % self.config.save_checkpoints_steps:
            # The window was interrupted, and Keras has just reset its averages.
            self.run.checkpoints.restore(self.model, state.step, metrics=True)
        else:
            state.first_step, state.seconds = state.step, 0.0
        self.started = time.monotonic() - state.seconds

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        # Measured before the validation, which follows the last batch and does not count for the throughput.
        self.run.state.seconds = time.monotonic() - self.started

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        state, history = self.run.state, self.run.history
        bound = self.config.divergence_factor * min((row["loss"] for row in history.rows), default=math.inf)
        check_loss(state.step, float(logs["loss"]), bound=bound, checkpoints=self.run.checkpoints)
        examples = (state.step - state.first_step) * self.config.train_batch_size
        figures = {
            "learning_rate": float(self.model.optimizer.learning_rate),
            "seconds": round(state.seconds, 3),
            "examples_per_second": round(examples / state.seconds, 2),
        }
        self.record(state.step, {**logs, **figures})
        if self.run.writes:
            row = history.rows[-1]
            self.writer.write(state.step, {**row, **norms(self.model)})
            values = ", ".join(f"{name} {value:.6g}" for name, value in row.items() if name != "step")
            best = " (best)" * (self.best_step == state.step)
            _LOG.info("step %d/%d: %s%s", state.step, self.config.num_train_steps, values, best)


class CheckpointEachInterval(SaveCheckpoints):
    """Saves a checkpoint after each window and, when the run is told to stop, in the middle of one.

    Such a checkpoint has the averages so far, from which the window resumes. The run has been restored. Unless
    `asynchronous`, training goes on only when a checkpoint is written.
    """

    def __init__(
        self,
        run: Run,
        config: PretrainConfig,
        *,
        strategy: Strategy,
        told_to_stop: Callable[[], bool],
        asynchronous: bool = True,
    ) -> None:
        super().__init__(run.folder)
        self.run = run
        self.config = config
        self.strategy = strategy
        self.told_to_stop = told_to_stop
        self.asynchronous = asynchronous

    def on_train_begin(self, logs: Any = None) -> None:
        """Do nothing: the model was restored before, in the scope of the strategy."""

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        in_window = self.run.state.step % self.config.save_checkpoints_steps
        if self.told_to_stop() and in_window and not self.model.stop_training:
            self.save()
            self._stop_if_told()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.save()
        if not self.model.stop_training:
            self._stop_if_told()

    def save(self) -> None:
        super().save()
        if not self.asynchronous:
            self.run.checkpoints.wait()

    def _stop_if_told(self) -> None:
        if self.told_to_stop():
            self.run.checkpoints.wait()
            self.strategy.leave()
            raise RunInterrupted(self.run.state.step)


def check_loss(step: int, loss: float, *, bound: float = math.inf, checkpoints: Checkpoints) -> None:
    """Raise `DivergedError`, which names the last good checkpoint, if a loss is not finite or above a bound."""
    if math.isfinite(loss) and loss <= bound:
        return
    problem = f"has risen above {bound:.4g}" if math.isfinite(loss) else "is not finite"
    raise DivergedError(step, f"The loss {problem} at step {step}. Received: {loss:.4g}. {checkpoints.last_good()}")


def norms(model: keras.Model) -> dict[str, float]:
    """Compute `weight_norm` over all trained variables, and `gradient_norm` of the last step before clipping.

    If the optimizer has trust ratios, also `trust_ratio/lowest`, `trust_ratio/median` and `trust_ratio/highest`.
    """
    optimizer: LAMB = model.optimizer
    # As arrays, because under `tf.distribute` a variable consists of several.
    squares = [np.sum(np.square(ops.convert_to_numpy(variable))) for variable in model.trainable_variables]
    figures = {
        "gradient_norm": float(ops.convert_to_numpy(optimizer.gradient_norm)),
        "weight_norm": float(np.sqrt(np.sum(squares))),
    }
    if ratios := list(optimizer.trust_ratios().values()):
        figures |= {
            "trust_ratio/lowest": min(ratios),
            "trust_ratio/median": statistics.median(ratios),
            "trust_ratio/highest": max(ratios),
        }
    return figures


@contextmanager
def catching_sigterm(any_worker: Callable[[bool], bool]) -> Iterator[Callable[[], bool]]:
    """Catch SIGTERM, by which preemptible machines give notice, instead of ending.

    Yields a function that tells whether this or, by `any_worker`, another worker has received it. All workers, which
    must stop at the same step, must call it at the same points.
    """
    received: list[int] = []
    # Python lets only the main thread handle signals.
    handles = threading.current_thread() is threading.main_thread()
    previous = signal.signal(signal.SIGTERM, lambda number, _: received.append(number)) if handles else None
    try:
        yield lambda: any_worker(bool(received))
    finally:
        if handles:
            signal.signal(signal.SIGTERM, previous)
