"""The model that passes from one format to another, and this package's own side: presets, runs and checkpoints."""

import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tibert_keras.errors import InputError
from tibert_keras.formats.renaming import SLOTS, split_slot
from tibert_keras.models.model_parts import check_vocabulary
from tibert_keras.models.tibert_backbone import TibertBackbone, check_albert_config
from tibert_keras.models.tibert_classifier import TibertClassifier
from tibert_keras.models.tibert_masked_lm import TibertMaskedLM
from tibert_keras.models.tibert_masked_lm_preprocessor import TibertMaskedLMPreprocessor
from tibert_keras.models.tibert_presets import find_by_name
from tibert_keras.models.tibert_tokenizer import TibertTokenizer
from tibert_keras.registration import is_handle
from tibert_keras.runs.checkpoints import VARIABLES_FILE, Checkpoints, moment_name, split_checkpoint
from tibert_keras.runs.folder import INITIAL_PRESET, read_config
from tibert_keras.runs.presets import load_model
from tibert_keras.storage import exists, join, open_binary

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class PortableModel:
    """A model on its way from one format to another, with the state of its training if there is one."""

    model: Any
    # Of the optimizer, by the path of their variable followed by `/adam_m` or `/adam_v`.
    moments: Mapping[str, np.ndarray] = field(default_factory=dict)
    step: int | None = None
    tokenizer: TibertTokenizer | None = None

    @property
    def backbone(self) -> TibertBackbone:
        return self.model if isinstance(self.model, TibertBackbone) else self.model.backbone

    @property
    def weights(self) -> dict[str, np.ndarray]:
        return {weight.path: keras.ops.convert_to_numpy(weight) for weight in self.model.weights}


# === From a foreign format ===


def clean_albert_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Check the `albert_config.json` of a trained model, and remove what only an untrained one needs.

    Our encoder has a single dropout. If the two in the file differ, `hidden_dropout_prob` is kept; only further
    training would use them.
    """
    config = {name: value for name, value in config.items() if name != "initializer_range"}
    hidden, attention = config.get("hidden_dropout_prob"), config.get("attention_probs_dropout_prob")
    if type(attention) in (int, float) and hidden != attention:
        _LOG.warning(
            "hidden_dropout_prob=%s holds for the whole encoder from here on; attention_probs_dropout_prob=%s is left "
            "out. The outputs of the model stay the same; only further training would differ.",
            hidden,
            attention,
        )
        config["attention_probs_dropout_prob"] = hidden
    check_albert_config(config)
    return config


def make_portable(
    full: Any, arrays: Mapping[str, np.ndarray], *, step: int | None = None, tokenizer: TibertTokenizer | None = None
) -> PortableModel:
    """Assign foreign values to a model, and drop the heads that the foreign format did not bring."""
    if tokenizer is not None:
        check_vocabulary(full.backbone.vocabulary_size, tokenizer.vocabulary_size())
    masked_lm, order = ("mlm_head/output_bias" in arrays), ("sop_head/kernel" in arrays)
    if order and not masked_lm:
        raise InputError(
            "A head for the order of sentences stands alone. Received: weights without a head for masked tokens. "
            "Give the weights of a whole pretraining, or of an encoder."
        )
    for weight in full.weights:
        if weight.path in arrays:
            weight.assign(arrays[weight.path])
    length = full.backbone.max_sequence_length
    model: Any = full
    if isinstance(full, TibertClassifier):
        if tokenizer is not None:
            full.preprocessor = full.preprocessor_cls(tokenizer, labels=list(full.labels), sequence_length=length)
    else:
        if tokenizer is not None:
            full.preprocessor = TibertMaskedLMPreprocessor(tokenizer, sequence_length=length)
        model = full if order else full.masked_lm() if masked_lm else full.backbone
    if new := [weight.path for weight in model.weights if weight.path not in arrays]:
        _LOG.info("New, with initial values, because they are missing there: %s.", ", ".join(new))
    moments = {name: array for name, array in arrays.items() if split_slot(name)[1]}
    return PortableModel(model=model, moments=moments, step=step, tokenizer=tokenizer)


# === From and to presets ===


def read_keras(path: str, *, dtype: str = "float32") -> PortableModel:
    """Read a preset, a run's champion, or a checkpoint, `RUN/checkpoints/STEP`, with its moments and step."""
    path = find_by_name(path).rstrip("/")
    if (parts := split_checkpoint(path)) is not None:
        return _read_checkpoint(*parts, dtype)
    if not is_handle(path) and exists(join(path, "config.json")) and not exists(join(path, "task.json")):
        # An encoder alone, with or without its tokenizer.
        model = TibertBackbone.from_preset(path, dtype=dtype)
        tokenizer = TibertTokenizer.from_preset(path) if exists(join(path, "tokenizer.json")) else None
        return PortableModel(model=model, tokenizer=tokenizer)
    model = load_model(path, dtype=dtype)
    return PortableModel(model=model, tokenizer=_tokenizer(model))


def write_keras(portable: PortableModel, folder: Path, *, precision: str = "float32") -> None:
    """Write a model as a preset, with its weights as `float32` or `float16`."""
    if precision != "float32":
        # Keras stores weights as they are in memory.
        write_keras(portable, folder)
        portable = read_keras(os.fspath(folder), dtype=precision)
        shutil.rmtree(folder)
    portable.model.save_to_preset(os.fspath(folder))
    if portable.model is portable.backbone and portable.tokenizer is not None:
        portable.tokenizer.save_to_preset(os.fspath(folder))


def _tokenizer(model: Any) -> TibertTokenizer | None:
    return model.preprocessor and model.preprocessor.tokenizer


def _read_checkpoint(run_dir: str, step: int, dtype: str) -> PortableModel:
    checkpoints = Checkpoints(run_dir)
    if step not in checkpoints.steps:
        raise InputError(
            f"No checkpoint is there. Received: '{checkpoints.folder}/{step}'. Give one of {checkpoints.steps}."
        )
    initial = join(run_dir, INITIAL_PRESET)
    model = TibertMaskedLM.from_preset(initial, load_weights=False, compile=False, dtype=dtype)
    checkpoints.restore(model, step)
    optimizer = read_config(run_dir)["optimizer"]
    moments = {}
    with open_binary(join(checkpoints.folder, str(step), VARIABLES_FILE)) as file, np.load(file) as saved:
        for weight in model.weights:
            for slot in SLOTS:
                name = moment_name(optimizer, weight.path, slot)
                if name in saved:
                    moments[f"{weight.path}/{slot}"] = saved[name]
    return PortableModel(model=model, moments=moments, step=step, tokenizer=_tokenizer(model))
