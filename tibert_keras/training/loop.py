"""The loop over `fit()` that takes a run to its last step, despite interrupted windows and diverged losses."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import keras

from tibert_keras.errors import DivergedError
from tibert_keras.models.tibert_masked_lm import TibertMaskedLM
from tibert_keras.records.masking import DynamicMasking
from tibert_keras.records.pipeline import Records
from tibert_keras.runs.run import Run
from tibert_keras.training.config import PretrainConfig
from tibert_keras.training.strategy import Strategy

# If the loss diverges after more rollbacks to one checkpoint, the examples are not the cause.
_MOST_ROLLBACKS = 3
_LAST = "lower the learning rate and give another output_dir."

_LOG = logging.getLogger(__name__)


@dataclass(kw_only=True)
class TrainingLoop:
    """Runs `fit()` until the last step. An epoch of Keras is the window between two checkpoints.

    Args:
        run: The run, restored to where it stands.
        config: The options.
        strategy: Where the run trains.
        model: The compiled model.
        records: The training records.
        validation_batches: The batches to validate on after each window, or `None`.
        masking: Draws the masks, or `None` for those of the records.
        rollbacks: The number of rollbacks to each checkpoint so far.
    """

    run: Run
    config: PretrainConfig
    strategy: Strategy
    model: TibertMaskedLM
    records: Records
    validation_batches: Any
    masking: DynamicMasking | None
    rollbacks: Counter[int] = field(default_factory=Counter)

    def train(self, callbacks: Sequence[keras.callbacks.Callback]) -> None:
        """Train until the last step, or until a callback stops the training.

        Args:
            callbacks: The callbacks of `fit()`. One of them must count the steps in `run.state`.

        Raises:
            DivergedError: If the loss diverges, unless rollbacks are enabled and one helps.
        """
        while self.run.state.step < self.config.num_train_steps:
            try:
                self._fit(callbacks)
            except DivergedError as error:
                self._roll_back(error)
                # The loss may have diverged at the last step, which has told Keras to stop.
                continue
            if self.model.stop_training:
                # At the last step, or because a callback asked for it.
                return

    def _fit(self, callbacks: Sequence[keras.callbacks.Callback]) -> None:
        """Run `fit()` to the last step, or to the end of an interrupted window."""
        interval, state = self.config.save_checkpoints_steps, self.run.state
        epoch, passed = divmod(state.step, interval)
        batches = self.records.training_batches(
            self.config.train_batch_size,
            seed=self.config.seed,
            start_step=state.step + state.skipped_batches,
            sop=self.config.sop,
            masking=self.masking,
        )
        self.model.fit(
            # The batches never end: epochs of the data are not those of Keras.
            batches,
            steps_per_epoch=interval - passed,
            # The rest of an interrupted window is shorter than the others, so it takes a `fit()` of its own.
            epochs=epoch + 1 if passed else math.ceil(self.config.num_train_steps / interval),
            initial_epoch=epoch,
            validation_data=self.validation_batches,
            shuffle=False,
            verbose=0,
            callbacks=list(callbacks),
        )

    def _roll_back(self, error: DivergedError) -> None:
        """Restore the last checkpoint, and skip the batches of the window in which the loss diverged.

        As in section 5.1 of https://arxiv.org/abs/2204.02311, where the same batches did no harm from another state.
        """
        run, interval = self.run, self.config.save_checkpoints_steps
        run.checkpoints.wait()
        self.strategy.wait_for_workers()
        step = run.checkpoints.last_whole()
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
        # Those of earlier rollbacks to this checkpoint stay skipped too.
        skipped += run.state.skipped_batches
        run.restore(self.model, step)
        run.state.skipped_batches = skipped
