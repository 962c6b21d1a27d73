"""Batches to logits: the encoder and the tasks built on it, one class a file."""

from tibert_keras.models.tibert_backbone import TibertBackbone
from tibert_keras.models.tibert_masked_lm import TibertMaskedLM
from tibert_keras.models.tibert_pretraining import TibertPretraining
from tibert_keras.models.tibert_text_classifier import TibertTextClassifier
from tibert_keras.models.tibert_token_classifier import ScoredSyllables, TibertTokenClassifier

__all__ = [
    "ScoredSyllables",
    "TibertBackbone",
    "TibertMaskedLM",
    "TibertPretraining",
    "TibertTextClassifier",
    "TibertTokenClassifier",
]
