"""Figures that show an optimizer at work, for TensorBoard."""

from __future__ import annotations

import statistics

import keras
import numpy as np
from keras import ops

from tibert_keras.optimizers.lamb import LAMB


def norms(model: keras.Model) -> dict[str, float]:
    """Compute norms over all trained variables, and what LAMB's trust ratios range over.

    Returns:
        `gradient_norm` of the last step before clipping, `weight_norm`, and, if the optimizer has any,
        `trust_ratio/lowest`, `trust_ratio/median` and `trust_ratio/highest`.
    """
    optimizer: LAMB = model.optimizer
    # As arrays: under `tf.distribute` a variable is several.
    squares = [np.sum(np.square(ops.convert_to_numpy(variable))) for variable in model.trainable_variables]
    figures = {
        "gradient_norm": float(ops.convert_to_numpy(optimizer.gradient_norm)),
        "weight_norm": float(np.sqrt(np.sum(squares))),
    }
    if ratios := list(optimizer.trust_ratios().values()):
        figures |= {
            "trust_ratio/lowest": min(ratios),
            "trust_ratio/median": statistics.median(ratios),
            "trust_ratio/highest": max(ratios),
        }
    return figures
