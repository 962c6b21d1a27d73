"""Batches to logits: the encoder and the tasks built on it, one class a file."""

from tibert_keras.models.tibert_backbone import TibertBackbone
from tibert_keras.models.tibert_masked_lm import TibertMaskedLM
from tibert_keras.models.tibert_pretraining import TibertPretraining

__all__ = ["TibertBackbone", "TibertMaskedLM", "TibertPretraining"]
