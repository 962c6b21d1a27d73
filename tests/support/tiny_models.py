"""Models that are small enough to be made in each test, with weights that tell every mistake."""

import json
from pathlib import Path

import numpy as np
from keras import ops

from tibert_keras.models.tibert_backbone import TibertBackbone


def tiny(**changes):
    """Two layers, or two of each group: one alone could stand anywhere, and each more takes as long to trace."""
    sizes = {"vocabulary_size": 20, "num_heads": 2, "embedding_dim": 4, "hidden_dim": 8, "intermediate_dim": 12}
    sizes |= {"num_layers": 2 * changes.get("num_groups", 1), "max_sequence_length": 16}
    return TibertBackbone(**{**sizes, **changes})


def one_layer(**changes):
    """For training: each layer takes as long to trace and to compile."""
    sizes = {"num_layers": 1, "embedding_dim": 8, "hidden_dim": 16, "intermediate_dim": 32}
    return tiny(**{"vocabulary_size": 50, **sizes, **changes})


def small_config(folder: Path, **changes) -> str:
    """Write an `albert_config.json` of one narrow layer; returns its path."""
    path = folder / "albert_config.json"
    sizes = {"vocabulary_size": 400, "max_sequence_length": 128, **changes}
    path.write_text(json.dumps(one_layer(**sizes).to_albert_config()))
    return str(path)


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
