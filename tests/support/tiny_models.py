"""Models that are small enough to be made in each test, with weights that tell every mistake."""

from __future__ import annotations

import numpy as np

from tibert_keras.models.tibert_backbone import TibertBackbone


def tiny(**changes):
    sizes = {"vocabulary_size": 20, "num_layers": 4, "num_heads": 2, "embedding_dim": 4, "hidden_dim": 8}
    return TibertBackbone(**{**sizes, "intermediate_dim": 12, "max_sequence_length": 16, **changes})


def randomize(model):
    rng = np.random.default_rng(0)
    for weight in model.weights:
        # Far from the initial values, so that an exchange of any two variables shows.
        weight.assign(rng.normal(0.5 if weight.path.endswith("gamma") else 0, 0.3, weight.shape))
    return model
