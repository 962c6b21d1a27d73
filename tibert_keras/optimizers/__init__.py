"""Logits to updates: the optimizer, its learning rate, and the losses."""

from tibert_keras.optimizers.lamb import LAMB
from tibert_keras.optimizers.losses import MaskedLanguageModelLoss, SentenceOrderLoss
from tibert_keras.optimizers.schedules import WarmupPolynomialDecay

__all__ = ["LAMB", "MaskedLanguageModelLoss", "SentenceOrderLoss", "WarmupPolynomialDecay"]
