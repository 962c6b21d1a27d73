"""Reads and writes folders of Hugging Face's transformers: `config.json`, weights and tokenizer."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tibert_keras.errors import InputError
from tibert_keras.formats.google_names import variable_shapes
from tibert_keras.formats.hugging_face_tokenizer import read_tokenizer, write_tokenizer
from tibert_keras.formats.hugging_face_weights import CONFIG_JSON, WEIGHTS_FILE, read_config_file, read_weights
from tibert_keras.formats.names import HUGGING_FACE
from tibert_keras.formats.portable import PortableModel, clean_albert_config, make_portable
from tibert_keras.formats.renaming import from_theirs, to_theirs
from tibert_keras.models.tibert_backbone import TibertBackbone
from tibert_keras.models.tibert_classifier import TibertClassifier
from tibert_keras.models.tibert_pretraining import TibertPretraining
from tibert_keras.models.tibert_text_classifier import TibertTextClassifier
from tibert_keras.models.tibert_token_classifier import TibertTokenClassifier
from tibert_keras.storage import join

# The defaults of `AlbertConfig`, for values that a file leaves out. Sizes may differ; the rest must be as below.
_DEFAULTS: dict[str, Any] = {
    "vocab_size": 30000,
    "embedding_size": 128,
    "hidden_size": 4096,
    "num_hidden_layers": 12,
    "num_hidden_groups": 1,
    "num_attention_heads": 64,
    "intermediate_size": 16384,
    "inner_group_num": 1,
    "hidden_act": "gelu_new",
    "hidden_dropout_prob": 0,
    "attention_probs_dropout_prob": 0,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "initializer_range": 0.02,
}
_FIXED: dict[str, tuple[Any, ...]] = {
    "model_type": ("albert",),
    # What Google calls "gelu". The "gelu" of transformers is another function, which differs by 1e-4.
    "hidden_act": ("gelu_new", "gelu_pytorch_tanh"),
    "layer_norm_eps": (1e-12,),
    "position_embedding_type": ("absolute",),
}
# Variables of transformers that repeat other ones.
_TIED = {
    "predictions.decoder.weight": "albert.embeddings.word_embeddings.weight",
    "predictions.decoder.bias": "predictions.bias",
}
_POSITION_IDS = "albert.embeddings.position_ids"

_LOG = logging.getLogger(__name__)

_CLASSIFIERS: dict[str, Any] = {
    "AlbertForTokenClassification": TibertTokenClassifier,
    "AlbertForSequenceClassification": TibertTextClassifier,
}
_CLASSIFIER_WEIGHT = "classifier.weight"
_ONE_CLASS = "single_label_classification"


# === Reading ===


def read_hugging_face(path: str, *, spm_model_file: str | None = None) -> PortableModel:
    """Read a folder of transformers.

    It may hold an `AlbertForMaskedLM`, `AlbertForPreTraining`, `AlbertForTokenClassification`,
    `AlbertForSequenceClassification` or `AlbertModel`.
    """
    config, weights = read_albert_config(path), standard_weights(read_weights(path))
    # transformers trains the embedding projection even between equal sizes, where Google has the identity.
    backbone = TibertBackbone.from_albert_config(config, dtype="float32", identity_projection=False)
    has_classifier = _CLASSIFIER_WEIGHT in weights
    full = _classifier(read_config_file(path), backbone) if has_classifier else TibertPretraining(backbone)
    head_input(path, weights)
    arrays = from_theirs(HUGGING_FACE, weights, variable_shapes(full))
    return make_portable(full, arrays, tokenizer=read_tokenizer(path, spm_model_file=spm_model_file))


def read_albert_config(path: str) -> dict[str, Any]:
    """Read `config.json` as the content of Google's `albert_config.json`, which names sizes alike."""
    config = read_config_file(path)
    # Other folders have a config.json too, but only transformers names a model_type in it.
    for name, allowed in _FIXED.items():
        if (value := config.get(name, None if name == "model_type" else allowed[0])) not in allowed:
            raise InputError(
                f"Only {name}={allowed[0]!r} is supported. "
                f"Received: {name}={value!r} in {join(path, CONFIG_JSON)!r}. Give an ALBERT like Google's."
            )
    sizes = {name: config.get(name, value) for name, value in _DEFAULTS.items()}
    return clean_albert_config({**sizes, "hidden_act": "gelu"})


def head_input(path: str, weights: Mapping[str, np.ndarray]) -> str | None:
    """Get the output that a folder's classifier reads, `sequence_output` or `pooled_output`, or `None` without one."""
    make = _classifier_class(read_config_file(path))
    if make is TibertTextClassifier and "albert.pooler.weight" not in weights:
        raise InputError(
            f"The classifier's pooler is missing. Received: {path!r} without albert.pooler.weight, whose output an "
            "AlbertForSequenceClassification reads. Give the weights that it was trained with."
        )
    return {TibertTokenClassifier: "sequence_output", TibertTextClassifier: "pooled_output"}.get(make)


def _classifier_class(config: Mapping[str, Any]) -> Any:
    """Get our class for the classifier that a `config.json` names, or `None` if it names none."""
    names = config.get("architectures")
    return next((ours for name, ours in _CLASSIFIERS.items() if isinstance(names, list) and name in names), None)


def _classifier(config: Mapping[str, Any], backbone: TibertBackbone) -> Any:
    make = _classifier_class(config)
    names = config.get("id2label") or {"0": "LABEL_0", "1": "LABEL_1"}
    labels = [names.get(str(number)) for number in range(len(names))] if isinstance(names, dict) else [None]
    if make is None or not all(isinstance(label, str) for label in labels) or len(set(labels)) < len(labels):
        raise InputError(
            "The model has a classifier's head, but its configuration does not name the classes. Received: "
            f"architectures={config.get('architectures')}, id2label={names}. Give one of {', '.join(_CLASSIFIERS)}, "
            "with a different label for each number from 0 on."
        )
    # If the file gives no problem_type, transformers treats a single label as a regression.
    problem = config.get("problem_type") or (_ONE_CLASS if len(labels) > 1 else "regression")
    if make is TibertTextClassifier and problem != _ONE_CLASS:
        raise InputError(
            f"Only classifiers that choose one of several classes are supported. Received: problem_type={problem!r}. "
            f"Give one of problem_type={_ONE_CLASS!r}, with more than one label."
        )
    dropout = config.get("classifier_dropout_prob", 0.1)
    if type(dropout) not in (int, float) or not 0 <= dropout < 1:
        raise InputError(
            "classifier_dropout_prob must be a number from 0 to less than 1. "
            f"Received: classifier_dropout_prob={dropout!r}. Correct it in {CONFIG_JSON}."
        )
    return make(backbone, labels=labels, dropout=dropout)


def standard_weights(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Rename the variables of any ALBERT class to those of `AlbertForPreTraining`, and drop repeated ones."""
    encoder = ("embeddings.", "encoder.", "pooler.")
    named = {f"albert.{name}" if name.startswith(encoder) else name: array for name, array in arrays.items()}
    if named.pop(_POSITION_IDS, None) is not None:
        _LOG.info("Dropped %s, because it only counts the positions.", _POSITION_IDS)
    for name, original in _TIED.items():
        array = named.pop(name, None)
        if array is None:
            continue
        if not np.array_equal(named.setdefault(original, array), array):
            raise InputError(
                f"The output layer is not tied to the embeddings. Received: {name} of shape {array.shape}, which "
                f"differs from {original} of shape {named[original].shape}. Give a model with tie_word_embeddings."
            )
        _LOG.info("Dropped %s, because it is %s.", name, original)
    return named


# === Writing ===


def write_hugging_face(portable: PortableModel, folder: Path) -> None:
    """Write a folder that `AutoModelFor...` and `AutoTokenizer` of transformers load without options.

    The pooler is included for further fine-tuning, although `AlbertForMaskedLM` and `AlbertForTokenClassification` do
    not use it.
    """
    from safetensors.numpy import save

    folder.mkdir()
    arrays = to_theirs(HUGGING_FACE, portable.weights)
    # transformers refuses the file without this metadata.
    content = save({name: arrays[name] for name in sorted(arrays)}, metadata={"format": "pt"})
    (folder / WEIGHTS_FILE).write_bytes(content)
    (folder / CONFIG_JSON).write_text(json.dumps(_config(portable), indent=2, sort_keys=True) + "\n", encoding="utf-8")
    if portable.tokenizer is not None:
        is_tagger = isinstance(portable.model, TibertTokenClassifier)
        length = portable.backbone.max_sequence_length
        write_tokenizer(portable.tokenizer, folder, max_length=length, by_syllable=is_tagger)


def _config(portable: PortableModel) -> dict[str, Any]:
    sizes = portable.backbone.to_albert_config()
    tokenizer = portable.tokenizer
    ids = (0, 2, 3) if tokenizer is None else (tokenizer.pad_token_id, tokenizer.cls_token_id, tokenizer.sep_token_id)
    classes: dict[str, Any] = {}
    if isinstance(portable.model, TibertClassifier):
        labels = list(portable.model.labels)
        classes = {
            "id2label": {str(number): label for number, label in enumerate(labels)},
            "label2id": {label: number for number, label in enumerate(labels)},
            "classifier_dropout_prob": portable.model.dropout,
            "problem_type": _ONE_CLASS,
        }
    return {
        **{name: sizes[name] for name in _DEFAULTS},
        **{name: allowed[0] for name, allowed in _FIXED.items()},
        "architectures": [_architecture(portable.model)],
        "classifier_dropout_prob": 0.1,
        "pad_token_id": ids[0],
        "bos_token_id": ids[1],
        "eos_token_id": ids[2],
        "tie_word_embeddings": True,
        **classes,
    }


def _architecture(model: Any) -> str:
    if isinstance(model, TibertBackbone):
        return "AlbertModel"
    if isinstance(model, TibertClassifier):
        return next(name for name, ours in _CLASSIFIERS.items() if isinstance(model, ours))
    return "AlbertForPreTraining" if isinstance(model, TibertPretraining) else "AlbertForMaskedLM"
