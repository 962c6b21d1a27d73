"""Pretrains a masked language model: `compile` and `fit` under the chosen strategy, resumable at any step."""

import logging
import math
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing, nullcontext
from functools import partial
from typing import Any

import keras
from tqdm.contrib.logging import logging_redirect_tqdm

from tibert_keras.errors import DivergedError, InputError
from tibert_keras.locks import only_writer
from tibert_keras.models.encoder_layer import build_training_variables
from tibert_keras.models.tibert_masked_lm import TibertMaskedLM
from tibert_keras.records.masking import DynamicMasking
from tibert_keras.records.pipeline import Records
from tibert_keras.runs.champion import Champion, choose_champion, read_champion, write_evaluation
from tibert_keras.runs.checkpoints import Checkpoints
from tibert_keras.runs.environment import note_environment
from tibert_keras.runs.run import Run
from tibert_keras.storage import exists, remove
from tibert_keras.training.config import PretrainConfig, check_pretraining
from tibert_keras.training.evaluate import evaluate, reporting_damaged_records
from tibert_keras.training.init_checkpoint import restore_continue_from
from tibert_keras.training.model import make_model
from tibert_keras.training.run_callbacks import CheckpointEachInterval, RecordEachWindow, StepProgress, catching_sigterm
from tibert_keras.training.strategy import Strategy, chosen_strategy, use_deterministic_operations
from tibert_keras.training.workers import is_chief

# If the loss diverges after more rollbacks to one checkpoint, the examples are not the cause.
_MOST_ROLLBACKS = 3
_LAST = "lower the learning rate and give another output_dir."

_LOG = logging.getLogger(__name__)


def pretrain(config: PretrainConfig, *, callbacks: Sequence[keras.callbacks.Callback] = ()) -> Champion:
    """Pretrain a masked language model, or resume a run that was stopped, and choose its champion.

    Args:
        config: The options. If `output_dir` holds checkpoints of a run with the same options, that run is resumed.
        callbacks: Keras callbacks, which run after the run's own, when each checkpoint is written. Each of several
            workers calls its own.

    Returns:
        The checkpoint with the lowest training loss over its window or, with a `validation_file`, the
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
    config = config.as_begun()
    check_pretraining(config)
    is_new = is_chief() and not exists(config.output_dir)
    with only_writer(config.output_dir) if is_chief() else nullcontext():
        try:
            return _pretrain(config, callbacks)
        except (InputError, OSError) as error:
            # Damaged records show when they are read. A folder without a checkpoint would only be in the way.
            no_use = is_new and exists(config.output_dir) and not Checkpoints(config.output_dir).steps
            if no_use and not isinstance(error, DivergedError):
                remove(config.output_dir)
            raise


def _pretrain(config: PretrainConfig, callbacks: Sequence[keras.callbacks.Callback]) -> Champion:
    if config.deterministic:
        use_deterministic_operations()
    with chosen_strategy(config) if config.do_train else nullcontext(Strategy()) as strategy:
        records = Records.find(config.input_file)
        validation = Records.find(config.validation_file) if config.validation_file else None
        if config.do_train:
            _train(config, strategy, records, validation, callbacks)
    if strategy.is_chief:
        champion = choose_champion([config.output_dir])
    elif not config.do_train:
        raise InputError(
            "Without training there is only work for the first worker. "
            "Received: do_train=False on another. Leave this one out."
        )
    if config.do_train:
        strategy.wait_for_workers()
    if not strategy.is_chief:
        return read_champion(config.output_dir)
    if config.do_eval and validation:
        scores = evaluate(TibertMaskedLM.from_preset(champion.preset), validation, batch_size=config.eval_batch_size)
        _LOG.info("champion on %s: %s", config.validation_file, scores)
        write_evaluation(config.output_dir, scores, input_file=config.validation_file, baseline=None)
    return champion


def _train(
    config: PretrainConfig,
    strategy: Strategy,
    records: Records,
    validation: Records | None,
    callbacks: Sequence[keras.callbacks.Callback],
) -> None:
    run = Run(config.output_dir, keep=config.keep_checkpoint_max, writes=strategy.is_chief)
    run.state.num_examples = records.num_examples
    with strategy.scope():
        model, records, validation = make_model(config, strategy, records, validation)
        # The records hold token ids; the preprocessor is for users of the champion.
        preprocessor, model.preprocessor = model.preprocessor, None
        masking = None
        if config.dynamic_masking:
            masking = DynamicMasking(policy=preprocessor.policy, tokenizer=preprocessor.tokenizer, seed=config.seed)
        _restore(config, strategy, run, model, records)
        validation_batches = validation and _validation_batches(config, validation, strategy.num_replicas)
    _check_iterations(config, run.state.step)
    if run.state.step >= config.num_train_steps:
        _LOG.info("The run is already at its last step, %d.", run.state.step)
        return
    if run.writes:
        paths = [*records.paths, *(validation.paths if validation else [])]
        note_environment(run.folder, run.state.step, paths)
    progress = StepProgress(run, config)
    # Even after an exception, the bar is closed before anything else is printed, and the last checkpoint is written.
    with (
        reporting_damaged_records(records, validation, sop=config.sop),
        catching_sigterm(strategy.any_worker) as told_to_stop,
        closing(progress.bar),
        logging_redirect_tqdm(),
        closing(run.checkpoints),
    ):
        saving = CheckpointEachInterval(
            run,
            config,
            strategy=strategy,
            told_to_stop=told_to_stop,
            # The caller's callbacks rely on the checkpoint being written.
            asynchronous=not callbacks,
        )
        read = partial(
            records.training_batches, config.train_batch_size, seed=config.seed, sop=config.sop, masking=masking
        )
        all_callbacks = [progress, RecordEachWindow(run, config), saving, *callbacks]
        _fit(config, strategy, run, model, read, validation_batches, all_callbacks)


def _restore(config: PretrainConfig, strategy: Strategy, run: Run, model: TibertMaskedLM, records: Records) -> None:
    """Restore the run's last undamaged checkpoint or, if it has none, `continue_from`."""
    resumed = run.resume(model)
    # All workers have looked for a checkpoint before the chief writes one that the others would find.
    strategy.wait_for_workers()
    if resumed:
        _LOG.info("Going on from step %d.", run.state.step)
    elif config.continue_from is not None:
        step = restore_continue_from(model, config, writes=run.writes)
        run.state.step = run.state.first_step = step
    run.history.forget_after(run.state.step)
    if run.state.step % config.save_checkpoints_steps:
        # The averages of an interrupted window are restored before the first step, in which Keras would make their
        # variables.
        build_training_variables(model, records.empty_batch(config.train_batch_size, sop=config.sop))
    if not resumed and config.continue_from is not None:
        # From now on the run does not need the other one.
        run.save(model)
        run.checkpoints.wait()
        strategy.wait_for_workers()


def _check_iterations(config: PretrainConfig, step: int) -> None:
    """Check that the steps of one call end where an interrupted window does."""
    interval, together = config.save_checkpoints_steps, config.steps_per_execution
    if -step % interval % together:
        raise InputError(
            "iterations_per_loop must divide the rest of the interrupted window. Received: "
            f"iterations_per_loop={together} at step {step}, save_checkpoints_steps={interval}. "
            f"Give a divisor of {math.gcd(-step % interval, interval)}."
        )


def _validation_batches(config: PretrainConfig, validation: Records, replicas: int) -> Any:
    """Batches of one size that all replicas share evenly, as Keras needs them under a strategy."""
    batch_size = min(config.eval_batch_size, validation.num_examples) // replicas * replicas
    if batch_size == 0:
        raise InputError(
            f"A validation needs an example for each replica. Received: {validation.num_examples} examples, "
            f"eval_batch_size={config.eval_batch_size} on {replicas} replicas."
        )
    return validation.evaluation_batches(batch_size, drop_remainder=True, sop=config.sop).take(config.max_eval_steps)


# === The loop over `fit()`, despite interrupted windows and diverged losses ===


def _fit(
    config: PretrainConfig,
    strategy: Strategy,
    run: Run,
    model: TibertMaskedLM,
    read: Callable[..., Any],
    validation_batches: Any,
    callbacks: Sequence[keras.callbacks.Callback],
) -> None:
    """Run `fit()` until the last step, or until a callback stops it. An epoch is the window between two checkpoints.

    `read` gives the batches from a step on. One of the callbacks counts the steps in `run.state`.
    """
    interval, rollbacks = config.save_checkpoints_steps, Counter[int]()
    while run.state.step < config.num_train_steps:
        epoch, passed = divmod(run.state.step, interval)
        try:
            model.fit(
                # The batches never end: epochs of the data are not those of Keras.
                read(start_step=run.state.step + run.state.skipped_batches),
                steps_per_epoch=interval - passed,
                # The rest of an interrupted window is shorter than the others, so it takes a `fit()` of its own.
                epochs=epoch + 1 if passed else math.ceil(config.num_train_steps / interval),
                initial_epoch=epoch,
                validation_data=validation_batches,
                shuffle=False,
                verbose=0,
                callbacks=list(callbacks),
            )
        except DivergedError as error:
            _roll_back(config, strategy, run, model, error, rollbacks)
            # The loss may have diverged at the last step, which has told Keras to stop.
            continue
        if model.stop_training:
            # At the last step, or because a callback asked for it.
            return


def _roll_back(
    config: PretrainConfig,
    strategy: Strategy,
    run: Run,
    model: TibertMaskedLM,
    error: DivergedError,
    rollbacks: Counter[int],
) -> None:
    """Restore the last checkpoint, and skip the batches of the window in which the loss diverged.

    As in section 5.1 of https://arxiv.org/abs/2204.02311, where the same batches did no harm from another state.
    `rollbacks` counts those to each checkpoint.
    """
    run.checkpoints.wait()
    strategy.wait_for_workers()
    step = run.checkpoints.last_whole()
    if config.on_divergence != "rollback":
        advice = f"Go on without these examples by on_divergence=rollback, or {_LAST}"
        raise DivergedError(error.step, f"{error} {advice}")
    if step is None or rollbacks[step] == _MOST_ROLLBACKS:
        raise DivergedError(error.step, f"{error} {_LAST.capitalize()}")
    rollbacks[step] += 1
    interval = config.save_checkpoints_steps
    skipped = min(math.ceil(error.step / interval) * interval, config.num_train_steps) - step
    _LOG.warning("The loss diverged at step %d. Rolling back to %d and skipping %d batches.", error.step, step, skipped)
    # Those of earlier rollbacks to this checkpoint stay skipped too.
    skipped += run.state.skipped_batches
    run.restore(model, step)
    run.state.skipped_batches = skipped
