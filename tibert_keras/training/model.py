"""The model of a run: made from the options, saved as the initial preset, and compiled for training."""

import dataclasses
import logging
import os

import keras

from tibert_keras.errors import InputError
from tibert_keras.models.model_parts import check_vocabulary
from tibert_keras.models.neighbour_attention import attend_to_neighbours
from tibert_keras.models.tibert_backbone import TibertBackbone
from tibert_keras.models.tibert_masked_lm import TibertMaskedLM
from tibert_keras.models.tibert_masked_lm_preprocessor import TibertMaskedLMPreprocessor
from tibert_keras.models.tibert_pretraining import TibertPretraining
from tibert_keras.models.tibert_tokenizer import TibertTokenizer
from tibert_keras.optimizers.lamb import google_optimizer
from tibert_keras.optimizers.muon import Muon
from tibert_keras.optimizers.schedules import WarmupPolynomialDecay
from tibert_keras.records.build import TOKENIZER_FILE
from tibert_keras.records.pipeline import Records
from tibert_keras.runs.folder import INITIAL_PRESET, write_config
from tibert_keras.storage import atomic_output, exists, join, read_bytes
from tibert_keras.training.config import PretrainConfig
from tibert_keras.training.evaluate import check_records
from tibert_keras.training.init_checkpoint import check_continue_from, read_any, report_taken_over, take_weights
from tibert_keras.training.precision import with_fastest_precision
from tibert_keras.training.strategy import Strategy, may_jit_compile

_LOG = logging.getLogger(__name__)


def make_model(
    config: PretrainConfig, strategy: Strategy, records: Records, validation: Records | None
) -> tuple[TibertMaskedLM, Records, Records | None]:
    """Make the compiled model of a run from its initial preset, which is first made from the options if it is missing.

    The records are returned too: they are checked against the model when they are read. If they, the options and the
    model do not fit together, nothing is written.
    """
    initial = join(config.output_dir, INITIAL_PRESET)
    # Workers wait for each other to make variables, so all of them must take the same branch.
    if strategy.any_worker(not exists(join(initial, "task.json"))):
        keras.utils.set_random_seed(config.seed)
        model = initial_model(config, records)
        _check_records(config, model, records, validation)
        if config.continue_from is not None:
            check_continue_from(model, config)
        if config.mixed_precision == "auto":
            config = _with_fastest_precision(config, strategy, model, records)
        taken = _take_initial_weights(config, model)
        # Written only once everything fits together, so that a mistake leaves nothing behind.
        if strategy.is_chief:
            write_config(config)
            with atomic_output(initial, last="task.json") as folder:
                model.save_to_preset(os.fspath(folder))
            if taken is not None:
                report_taken_over(taken, place=str(config.initial_weights), step=0, output_dir=config.output_dir)
        strategy.wait_for_workers()
        if strategy.any_worker(not exists(join(initial, "task.json"))):
            raise InputError(
                "The workers do not see the same output folder. "
                f"Received: output_dir={config.output_dir!r}. Give one that is shared by all hosts."
            )
    # Dropout draws its seeds when the model is made: they are the same in a new run and in a resumed one.
    keras.utils.set_random_seed(config.seed)
    model = TibertMaskedLM.from_preset(initial, dtype=config.mixed_precision)
    checked, checked_validation = _check_records(config, model, records, validation)
    if strategy.is_chief:
        write_config(config)
    _compile(config, model)
    return model, checked, checked_validation


def initial_model(config: PretrainConfig, records: Records) -> TibertMaskedLM:
    """Make the model of a run, with a preprocessor if the tokenizer of the records is known.

    Its weights are float32 for any precision of the run: KerasHub cannot load a preset saved with mixed precision.
    """
    preprocessor = _preprocessor(config, records)
    size = preprocessor and preprocessor.tokenizer.vocabulary_size()
    if config.architecture_from is not None:
        architecture = read_any(config.architecture_from).backbone.get_config()
        backbone = TibertBackbone(**{**architecture, "dtype": "float32", "name": None, "trainable": True})
    elif config.albert_config_file is not None:
        backbone = TibertBackbone.from_albert_config(config.albert_config_file, dtype="float32")
    elif size is None:
        raise InputError(
            "A preset takes the size of the vocabulary from the tokenizer, and there is none beside the records. "
            f"Received: preset={config.preset!r}, spm_model_file=None. Give spm_model_file or albert_config_file."
        )
    else:
        backbone = TibertBackbone.from_preset(config.preset or "", vocabulary_size=size, dtype="float32")
    if size is not None:
        check_vocabulary(backbone.vocabulary_size, size)
    if config.neighbour_attention:
        attend_to_neighbours(backbone, seed=config.seed)
    return (TibertPretraining if config.sop else TibertMaskedLM)(backbone, preprocessor=preprocessor)


def _with_fastest_precision(
    config: PretrainConfig, strategy: Strategy, model: TibertMaskedLM, records: Records
) -> PretrainConfig:
    def make_model(config: PretrainConfig, backbone: TibertBackbone) -> TibertMaskedLM:
        trial = type(model)(backbone)
        _compile(dataclasses.replace(config, iterations_per_loop=1), trial)
        return trial

    batch = next(records.numpy_batches(64, sop=config.sop))
    return with_fastest_precision(config, strategy, model.backbone, make_model=make_model, batch=batch)


def _take_initial_weights(config: PretrainConfig, model: TibertMaskedLM) -> dict[str, set[str]] | None:
    """Give the model the weights to begin with, if there are any, and return the names of those taken over."""
    if config.initial_weights is None:
        return None
    architecture = model.backbone.to_albert_config()
    if config.init_from_group0:
        architecture["num_hidden_groups"] = 1
    origin = read_any(config.initial_weights, architecture=architecture)
    taken = take_weights(model, origin, place=config.initial_weights, init_from_group0=config.init_from_group0)
    _LOG.info("The optimizer and the schedule begin at step 0; continue_from would take them over too.")
    return taken


def _preprocessor(config: PretrainConfig, records: Records) -> TibertMaskedLMPreprocessor | None:
    """Make a preprocessor with the tokenizer of the records, or return `None` if it is not known."""
    path = config.spm_model_file
    if path is None:
        if records.tokenizer is None:
            if config.dynamic_masking:
                raise InputError(
                    "Masks are drawn with the ids of a tokenizer, and there is none beside the records. "
                    "Received: dynamic_masking=True, spm_model_file=None. Give spm_model_file."
                )
            _LOG.warning("No tokenizer is beside the records; without spm_model_file the champion takes only ids.")
            return None
        path = f"{os.path.dirname(records.paths[0])}/{TOKENIZER_FILE}"
    proto = read_bytes(path)
    # Before its vocabulary size is compared: another tokenizer explains another size.
    records.check_tokenizer(proto)
    options = {} if records.tokenizer is None else records.tokenizer["options"]
    # Masks text as the records were masked, with the options under KerasHub's names.
    names = {"masked_lm_prob": "mask_selection_rate", "max_predictions_per_seq": "mask_selection_length"}
    masking = records.masking or {"max_predictions_per_seq": config.max_predictions_per_seq}
    if config.dynamic_masking and not records.masking:
        _LOG.warning("The records do not tell how all of them were masked: masks are drawn with the default options.")
    return TibertMaskedLMPreprocessor(
        TibertTokenizer(proto, **options),
        sequence_length=config.max_seq_length,
        **{names.get(name, name): value for name, value in masking.items()},
    )


def _check_records(
    config: PretrainConfig, model: TibertMaskedLM, records: Records, validation: Records | None
) -> tuple[Records, Records | None]:
    lengths = {"max_seq_length": config.max_seq_length, "max_predictions_per_seq": config.max_predictions_per_seq}
    checked = check_records(records, model, **lengths)
    return checked, validation and check_records(validation, model, **lengths)


def _compile(config: PretrainConfig, model: TibertMaskedLM) -> None:
    schedule = WarmupPolynomialDecay(
        config.learning_rate,
        decay_steps=config.num_train_steps,
        warmup_steps=config.num_warmup_steps,
        start_warmup_step=config.start_warmup_step,
        power=config.poly_power,
    )
    model.compile(
        optimizer=Muon(schedule) if config.optimizer == "muon" else google_optimizer(config.optimizer, schedule),
        jit_compile=may_jit_compile(config),
        steps_per_execution=config.steps_per_execution,
        gradient_accumulation_steps=config.gradient_accumulation_steps,
        rematerialize=config.rematerialize,
    )
    # If the first step made the optimizer's variables, it would be traced twice.
    model.optimizer.build(model.trainable_variables)
