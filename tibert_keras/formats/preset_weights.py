"""Reads the weights of a preset without Keras, which names layers there by their class and number."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import numpy as np

from tibert_keras.storage import join

# The names of the layers in each file, there and in the model.
_FILES = {
    "model.weights.h5": {
        "reversible_embedding": "token_embedding",
        "embedding": "segment_embedding",
        "layer_normalization": "embeddings_layer_norm",
        "dense": "embedding_projection",
        "dense_1": "pooled_dense",
        # Inside a layer of the encoder.
        "query_dense": "query",
        "key_dense": "key",
        "value_dense": "value",
        "output_dense": "attention_output",
    },
    "task.weights.h5": {"masked_lm_head": "mlm_head", "dense": "logits"},
}
_LAYER = re.compile(r"transformer_encoder(?:_(\d+))?")


def read_preset_weights(folder: str, *, inner: int) -> dict[str, np.ndarray]:
    """Read the weights of the preset of a masked language model or a classifier.

    Args:
        folder: The preset, a local folder with `model.weights.h5` and `task.weights.h5`.
        inner: The number of different layers in a group.

    Returns:
        The weights in float32, by the path that they have in the model.
    """
    import h5py
    import ml_dtypes

    weights: dict[str, np.ndarray] = {}

    def read(names: dict[str, str], place: str, item: Any) -> None:
        # Not the state of dropout.
        if isinstance(item, h5py.Dataset) and "seed_generator" not in place:
            array = item[()]
            if item.attrs.get("dtype") == "bfloat16":
                # HDF5 does not know the type, and Keras stores its bytes.
                array = array.view(ml_dtypes.bfloat16)
            weights[_path(place.split("/"), names, inner)] = array.astype("float32")

    for name, names in _FILES.items():
        with h5py.File(join(folder, name)) as file:
            file.visititems(partial(read, names))
    return weights


def _path(parts: list[str], names: dict[str, str], inner: int) -> str:
    """Return the path of a variable, such as `["layers", "dense", "vars", "0"]`."""
    _, *layers, _, number = parts
    if match := _LAYER.fullmatch(layers[0]):
        group, place = divmod(int(match[1] or 0), inner)
        layers[0] = f"group_{group}_inner_layer_{place}"
    layers = [names.get(layer, layer.removeprefix("_")) for layer in layers]
    return "/".join([*layers, _variable(layers[-1], int(number))])


def _variable(layer: str, number: int) -> str:
    if layer == "mlm_head":
        return "output_bias"
    if layer.endswith("embedding"):
        return "embeddings"
    return (("gamma", "beta") if layer.endswith("norm") else ("kernel", "bias"))[number]
