"""Registers the classes with Keras, as soon as Keras is imported and no sooner: it takes seconds."""

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any

from wrapt import when_imported

# The module of each class that Keras and KerasHub look up by registered name or among the subclasses of another.
KERAS_OBJECTS = {
    "TibertTokenizer": "models.tibert_tokenizer",
    "LAMB": "optimizers.lamb",
    "MaskedLanguageModelLoss": "optimizers.losses",
    "SentenceOrderLoss": "optimizers.losses",
    "WarmupPolynomialDecay": "optimizers.schedules",
    "TibertBackbone": "models.tibert_backbone",
    "TibertMaskedLM": "models.tibert_masked_lm",
    "TibertMaskedLMPreprocessor": "models.tibert_masked_lm_preprocessor",
    "TibertPretraining": "models.tibert_pretraining",
    "TibertTextClassifier": "models.tibert_text_classifier",
    "TibertTextClassifierPreprocessor": "models.tibert_text_classifier_preprocessor",
    "TibertTokenClassifier": "models.tibert_token_classifier",
    "TibertTokenClassifierPreprocessor": "models.tibert_token_classifier_preprocessor",
}


def is_handle(preset: str | os.PathLike[str]) -> bool:
    """Return whether a preset stands for a model that KerasHub downloads."""
    return os.fspath(preset).startswith(("hf://", "kaggle://", "modelscope://"))


def preset_converter() -> Callable[[str, str], None]:
    """Return the function that writes another library's preset as one of ours.

    The models load it by name: it stands among the formats, which are made of models.
    """
    return importlib.import_module("tibert_keras.formats.foreign_presets").write_as_ours


def register_classes() -> None:
    """Import every class that Keras and KerasHub look up by registered name or among the subclasses of a class."""
    for module in [*dict.fromkeys(KERAS_OBJECTS.values()), "models.keras_hub_names"]:
        importlib.import_module(f"tibert_keras.{module}")


@when_imported("keras")
@when_imported("keras_hub")
@when_imported("keras_nlp")
def _register_with(module: Any) -> None:
    """Register the classes once Keras is imported, so that it can load our models before any class is used by name.

    `keras_nlp` imports `keras_hub`, which imports `keras`; only the outermost of them registers, when its import is
    complete. If a module of this package imported Keras, that module registers its own classes.
    """
    outer = ("keras", "keras_hub", "keras_nlp")
    if any(name in sys.modules for name in outer[outer.index(module.__name__) + 1 :]):
        return
    if not any(f"tibert_keras.{part}" in sys.modules for part in KERAS_OBJECTS.values()):
        register_classes()
