"""The model of a run as it is trained: of its initial preset, with optimizer and schedule."""

from __future__ import annotations

import os

import keras

from tibert_keras.errors import InputError
from tibert_keras.models.tibert_masked_lm import TibertMaskedLM
from tibert_keras.optimizers.lamb import LAMB
from tibert_keras.optimizers.schedules import WarmupPolynomialDecay
from tibert_keras.records.pipeline import Records
from tibert_keras.runs.champion import INITIAL_PRESET
from tibert_keras.storage import atomic_output, exists, join
from tibert_keras.training.config import PretrainConfig, write_config
from tibert_keras.training.init_checkpoint import check_init_checkpoint
from tibert_keras.training.initial_model import initial_model
from tibert_keras.training.sources import check_records
from tibert_keras.training.strategy import Strategy, has_strategy


def make_model(
    config: PretrainConfig, strategy: Strategy, records: Records, validation: Records | None
) -> TibertMaskedLM:
    """Make the compiled model of a run: from its initial preset, or from the options, which then becomes that.

    Raises:
        InputError: If the options, the records and the model do not fit together. Nothing is written then.
    """
    initial = join(config.output_dir, INITIAL_PRESET)
    # All workers have to take the same way: to make variables, they wait for each other.
    if strategy.any_worker(not exists(join(initial, "task.json"))):
        keras.utils.set_random_seed(config.seed)
        model = initial_model(config, records)
        _check_sources(config, model, records, validation)
        if config.init_checkpoint is not None:
            check_init_checkpoint(model, config)
        # Only now that all fits together, so that a mistake leaves nothing behind.
        if strategy.is_chief:
            write_config(config)
            with atomic_output(initial, last="task.json") as folder:
                model.save_to_preset(os.fspath(folder))
        strategy.meet()
        if strategy.any_worker(not exists(join(initial, "task.json"))):
            raise InputError(
                "The workers do not see the same output folder. "
                f"Received: output_dir={config.output_dir!r}. Give one that is shared by all hosts."
            )
    # Dropout draws its seeds when the model is made: the same ones whether the run is new or not.
    keras.utils.set_random_seed(config.seed)
    model = TibertMaskedLM.from_preset(initial, dtype=config.mixed_precision)
    _check_sources(config, model, records, validation)
    if strategy.is_chief:
        write_config(config)
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
