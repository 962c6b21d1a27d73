"""Pretraining: `compile` and `fit` of a masked language model, resumable, under the chosen strategy."""

from __future__ import annotations

import dataclasses
import logging
import math
import os
from collections.abc import Sequence

import keras
import tensorflow as tf
import yaml

from tibert_keras.data import Records, TibertMaskedLMPreprocessor
from tibert_keras.data.pipeline import count_examples
from tibert_keras.data.records import TOKENIZER_FILE
from tibert_keras.errors import InputError, refuse_changes
from tibert_keras.models import TibertBackbone, TibertMaskedLM
from tibert_keras.optimizers import LAMB, MaskedLanguageModelLoss, WarmupPolynomialDecay
from tibert_keras.storage import atomic_output, exists, list_folder, read_bytes
from tibert_keras.tokenizers import TibertTokenizer
from tibert_keras.training.callbacks import CheckpointEachInterval, StepProgress
from tibert_keras.training.champion import INITIAL_PRESET, Champion, choose_champion
from tibert_keras.training.checkpoints import Checkpoints, History
from tibert_keras.training.config import CHANGEABLE, PretrainConfig
from tibert_keras.training.evaluate import evaluate
from tibert_keras.training.strategy import strategy_scope

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
    _open_run(config)
    if config.do_train:
        _train(config, records, validation, callbacks)
    champion = choose_champion([config.output_dir])
    if config.do_eval and validation:
        scores = evaluate(TibertMaskedLM.from_preset(champion.preset), validation, batch_size=config.eval_batch_size)
        _LOG.info("champion on %s: %s", config.validation_file, scores)
    return champion


def _open_run(config: PretrainConfig) -> None:
    """Write `config.yaml`, or check that the run that is already there has the same options."""
    path = f"{config.output_dir}/{CONFIG_FILE}"
    if exists(path):
        previous = yaml.safe_load(read_bytes(path))
        current = dataclasses.asdict(config)
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
    with atomic_output(path) as temporary:
        temporary.write_text(yaml.safe_dump(dataclasses.asdict(config), sort_keys=False), encoding="utf-8")


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
        model = _make_model(config, records)
        for source in filter(None, [records, validation]):
            source.check(
                max_seq_length=config.max_seq_length,
                max_predictions_per_seq=config.max_predictions_per_seq,
                vocabulary_size=model.backbone.vocabulary_size,
            )
        step = _restore(model, checkpoints, state)
    history.forget_after(step)
    if step >= config.num_train_steps:
        _LOG.info("The run is already at its last step, %d.", step)
        return
    progress = StepProgress(start_step=step, num_train_steps=config.num_train_steps, checkpoints=checkpoints)
    saving = CheckpointEachInterval(
        checkpoints=checkpoints,
        history=history,
        progress=progress,
        batch_size=config.train_batch_size,
        log_dir=f"{config.output_dir}/logs",
        state=state,
    )
    try:
        model.fit(
            records.training_batches(config.train_batch_size, seed=config.seed, start_step=step),
            # An epoch of Keras is the interval between two checkpoints; the data's epochs are its own affair.
            steps_per_epoch=config.save_checkpoints_steps,
            epochs=math.ceil(config.num_train_steps / config.save_checkpoints_steps),
            initial_epoch=step // config.save_checkpoints_steps,
            validation_data=validation
            and validation.evaluation_batches(config.eval_batch_size).take(config.max_eval_steps),
            shuffle=False,
            verbose=0,
            callbacks=[progress, saving, *callbacks],
        )
    except tf.errors.DataLossError:
        for path in records.paths:
            count_examples(path)
        raise


def _make_model(config: PretrainConfig, records: Records) -> TibertMaskedLM:
    """Make the compiled model of a run: from its initial preset, or from the options, which then becomes that."""
    keras.utils.set_random_seed(config.seed)
    keras.config.set_dtype_policy(config.mixed_precision)
    initial = f"{config.output_dir}/{INITIAL_PRESET}"
    if not exists(f"{initial}/task.json"):
        with atomic_output(initial) as folder:
            _initial_model(config, records).save_to_preset(os.fspath(folder))
    model = TibertMaskedLM.from_preset(initial)
    schedule = WarmupPolynomialDecay(
        config.learning_rate,
        decay_steps=config.num_train_steps,
        warmup_steps=config.num_warmup_steps,
        start_warmup_step=config.start_warmup_step,
    )
    model.compile(
        optimizer=LAMB(schedule),
        loss=MaskedLanguageModelLoss(),
        weighted_metrics=[keras.metrics.SparseCategoricalAccuracy(name="masked_lm_accuracy")],
        jit_compile=_jit_compile(config),
        steps_per_execution=config.steps_per_execution,
    )
    # The records bring token ids; the preprocessor is for those who load the champion.
    model.preprocessor = None
    return model


def _jit_compile(config: PretrainConfig) -> bool | str:
    """Whether Keras compiles the step with XLA: not under a strategy, where that fails; TPUs compile it themselves."""
    if keras.backend.backend() == "tensorflow" and tf.distribute.has_strategy():
        return False
    return "auto" if config.jit_compile == "auto" else config.jit_compile == "true"


def _initial_model(config: PretrainConfig, records: Records) -> TibertMaskedLM:
    preprocessor = _preprocessor(config, records)
    if config.albert_config_file is not None:
        backbone = TibertBackbone.from_albert_config(config.albert_config_file)
    else:
        size = preprocessor and preprocessor.tokenizer.vocabulary_size()
        backbone = TibertBackbone.from_preset(config.preset or "", vocabulary_size=size)
    if preprocessor and preprocessor.tokenizer.vocabulary_size() != backbone.vocabulary_size:
        raise InputError(
            f"The tokenizer and the model disagree. Received: {preprocessor.tokenizer.vocabulary_size()} pieces in the "
            f"tokenizer, vocabulary size {backbone.vocabulary_size} for the model. Give the tokenizer of the records."
        )
    if config.max_seq_length > backbone.max_sequence_length:
        raise InputError(
            "The sequences are longer than the model's positions. Received: "
            f"max_seq_length={config.max_seq_length}, positions={backbone.max_sequence_length}."
        )
    return TibertMaskedLM(backbone, preprocessor=preprocessor)


def _preprocessor(config: PretrainConfig, records: Records) -> TibertMaskedLMPreprocessor | None:
    """The preprocessor with the tokenizer of the records, or `None` if nobody knows it."""
    path = config.spm_model_file
    if path is None:
        if records.tokenizer is None:
            _LOG.warning("No tokenizer is beside the records; without spm_model_file the champion takes only ids.")
            return None
        path = f"{os.path.dirname(records.paths[0])}/{TOKENIZER_FILE}"
    proto = read_bytes(path)
    records.check_tokenizer(proto)
    options = {} if records.tokenizer is None else records.tokenizer["options"]
    return TibertMaskedLMPreprocessor(
        TibertTokenizer(proto, **options),
        sequence_length=config.max_seq_length,
        mask_selection_length=config.max_predictions_per_seq,
    )


def _restore(model: TibertMaskedLM, checkpoints: Checkpoints, state: dict[str, int]) -> int:
    """Load the last checkpoint, if there is one, and return its step."""
    if not checkpoints.steps:
        return 0
    step = checkpoints.steps[-1]
    previous = checkpoints.state(step)
    refuse_changes({name: previous[name] for name in state}, state, folder=checkpoints.folder)
    checkpoints.restore(model, step)
    _LOG.info("Going on from step %d.", step)
    return step
