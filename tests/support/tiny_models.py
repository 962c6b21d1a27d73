"""Models that are small enough to be made in each test, with weights that tell every mistake."""

import numpy as np
from keras import ops

from tibert_keras.models.tibert_backbone import TibertBackbone


def tiny(**changes):
    sizes = {"vocabulary_size": 20, "num_layers": 4, "num_heads": 2, "embedding_dim": 4, "hidden_dim": 8}
    return TibertBackbone(**{**sizes, "intermediate_dim": 12, "max_sequence_length": 16, **changes})


def one_layer(**changes):
    """For training: each layer takes as long to trace and to compile."""
    sizes = {"num_layers": 1, "embedding_dim": 8, "hidden_dim": 16, "intermediate_dim": 32}
    return tiny(vocabulary_size=50, **{**sizes, **changes})


def randomize(model):
    rng = np.random.default_rng(0)
    for weight in model.weights:
        # Far from the initial values, so that an exchange of any two variables shows.
        weight.assign(rng.normal(0.5 if weight.path.endswith("gamma") else 0, 0.3, weight.shape))
    return model


def inputs(backbone, length=12):
    rng = np.random.default_rng(1)
    mask = np.ones((3, length), "int32")
    mask[1, 7:] = 0
    return {
        "token_ids": rng.integers(0, backbone.vocabulary_size, mask.shape),
        "segment_ids": rng.integers(0, backbone.num_segments, mask.shape),
        "padding_mask": mask,
    }


def log_softmax(logits):
    return np.asarray(ops.convert_to_numpy(ops.log_softmax(logits)))
