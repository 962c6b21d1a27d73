"""Writes presets of other libraries as ours, so that `from_preset` loads them: KerasHub's and transformers' ALBERT."""

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import keras_nlp

from tibert_keras.formats.hugging_face import read_hugging_face
from tibert_keras.formats.portable import write_keras
from tibert_keras.models.keras_hub_presets import is_downloaded, preset_file, read_preset_file
from tibert_keras.models.model_parts import as_tibert_backbone
from tibert_keras.models.tibert_masked_lm import TibertMaskedLM
from tibert_keras.models.tibert_masked_lm_preprocessor import TibertMaskedLMPreprocessor
from tibert_keras.models.tibert_text_classifier import TibertTextClassifier
from tibert_keras.models.tibert_text_classifier_preprocessor import TibertTextClassifierPreprocessor
from tibert_keras.models.tibert_tokenizer import as_tibert_tokenizer

# The files of a transformers folder; those of the weights that there may be, the best first.
_INDEX = "model.safetensors.index.json"
_FILES = ("config.json", "spiece.model", "tokenizer.json", "tokenizer_config.json")
_WEIGHTS = ("model.safetensors", _INDEX, "pytorch_model.bin")


def write_as_ours(source: str, target: str) -> None:
    """Write a preset of KerasHub's or transformers' ALBERT, a folder or a handle, to an empty folder as one of ours.

    The masked language model's head of KerasHub has a layer normalisation with epsilon 1e-5; ours has Google's 1e-12.
    """
    if "model_type" not in read_preset_file(source, "config.json"):
        _write_keras_hub(source, target)
        return
    with tempfile.TemporaryDirectory() as folder:
        if is_downloaded(source):
            _download(source, Path(folder))
        write_keras(read_hugging_face(folder if is_downloaded(source) else source), Path(target))


# === transformers ===


def _download(handle: str, folder: Path) -> None:
    """Copy the files of a model from where KerasHub has downloaded them."""
    found = [name for name in _FILES if _copy(handle, name, folder)]
    weights = next((name for name in _WEIGHTS if _copy(handle, name, folder)), None)
    if weights == _INDEX and "config.json" in found:
        index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
        for name in set(index["weight_map"].values()):
            _copy(handle, name, folder)


def _copy(handle: str, name: str, folder: Path) -> bool:
    path = preset_file(handle, name)
    if path is not None:
        shutil.copyfile(path, folder / name)
    return path is not None


# === KerasHub ===


def _write_keras_hub(source: str, target: str) -> None:
    task = read_preset_file(source, "task.json").get("class_name")
    if task == "AlbertMaskedLM":
        _masked_lm(keras_nlp.models.AlbertMaskedLM.from_preset(source, dtype="float32")).save_to_preset(target)
    elif task in ("AlbertTextClassifier", "AlbertClassifier"):
        _classifier(keras_nlp.models.AlbertTextClassifier.from_preset(source, dtype="float32")).save_to_preset(target)
    else:
        as_tibert_backbone(keras_nlp.models.AlbertBackbone.from_preset(source, dtype="float32")).save_to_preset(target)
        if preset_file(source, "tokenizer.json") is not None:
            as_tibert_tokenizer(keras_nlp.models.AlbertTokenizer.from_preset(source)).save_to_preset(os.fspath(target))


def _masked_lm(theirs: keras_nlp.models.AlbertMaskedLM) -> TibertMaskedLM:
    preprocessor = _preprocessor(TibertMaskedLMPreprocessor, theirs)
    ours = TibertMaskedLM(as_tibert_backbone(theirs.backbone), preprocessor=preprocessor)
    ours.masked_lm_head.set_weights(theirs.masked_lm_head.get_weights())
    return ours


def _classifier(theirs: keras_nlp.models.AlbertTextClassifier) -> TibertTextClassifier:
    ours = TibertTextClassifier(
        as_tibert_backbone(theirs.backbone),
        theirs.num_classes,
        preprocessor=_preprocessor(TibertTextClassifierPreprocessor, theirs),
        activation=theirs.activation,
        dropout=theirs.dropout,
    )
    ours.output_dense.set_weights(theirs.output_dense.get_weights())
    return ours


def _preprocessor(ours: Any, task: Any) -> Any:
    theirs = task.preprocessor
    if theirs is None:
        return None
    names = (
        "sequence_length", "truncate", "mask_selection_rate", "mask_selection_length", "mask_token_rate",
        "random_token_rate",
    )  # fmt: skip
    options = {name: getattr(theirs, name) for name in names if hasattr(theirs, name)}
    # KerasHub's default is longer than some models' positions.
    options["sequence_length"] = min(options["sequence_length"], task.backbone.max_sequence_length)
    return ours(theirs.tokenizer, **options)
