"""The loop over `fit()`: from where a run stands to its last step, over interruptions and divergence."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import keras

from tibert_keras.models.tibert_masked_lm import TibertMaskedLM
from tibert_keras.records.pipeline import Records
from tibert_keras.training.callbacks import CheckpointEachInterval, StepProgress
from tibert_keras.training.config import PretrainConfig
from tibert_keras.training.divergence import DivergedError

# More of them to one checkpoint, and it is not the examples that are at fault.
_MOST_ROLLBACKS = 3
_LAST = "lower the learning rate and give another output_dir."

_LOG = logging.getLogger(__name__)


class TrainingLoop:
    """Runs `fit()` until the last step. An epoch of Keras is the window between two checkpoints.

    Args:
        config: The options.
        model: The compiled model.
        records: What to train on.
        validation_batches: What to validate on after each window, or `None`.
        progress: Counts the steps.
        saving: Saves the checkpoints.
        callbacks: Other callbacks, to come after these.
    """

    def __init__(
        self,
        config: PretrainConfig,
        model: TibertMaskedLM,
        records: Records,
        validation_batches: Any,
        *,
        progress: StepProgress,
        saving: CheckpointEachInterval,
        callbacks: Sequence[keras.callbacks.Callback],
    ) -> None:
        self.config = config
        self.model = model
        self.records = records
        self.validation_batches = validation_batches
        self.progress = progress
        self.saving = saving
        self.callbacks = [progress, saving, *callbacks]
        self.rollbacks: Counter[int] = Counter()

    def run(self) -> None:
        """Train until the last step, or until a callback stops the training.

        Raises:
            DivergedError: If the loss diverges, unless a rollback is asked for and helps.
        """
        while self.progress.step < self.config.num_train_steps:
            try:
                self._fit()
            except DivergedError as error:
                self._roll_back(error)
                # It may have been at the last step, where Keras was told to stop.
                continue
            if self.model.stop_training:
                # The last step, or a callback that has seen enough.
                return

    def _fit(self) -> None:
        """Run `fit()` to the last step, or to the end of a window that was interrupted."""
        interval, step = self.config.save_checkpoints_steps, self.progress.step
        epoch, passed = divmod(step, interval)
        batches = self.records.training_batches(
            self.config.train_batch_size,
            seed=self.config.seed,
            start_step=step + self.saving.state["skipped_batches"],
            sop=self.config.sop,
        )
        self.model.fit(
            # The data's epochs are its own affair.
            batches,
            steps_per_epoch=interval - passed,
            # What is left of a window that was interrupted is shorter than the others.
            epochs=epoch + 1 if passed else math.ceil(self.config.num_train_steps / interval),
            initial_epoch=epoch,
            validation_data=self.validation_batches,
            shuffle=False,
            verbose=0,
            callbacks=self.callbacks,
        )

    def _roll_back(self, error: DivergedError) -> None:
        """Go back to the last checkpoint, and past the batches of the window in which the loss diverged.

        As in section 5.1 of https://arxiv.org/abs/2204.02311, where the same batches did no harm from another state.
        """
        checkpoints, interval = self.saving.checkpoints, self.config.save_checkpoints_steps
        checkpoints.wait()
        self.saving.strategy.meet()
        step = checkpoints.last_whole()
        if self.config.on_divergence != "rollback":
            advice = f"Go on without these examples by on_divergence=rollback, or {_LAST}"
            raise DivergedError(error.step, f"{error} {advice}")
        if step is None or self.rollbacks[step] == _MOST_ROLLBACKS:
            raise DivergedError(error.step, f"{error} {_LAST.capitalize()}")
        self.rollbacks[step] += 1
        skipped = min(math.ceil(error.step / interval) * interval, self.config.num_train_steps) - step
        _LOG.warning(
            "The loss diverged at step %d. Rolling back to %d and skipping %d batches.", error.step, step, skipped
        )
        checkpoints.restore(self.model, step)
        self.saving.history.forget_after(step)
        self.saving.state["skipped_batches"] += skipped
        self.progress.go_back_to(step)
