"""Trains a model of a fine-tuning: shuffled batches, the best epoch, and checkpoints to go on from."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any

import keras
import numpy as np
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from tibert_keras.errors import DivergedError, InputError
from tibert_keras.finetuning.config import FinetuneConfig
from tibert_keras.finetuning.task import FinetuningTask
from tibert_keras.lazy import tf
from tibert_keras.optimizers.lamb import Adam, google_optimizer
from tibert_keras.optimizers.schedules import WarmupPolynomialDecay
from tibert_keras.runs.checkpoints import Checkpoints
from tibert_keras.runs.folder import LOG_FOLDER
from tibert_keras.runs.history import History
from tibert_keras.runs.tensorboard import ScalarWriter
from tibert_keras.storage import join
from tibert_keras.training.strategy import Strategy, may_jit_compile

_LOG = logging.getLogger(__name__)


def can_go_on(folder: str, files: Mapping[str, str]) -> bool:
    """Whether a seed has a checkpoint to go on from, of the same data."""
    checkpoints = Checkpoints(folder)
    return bool(checkpoints.steps) and checkpoints.state(checkpoints.steps[-1]).get("files") == files


def train(task: FinetuningTask, model: keras.Model, strategy: Strategy, *, seed: int, folder: str) -> dict[str, Any]:
    """Train a model that is not compiled, or go on with a training that was killed, and restore its best epoch.

    The seed is that of the order of the data, and the folder that of the seed. Returns the number of the best epoch,
    that of all epochs, the seconds, and the scores on the validation data.
    """
    config = task.config
    batches = _ShuffledBatches(task, batch_size=batch_size(task, strategy), seed=seed)
    steps = len(batches) * config.num_epochs
    with strategy.scope():
        compile_model(config, model, steps=steps)
    with tqdm(desc="fine-tuning", total=steps, unit="step", disable=None) as bar, logging_redirect_tqdm():
        best = _BestEpoch(task, batches, folder, bar)
        with closing(best.checkpoints):
            data = _with_static_shapes(batches) if config.use_tpu else batches
            model.fit(data, epochs=config.num_epochs, shuffle=False, verbose=0, callbacks=[best])
    return {
        "epoch": best.best_epoch + 1,
        "epochs": len(best.scores),
        "seconds": best.seconds,
        "validation": best.scores[best.best_epoch],
    }


def batch_size(task: FinetuningTask, strategy: Strategy) -> int:
    """Return the size of all batches, which replicas and parts share evenly."""
    count, steps = len(task.sequences[1]), task.config.gradient_accumulation_steps
    if count < (parts := strategy.num_replicas * steps):
        raise InputError(
            f"Each part of a batch needs a sequence. Received: {count} sequences for {strategy.num_replicas} replicas "
            f"with gradient_accumulation_steps={steps}. Give more texts, or fewer parts."
        )
    return min(task.config.train_batch_size, count) // parts * parts


class _ShuffledBatches(keras.utils.PyDataset):
    """Full batches, so that all have one shape; which sequences are left over changes with each epoch."""

    def __init__(self, task: FinetuningTask, *, batch_size: int, seed: int) -> None:
        super().__init__()
        self.x, self.y, self.weights = task.sequences
        self.token_dropout, self.tokenizer = task.config.token_dropout, task.preprocessor.tokenizer
        self.size = batch_size
        self.seed, self.epoch = seed, 0
        self.rng = np.random.default_rng(seed)
        self.order = np.arange(len(self.y))

    def __len__(self) -> int:
        return len(self.y) // self.size

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        chosen = self.order[index * self.size : (index + 1) * self.size]
        x = {name: values[chosen] for name, values in self.x.items()}
        if self.token_dropout:
            x["token_ids"] = self._hide(x["token_ids"], index)
        return (x, self.y[chosen]) if self.weights is None else (x, self.y[chosen], self.weights[chosen])

    def shuffle(self) -> None:
        """Draw the order of the next epoch. Keras calls `on_epoch_end` more often than there are epochs."""
        self.order = self.rng.permutation(len(self.y))
        self.epoch += 1

    def _hide(self, token_ids: np.ndarray, index: int) -> np.ndarray:
        """Hide some tokens by [MASK], in a run that goes on the same as in one that was not stopped."""
        rng = np.random.default_rng((self.seed, self.epoch, index))
        is_special = np.isin(token_ids, self.tokenizer.special_token_ids)
        hidden = (rng.random(token_ids.shape) < self.token_dropout) & ~is_special
        return np.where(hidden, self.tokenizer.mask_token_id, token_ids).astype(token_ids.dtype)


def _with_static_shapes(batches: _ShuffledBatches) -> Any:
    """Return batches whose size is known before they are read, as TensorFlow needs it on a TPU."""
    if keras.backend.backend() != "tensorflow":
        return batches
    shapes = tf.nest.map_structure(tf.type_spec_from_value, batches[0])
    dataset = tf.data.Dataset.from_generator(
        lambda: (batches[index] for index in range(len(batches))), output_signature=shapes
    )
    return dataset.apply(tf.data.experimental.assert_cardinality(len(batches)))


class _BestEpoch(keras.callbacks.EarlyStopping):
    """Scores each epoch on the validation data, and restores the best one at the end.

    It keeps checkpoints of the last and the best epoch, to go on from after a kill, and reports each epoch in the
    history, the log, TensorBoard and a progress bar.
    """

    def __init__(self, task: FinetuningTask, batches: _ShuffledBatches, folder: str, bar: tqdm[Any]) -> None:
        patience = task.config.patience or task.config.num_epochs
        super().__init__(task.criterion, mode="max", patience=patience, restore_best_weights=True)
        self.task, self.batches, self.bar = task, batches, bar
        self.history, self.checkpoints = History(folder), Checkpoints(folder)
        self.writer = ScalarWriter(join(folder, LOG_FOLDER))
        self.scores: list[dict[str, float]] = []
        self.seconds = 0.0

    def on_train_begin(self, logs: Any = None) -> None:
        super().on_train_begin(logs)
        step = self.checkpoints.last_whole() or 0
        self.history.forget_after(step)
        if step:
            self._go_on(step)
        self.started = time.monotonic() - self.seconds

    def _go_on(self, step: int) -> None:
        state = self.checkpoints.state(step)
        self.scores, self.seconds = state["scores"], state["seconds"]
        self.best_epoch = max(range(len(self.scores)), key=lambda epoch: self.scores[epoch][self.task.criterion])
        self.best = self.scores[self.best_epoch][self.task.criterion]
        self.wait = len(self.scores) - 1 - self.best_epoch
        self.checkpoints.restore(self.model, self._step(self.best_epoch))
        self.best_weights = self.model.get_weights()
        self.checkpoints.restore(self.model, step)
        for _ in self.scores:
            self.batches.shuffle()
        self.bar.update(step)
        # As `keras.callbacks.BackupAndRestore` does. There is no further epoch if the patience was at its end.
        self.model._initial_epoch = len(self.scores) if self.wait < self.patience else self.task.config.num_epochs
        _LOG.info("Going on after epoch %d.", len(self.scores))

    def _step(self, epoch: int) -> int:
        return (epoch + 1) * len(self.batches)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.batches.shuffle()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if self.bar.update():
            self.bar.set_postfix_str(f"loss {float(logs['loss']):.4f}", refresh=False)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        step, loss = self._step(epoch), float(logs["loss"])
        if not math.isfinite(loss):
            raise DivergedError(
                step, f"The loss is not finite in epoch {epoch + 1}. Received: {loss}. Lower the learning rate."
            )
        scores = self.task.measure(self.model, "validation")
        self.scores.append(scores)
        self.seconds = round(time.monotonic() - self.started, 1)
        figures = {"loss": loss, **scores, "seconds": self.seconds}
        self.history.append({"step": step, "epoch": epoch + 1, **figures})
        self.writer.write(step, figures)
        super().on_epoch_end(epoch, scores)
        state = {"scores": self.scores, "seconds": self.seconds, "files": self.task.files}
        self.checkpoints.save(self.model, step, state=state, best_steps={self._step(self.best_epoch)})
        is_best = self.best_epoch == epoch
        _LOG.info("epoch %d: loss %.4f, %s%s", epoch + 1, loss, shown(scores, self.task.columns), " (best)" * is_best)


def compile_model(config: FinetuneConfig, model: keras.Model, *, steps: int) -> None:
    """Compile a model of a fine-tuning, with a warm-up and a linear decay over `steps`."""
    schedule = WarmupPolynomialDecay(
        config.learning_rate, decay_steps=max(1, steps), warmup_steps=int(steps * config.warmup_share)
    )
    if config.optimizer == "adam":
        # Keras numbers names in the process, and checkpoints are of another.
        optimizer = Adam(schedule, epsilon=1e-8, global_clipnorm=1.0, name="adam")
    else:
        optimizer = google_optimizer(config.optimizer, schedule)
    model.compile(
        optimizer=optimizer,
        jit_compile=may_jit_compile(config),
        gradient_accumulation_steps=config.gradient_accumulation_steps,
    )
    optimizer.build(model.trainable_variables)


def shown(scores: Mapping[str, float], columns: Sequence[str]) -> str:
    """Describe scores in a line."""
    return ", ".join(f"{name} {scores[name]:.4f}" for name in columns)
