"""tibert_keras: from raw classical Tibetan text to a pretrained ALBERT masked language model, in Keras."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

from wrapt import when_imported

if TYPE_CHECKING:
    from tibert_keras.models.tibert_backbone import TibertBackbone
    from tibert_keras.models.tibert_masked_lm import TibertMaskedLM
    from tibert_keras.models.tibert_masked_lm_preprocessor import TibertMaskedLMPreprocessor
    from tibert_keras.models.tibert_pretraining import TibertPretraining
    from tibert_keras.models.tibert_text_classifier import TibertTextClassifier
    from tibert_keras.models.tibert_text_classifier_preprocessor import TibertTextClassifierPreprocessor
    from tibert_keras.models.tibert_token_classifier import TibertTokenClassifier
    from tibert_keras.models.tibert_token_classifier_preprocessor import TibertTokenClassifierPreprocessor
    from tibert_keras.models.tibert_tokenizer import TibertTokenizer
    from tibert_keras.optimizers.lamb import LAMB
    from tibert_keras.optimizers.losses import MaskedLanguageModelLoss, SentenceOrderLoss
    from tibert_keras.optimizers.schedules import WarmupPolynomialDecay
    from tibert_keras.training.config import PretrainConfig
    from tibert_keras.training.pretrain import pretrain

__version__ = "0.1.0"

__all__ = [
    "LAMB",
    "MaskedLanguageModelLoss",
    "PretrainConfig",
    "SentenceOrderLoss",
    "TibertBackbone",
    "TibertMaskedLM",
    "TibertMaskedLMPreprocessor",
    "TibertPretraining",
    "TibertTextClassifier",
    "TibertTextClassifierPreprocessor",
    "TibertTokenClassifier",
    "TibertTokenClassifierPreprocessor",
    "TibertTokenizer",
    "WarmupPolynomialDecay",
    "pretrain",
]

# The module that defines each public name, imported on first use: Keras takes seconds to import.
_KERAS_OBJECTS = {
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
_MODULES = {**_KERAS_OBJECTS, "PretrainConfig": "training.config", "pretrain": "training.pretrain"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in _KERAS_OBJECTS:
        register_classes()
    value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def register_classes() -> None:
    """Import every class that Keras and KerasHub look up by registered name or among the subclasses of a class."""
    for module in dict.fromkeys(_KERAS_OBJECTS.values()):
        importlib.import_module(f"{__name__}.{module}")


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
    if not any(f"{__name__}.{part}" in sys.modules for part in _KERAS_OBJECTS.values()):
        register_classes()
