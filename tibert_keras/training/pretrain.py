"""Pretraining: `compile` and `fit` of a masked language model, resumable, under the chosen strategy."""

from __future__ import annotations

import dataclasses
import logging
import math
import os
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import keras
import yaml

from tibert_keras.data import Records
from tibert_keras.errors import InputError, refuse_changes
from tibert_keras.models import TibertMaskedLM
from tibert_keras.optimizers import LAMB, MaskedLanguageModelLoss, WarmupPolynomialDecay
from tibert_keras.storage import atomic_output, exists, join, list_folder, read_bytes
from tibert_keras.training.callbacks import CheckpointEachInterval, StepProgress
from tibert_keras.training.champion import INITIAL_PRESET, Champion, choose_champion
from tibert_keras.training.checkpoints import Checkpoints
from tibert_keras.training.config import CHANGEABLE, PretrainConfig
from tibert_keras.training.evaluate import evaluate
from tibert_keras.training.history import History
from tibert_keras.training.initial_model import initial_model
from tibert_keras.training.sources import check_records, naming_damage
from tibert_keras.training.strategy import has_strategy, num_replicas, strategy_scope
from tibert_keras.training.termination import noting_termination

CONFIG_FILE = "config.yaml"

_LOG = logging.getLogger(__name__)


def pretrain(config: PretrainConfig, *, callbacks: Sequence[keras.callbacks.Callback] = ()) -> Champion:
    """Pretrain a masked language model, or go on with a run that was stopped, and choose its champion.

    Args:
        config: The options. A run goes on if its `output_dir` holds checkpoints of the same options.
        callbacks: Keras callbacks that come after the run's own, when each checkpoint is there.

    Returns:
        The champion: the checkpoint with the lowest training loss over its window, as a preset in `champion/`.

    Raises:
        InputError: If the options, the records and the model do not fit together, the folder holds another run,
            a record file is damaged, or the loss is no longer finite.

    Example:
    ```python
    champion = pretrain(PretrainConfig(
        input_file="records/train_*.tf_record", output_dir="run", preset="tibert_tiny", train_batch_size=64,
        num_train_steps=1000, num_warmup_steps=100, save_checkpoints_steps=200))
    model = TibertMaskedLM.from_preset(champion.preset)
    ```
    """
    records = Records.find(config.input_file)
    validation = Records.find(config.validation_file) if config.validation_file else None
    _check_folder(config)
    if config.do_train:
        with naming_damage(records, validation):
            _train(config, records, validation, callbacks)
    champion = choose_champion([config.output_dir])
    if config.do_eval and validation:
        scores = evaluate(TibertMaskedLM.from_preset(champion.preset), validation, batch_size=config.eval_batch_size)
        _LOG.info("champion on %s: %s", config.validation_file, scores)
    return champion


def _check_folder(config: PretrainConfig) -> None:
    """Check that the output folder is empty, or holds a run of the same options."""
    path = join(config.output_dir, CONFIG_FILE)
    if exists(path):
        previous, current = _read_config(path), dataclasses.asdict(config)
        fixed = [name for name in current if name not in CHANGEABLE]
        refuse_changes(
            {name: previous.get(name) for name in fixed},
            {name: current[name] for name in fixed},
            folder=config.output_dir,
        )
    elif list_folder(config.output_dir):
        raise InputError(
            f"The output folder is not empty and holds no run. Received: output_dir={config.output_dir!r}. "
            "Choose another."
        )


def _read_config(path: str) -> dict[str, Any]:
    try:
        config = yaml.safe_load(read_bytes(path))
    except yaml.YAMLError:
        config = None
    if not isinstance(config, dict):
        raise InputError(f"Not the configuration of a run. Received: {path!r}. Choose another output folder.")
    return config


def _write_config(config: PretrainConfig) -> None:
    with atomic_output(join(config.output_dir, CONFIG_FILE)) as path:
        path.write_text(yaml.safe_dump(dataclasses.asdict(config), sort_keys=False), encoding="utf-8")


def _train(
    config: PretrainConfig,
    records: Records,
    validation: Records | None,
    callbacks: Sequence[keras.callbacks.Callback],
) -> None:
    checkpoints = Checkpoints(config.output_dir, keep=config.keep_checkpoint_max)
    history = History(config.output_dir)
    state = {"num_examples": records.num_examples}
    with strategy_scope(config):
        model = _make_model(config, records, validation)
        step = _restore(model, checkpoints, state)
        validation_batches = validation and _validation_batches(config, validation)
        if step % config.save_checkpoints_steps:
            # The averages of an interrupted interval are restored before the first step, in which Keras would make
            # their variables.
            batches = records.training_batches(config.train_batch_size, seed=config.seed)
            model._symbolic_build(data_batch=batches.element_spec)
    history.forget_after(step)
    if step >= config.num_train_steps:
        _LOG.info("The run is already at its last step, %d.", step)
        return
    progress = StepProgress(start_step=step, num_train_steps=config.num_train_steps, checkpoints=checkpoints)
    # An exception too must leave the terminal's line to what is said of it, and the last checkpoint whole.
    with noting_termination() as termination, closing(progress.bar), closing(checkpoints):
        saving = CheckpointEachInterval(
            checkpoints=checkpoints,
            history=history,
            progress=progress,
            batch_size=config.train_batch_size,
            log_dir=join(config.output_dir, "logs"),
            state=state,
            interval=config.save_checkpoints_steps,
            termination=termination,
            # The other callbacks are promised that the checkpoint is there.
            asynchronous=not callbacks,
        )
        _fit(config, records, validation_batches, model, progress, [progress, saving, *callbacks])


def _fit(
    config: PretrainConfig,
    records: Records,
    validation_batches: Any,
    model: TibertMaskedLM,
    progress: StepProgress,
    callbacks: list[keras.callbacks.Callback],
) -> None:
    """Run `fit()` to the last step. An epoch of Keras is the interval between two checkpoints."""
    interval = config.save_checkpoints_steps
    while progress.step < config.num_train_steps:
        epoch, passed = divmod(progress.step, interval)
        model.fit(
            # The data's epochs are its own affair.
            records.training_batches(config.train_batch_size, seed=config.seed, start_step=progress.step),
            steps_per_epoch=interval - passed,
            # What is left of an interval that was interrupted is shorter than the others.
            epochs=epoch + 1 if passed else math.ceil(config.num_train_steps / interval),
            initial_epoch=epoch,
            validation_data=validation_batches,
            shuffle=False,
            verbose=0,
            callbacks=callbacks,
        )
        if model.stop_training:
            # The last step, or a callback that has seen enough.
            return


def _validation_batches(config: PretrainConfig, validation: Records) -> Any:
    """Batches of one size that all replicas share evenly: Keras can use no others under a strategy."""
    replicas = num_replicas()
    batch_size = min(config.eval_batch_size, validation.num_examples) // replicas * replicas
    if batch_size == 0:
        raise InputError(
            f"A validation needs an example for each replica. Received: {validation.num_examples} examples, "
            f"eval_batch_size={config.eval_batch_size} on {replicas} replicas."
        )
    return validation.evaluation_batches(batch_size, drop_remainder=True).take(config.max_eval_steps)


def _make_model(config: PretrainConfig, records: Records, validation: Records | None) -> TibertMaskedLM:
    """Make the compiled model of a run: from its initial preset, or from the options, which then becomes that."""
    initial = join(config.output_dir, INITIAL_PRESET)
    if not exists(join(initial, "task.json")):
        keras.utils.set_random_seed(config.seed)
        model = initial_model(config, records)
        _check_sources(config, model, records, validation)
        # Only now that all fits together, so that a mistake leaves nothing behind.
        _write_config(config)
        with atomic_output(initial, last="task.json") as folder:
            model.save_to_preset(os.fspath(folder))
    # Dropout draws its seeds when the model is made: the same ones whether the run is new or not.
    keras.utils.set_random_seed(config.seed)
    model = TibertMaskedLM.from_preset(initial, dtype=config.mixed_precision)
    _check_sources(config, model, records, validation)
    _write_config(config)
    _compile(config, model)
    # The records bring token ids; the preprocessor is for those who load the champion.
    model.preprocessor = None
    return model


def _check_sources(config: PretrainConfig, model: TibertMaskedLM, *sources: Records | None) -> None:
    for source in filter(None, sources):
        check_records(
            source,
            model,
            max_seq_length=config.max_seq_length,
            max_predictions_per_seq=config.max_predictions_per_seq,
        )


def _compile(config: PretrainConfig, model: TibertMaskedLM) -> None:
    schedule = WarmupPolynomialDecay(
        config.learning_rate,
        decay_steps=config.num_train_steps,
        warmup_steps=config.num_warmup_steps,
        start_warmup_step=config.start_warmup_step,
    )
    model.compile(
        optimizer=_optimizer(config, schedule),
        loss=MaskedLanguageModelLoss(),
        weighted_metrics=[keras.metrics.SparseCategoricalAccuracy(name="masked_lm_accuracy")],
        jit_compile=_jit_compile(config),
        steps_per_execution=config.steps_per_execution,
        gradient_accumulation_steps=config.gradient_accumulation_steps,
        rematerialize=config.rematerialize,
    )
    # A step that first makes the optimizer's variables would be traced twice.
    model.optimizer.build(model.trainable_variables)


def _optimizer(config: PretrainConfig, schedule: WarmupPolynomialDecay) -> LAMB:
    if config.optimizer == "lamb":
        return LAMB(schedule)
    # Google's `AdamWeightDecayOptimizer` is its LAMB without the trust ratio: an empty pattern is in every path.
    return LAMB(schedule, exclude_from_layer_adaptation=[""], name="adamw")


def _jit_compile(config: PretrainConfig) -> bool | str:
    """Whether Keras compiles the step with XLA: not under a strategy, where that fails; TPUs compile it themselves."""
    return False if has_strategy() else config.jit_compile


def _restore(model: TibertMaskedLM, checkpoints: Checkpoints, state: dict[str, int]) -> int:
    """Load the last checkpoint that is whole, if there is one, and return its step."""
    step = checkpoints.last_whole()
    if step is None:
        return 0
    previous = checkpoints.state(step)
    refuse_changes({name: previous[name] for name in state}, state, folder=checkpoints.folder)
    checkpoints.restore(model, step)
    _LOG.info("Going on from step %d.", step)
    return step
