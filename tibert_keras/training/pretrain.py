"""Pretraining: `compile` and `fit` of a masked language model, resumable, under the chosen strategy."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from contextlib import closing, nullcontext
from typing import Any

import keras
from tqdm.contrib.logging import logging_redirect_tqdm

from tibert_keras.errors import InputError, refuse_changes
from tibert_keras.models.encoder_layer import build_training_variables
from tibert_keras.models.tibert_masked_lm import TibertMaskedLM
from tibert_keras.records.pipeline import Records
from tibert_keras.runs.champion import Champion, choose_champion, read_champion
from tibert_keras.runs.checkpoints import Checkpoints
from tibert_keras.runs.environment import note_environment
from tibert_keras.runs.history import History
from tibert_keras.storage import join
from tibert_keras.training.callbacks import CheckpointEachInterval, StepProgress
from tibert_keras.training.config import CHANGEABLE, PretrainConfig, check_folder
from tibert_keras.training.determinism import use_deterministic_operations
from tibert_keras.training.evaluate import evaluate
from tibert_keras.training.init_checkpoint import take_over
from tibert_keras.training.loop import TrainingLoop
from tibert_keras.training.model import make_model
from tibert_keras.training.sources import naming_damage
from tibert_keras.training.strategy import Strategy, chosen_strategy
from tibert_keras.training.termination import noting_termination

_LOG = logging.getLogger(__name__)


def pretrain(config: PretrainConfig, *, callbacks: Sequence[keras.callbacks.Callback] = ()) -> Champion:
    """Pretrain a masked language model, or go on with a run that was stopped, and choose its champion.

    Args:
        config: The options. A run goes on if its `output_dir` holds checkpoints of the same options.
        callbacks: Keras callbacks that come after the run's own, when each checkpoint is there. Each of several
            workers calls its own.

    Returns:
        The champion: the checkpoint with the lowest training loss over its window or, with a `validation_file`, the
        lowest validation loss, as a preset in `champion/`.

    Raises:
        InputError: If the options, the records and the model do not fit together, the folder holds another run,
            a record file is damaged, or the loss diverges.

    Example:
    ```python
    champion = pretrain(PretrainConfig(
        input_file="records/train_*.tf_record", output_dir="run", preset="tibert_tiny", train_batch_size=64,
        num_train_steps=1000, num_warmup_steps=100, save_checkpoints_steps=200))
    model = TibertMaskedLM.from_preset(champion.preset)
    ```
    """
    if config.deterministic:
        use_deterministic_operations()
    with chosen_strategy(config) if config.do_train else nullcontext(Strategy()) as strategy:
        records = Records.find(config.input_file)
        validation = Records.find(config.validation_file) if config.validation_file else None
        check_folder(config, CHANGEABLE)
        if config.do_train:
            with naming_damage(records, validation):
                _train(config, strategy, records, validation, callbacks)
    if strategy.is_chief:
        champion = choose_champion([config.output_dir])
    elif not config.do_train:
        raise InputError(
            "Without training there is only work for the first worker. "
            "Received: do_train=False on another. Leave this one out."
        )
    if config.do_train:
        strategy.meet()
    if not strategy.is_chief:
        return read_champion(config.output_dir)
    if config.do_eval and validation:
        scores = evaluate(TibertMaskedLM.from_preset(champion.preset), validation, batch_size=config.eval_batch_size)
        _LOG.info("champion on %s: %s", config.validation_file, scores)
    return champion


def _train(
    config: PretrainConfig,
    strategy: Strategy,
    records: Records,
    validation: Records | None,
    callbacks: Sequence[keras.callbacks.Callback],
) -> None:
    checkpoints = Checkpoints(config.output_dir, keep=config.keep_checkpoint_max, writes=strategy.is_chief)
    history = History(config.output_dir, writes=strategy.is_chief)
    state = {"num_examples": records.num_examples, "skipped_batches": 0}
    with strategy.scope():
        model = make_model(config, strategy, records, validation)
        step = _begin(config, strategy, model, records, checkpoints, state)
        validation_batches = validation and _validation_batches(config, validation, strategy.num_replicas)
    history.forget_after(step)
    _check_iterations(config, step)
    if step >= config.num_train_steps:
        _LOG.info("The run is already at its last step, %d.", step)
        return
    if strategy.is_chief:
        note_environment(config.output_dir, step, [*records.paths, *(validation.paths if validation else [])])
    progress = StepProgress(
        start_step=step,
        num_train_steps=config.num_train_steps,
        batch_size=config.train_batch_size,
        checkpoints=checkpoints,
        hidden=not strategy.is_chief,
    )
    # An exception too must leave the terminal's line to what is said of it, and the last checkpoint whole.
    with (
        noting_termination(strategy.any_worker) as termination,
        closing(progress.bar),
        logging_redirect_tqdm(),
        closing(checkpoints),
    ):
        saving = CheckpointEachInterval(
            checkpoints=checkpoints,
            history=history,
            progress=progress,
            log_dir=join(config.output_dir, "logs"),
            state=state,
            interval=config.save_checkpoints_steps,
            divergence_factor=config.divergence_factor,
            termination=termination,
            strategy=strategy,
            # The other callbacks are promised that the checkpoint is there.
            asynchronous=not callbacks,
        )
        loop = TrainingLoop(
            config, model, records, validation_batches, progress=progress, saving=saving, callbacks=callbacks
        )
        loop.run()


def _begin(
    config: PretrainConfig,
    strategy: Strategy,
    model: TibertMaskedLM,
    records: Records,
    checkpoints: Checkpoints,
    state: dict[str, int],
) -> int:
    """Load the run's last whole checkpoint, or what it takes over from another run, and return the step."""
    step = checkpoints.last_whole()
    # Before the chief writes one that the others would find.
    strategy.meet()
    taken_over = step is None and config.init_checkpoint is not None
    if step is not None:
        previous = checkpoints.state(step)
        refuse_changes(
            {"num_examples": previous["num_examples"]},
            {"num_examples": state["num_examples"]},
            folder=checkpoints.folder,
        )
        state["skipped_batches"] = previous.get("skipped_batches", 0)
        checkpoints.restore(model, step)
        _LOG.info("Going on from step %d.", step)
    elif config.init_checkpoint is not None:
        step = take_over(model, config, writes=strategy.is_chief)
    else:
        return 0
    if step % config.save_checkpoints_steps:
        # The averages of an interrupted window are restored before the first step, in which Keras would make their
        # variables.
        batches = records.training_batches(config.train_batch_size, seed=config.seed, sop=config.sop)
        build_training_variables(model, batches.element_spec)
    if taken_over:
        # From now on the run stands on its own, whatever becomes of the other.
        checkpoints.save(model, step, state={**state, "first_step": step, "seconds": 0.0}, best_steps={step})
        checkpoints.wait()
        strategy.meet()
    return step


def _check_iterations(config: PretrainConfig, step: int) -> None:
    """Check that the steps that run without a look outside end where an interrupted window does."""
    interval, together = config.save_checkpoints_steps, config.steps_per_execution
    if -step % interval % together:
        raise InputError(
            "iterations_per_loop must divide what is left of the window that was interrupted. Received: "
            f"iterations_per_loop={together} at step {step}, save_checkpoints_steps={interval}. "
            f"Give a divisor of {math.gcd(-step % interval, interval)}."
        )


def _validation_batches(config: PretrainConfig, validation: Records, replicas: int) -> Any:
    """Batches of one size that all replicas share evenly: Keras can use no others under a strategy."""
    batch_size = min(config.eval_batch_size, validation.num_examples) // replicas * replicas
    if batch_size == 0:
        raise InputError(
            f"A validation needs an example for each replica. Received: {validation.num_examples} examples, "
            f"eval_batch_size={config.eval_batch_size} on {replicas} replicas."
        )
    return validation.evaluation_batches(batch_size, drop_remainder=True, sop=config.sop).take(config.max_eval_steps)
