"""Initial values with which a model attends to the neighbours of a token from the first step."""

from itertools import cycle, islice
from typing import Any

import numpy as np
from keras import ops

from tibert_keras.models.tibert_backbone import TibertBackbone

# The neighbours, one for a head. Every fourth head of a layer keeps its random values.
_OFFSETS = (-1, 1, None, -2, 2, -3, None, 3)
# Scores of about 11 for the neighbour a head looks for, against about 2 for others.
_GAIN = 1.5
# The size of the positions in the units they have, beside that of the token embeddings.
_AMPLITUDE = 2.0


def attend_to_neighbours(backbone: TibertBackbone, *, seed: int) -> None:
    """Give an untrained encoder position embeddings and heads that make each token attend to its neighbours.

    Learning where the neighbours are takes a small model a large part of a short training: until then it knows no more
    than the frequencies. The architecture stays ALBERT's; only the initial values differ.

    A quarter of the embedding's units hold the position *t* as sinusoids, `(sin(w t), cos(w t))`, of frequencies *w*
    spread between 0 and pi. The sum over *w* of `cos(w (t - s))` is large for `s = t` alone. The query of a head
    rotates them by its offset, as in rotary embeddings (https://arxiv.org/abs/2104.09864), so it matches the key that
    many tokens away. Values and outputs are drawn larger than usual, to keep the size of their inputs.
    """
    rng = np.random.default_rng(seed)
    num_units = backbone.embedding_dim // 8 * 2
    # Not at equal distances, at which the positions would soon repeat themselves.
    frequencies = (np.arange(num_units // 2) + rng.random(num_units // 2)) * np.pi / (num_units // 2)
    _set_positions(backbone, frequencies)
    for group in backbone.transformer_layers:
        for layer in group:
            _set_heads(layer._self_attention_layer, frequencies, rng)


def _set_positions(backbone: TibertBackbone, frequencies: np.ndarray) -> None:
    num_units = 2 * len(frequencies)
    (table,) = backbone.position_embedding.weights
    angles = np.arange(table.shape[0])[:, None] * frequencies
    values = np.zeros(table.shape, "float32")
    size = _AMPLITUDE * np.sqrt(2) * float(np.std(ops.convert_to_numpy(backbone.token_embedding.weights[0])))
    values[:, 0:num_units:2], values[:, 1:num_units:2] = size * np.sin(angles), size * np.cos(angles)
    table.assign(values)
    if not backbone.identity_projection:
        # The units of the positions reach the layers as they are, and alone.
        kernel = ops.convert_to_numpy(backbone.embeddings_projection.kernel).copy()
        kernel[:num_units], kernel[:, :num_units] = 0, 0
        kernel[:num_units, :num_units] = np.eye(num_units)
        backbone.embeddings_projection.kernel.assign(kernel)


def _set_heads(attention: Any, frequencies: np.ndarray, rng: np.random.Generator) -> None:
    query, key = (ops.convert_to_numpy(dense.kernel).copy() for dense in (attention.query_dense, attention.key_dense))
    num_pairs = min(query.shape[2] // 2, len(frequencies))
    for head, offset in enumerate(islice(cycle(_OFFSETS), query.shape[1])):
        if offset is None:
            continue
        for pair, number in enumerate(rng.permutation(len(frequencies))[:num_pairs]):
            units, places = slice(2 * number, 2 * number + 2), slice(2 * pair, 2 * pair + 2)
            sine, cosine = np.sin(frequencies[number] * offset), np.cos(frequencies[number] * offset)
            query[units, head, places] += _GAIN * np.array([[cosine, -sine], [sine, cosine]])
            key[units, head, places] += np.eye(2)
    attention.query_dense.kernel.assign(query)
    attention.key_dense.kernel.assign(key)
    for dense in (attention.value_dense, attention.output_dense):
        dense.kernel.assign(rng.normal(0, query.shape[0] ** -0.5, dense.kernel.shape))
