"""tibert_keras: from raw classical Tibetan text to a pretrained ALBERT masked language model, in Keras."""

from tibert_keras.data import (
    TibertMaskedLMPreprocessor,
    TibertTextClassifierPreprocessor,
    TibertTokenClassifierPreprocessor,
)
from tibert_keras.models import (
    TibertBackbone,
    TibertMaskedLM,
    TibertPretraining,
    TibertTextClassifier,
    TibertTokenClassifier,
)
from tibert_keras.optimizers import LAMB, MaskedLanguageModelLoss, SentenceOrderLoss, WarmupPolynomialDecay
from tibert_keras.tokenizers import TibertTokenizer
from tibert_keras.training import PretrainConfig, pretrain

# KerasHub finds the parts of a preset through these attributes. They are tied here, where all the classes are known,
# because tokenizers, data and models import no sibling.
TibertTokenizer.backbone_cls = TibertBackbone
for _task, _preprocessor in (
    (TibertMaskedLM, TibertMaskedLMPreprocessor),
    (TibertTextClassifier, TibertTextClassifierPreprocessor),
    (TibertTokenClassifier, TibertTokenClassifierPreprocessor),
):
    _preprocessor.backbone_cls = TibertBackbone
    _task.preprocessor_cls = _preprocessor

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
