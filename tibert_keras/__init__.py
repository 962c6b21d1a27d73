"""tibert_keras: from raw classical Tibetan text to a pretrained ALBERT masked language model, in Keras."""

import importlib
from typing import TYPE_CHECKING, Any

from tibert_keras.registration import KERAS_OBJECTS, register_classes

if TYPE_CHECKING:
    from tibert_keras.inference.fill import fill_gaps
    from tibert_keras.inference.fill_pieces import fill_mask
    from tibert_keras.models.model_parts import resize_vocabulary
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
    "callbacks",
    "fill_gaps",
    "fill_mask",
    "pretrain",
    "resize_vocabulary",
]

# The module that defines each public name, imported on first use: Keras takes seconds to import.
_MODULES = {
    **KERAS_OBJECTS,
    "PretrainConfig": "training.config",
    "fill_gaps": "inference.fill",
    "fill_mask": "inference.fill_pieces",
    "pretrain": "training.pretrain",
    "resize_vocabulary": "models.model_parts",
}


def __getattr__(name: str) -> Any:
    if name == "callbacks":
        return importlib.import_module(f"{__name__}.callbacks")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in KERAS_OBJECTS:
        register_classes()
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
