"""Logits to updates: the optimizer, its learning rate, and the loss."""

from tibert_keras.optimizers.lamb import LAMB
from tibert_keras.optimizers.losses import MaskedLanguageModelLoss
from tibert_keras.optimizers.schedules import WarmupPolynomialDecay

__all__ = ["LAMB", "MaskedLanguageModelLoss", "WarmupPolynomialDecay"]
