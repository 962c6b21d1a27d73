"""An encoder whose heads attend to the neighbours before any training."""

import keras
import numpy as np
import pytest
from keras import ops

from tibert_keras.models.neighbour_attention import _OFFSETS, attend_to_neighbours
from tibert_keras.models.tibert_backbone import TibertBackbone


def scores_by_offset(backbone: TibertBackbone, layer: int) -> np.ndarray:
    """How much each head of a layer attends to the token so many places away, from -3 to 3: `[heads, 7]`."""
    length = 100
    rng = np.random.default_rng(3)
    tokens = rng.integers(5, backbone.vocabulary_size, (4, length))
    x = backbone.token_embedding(tokens)
    x = x + backbone.position_embedding(x) + backbone.segment_embedding(np.zeros_like(tokens))
    x = backbone.embeddings_projection(backbone.embeddings_layer_norm(x))
    *before, last = [each for group in backbone.transformer_layers for each in group][: layer + 1]
    for each in before:
        x = each(x)
    _, scores = last._self_attention_layer(x, x, return_attention_scores=True)
    mean = ops.convert_to_numpy(scores).mean(axis=0)
    return np.stack([np.diagonal(mean, offset, 1, 2)[:, 3:-3].mean(axis=1) for offset in range(-3, 4)], axis=-1)


# Embeddings as wide as the layers, narrower ones, and heads that leave frequencies over.
@pytest.mark.parametrize("embedding_dim, hidden_dim, num_heads", [(128, 128, 4), (64, 128, 8), (256, 256, 8)])
def test_heads(embedding_dim, hidden_dim, num_heads):
    keras.utils.set_random_seed(0)
    backbone = TibertBackbone(
        50, 2, num_heads, embedding_dim, hidden_dim, 64, num_groups=2, max_sequence_length=100,
        identity_projection=embedding_dim == hidden_dim,
    )  # fmt: skip
    before = scores_by_offset(backbone, 0)
    assert np.all(before < 0.1)
    attend_to_neighbours(backbone, seed=1)
    for layer, share in ((0, 0.4), (1, 0.3)):
        scores = scores_by_offset(backbone, layer)
        for head, offset in enumerate(_OFFSETS[:num_heads]):
            if offset is None:
                assert scores[head].max() < 0.3
            else:
                assert scores[head].argmax() == offset + 3 and scores[head].max() > share


def test_seeds():
    encoders = [TibertBackbone.from_preset("tibert_nano", vocabulary_size=50) for _ in range(3)]
    for encoder, seed in zip(encoders, (1, 1, 2), strict=True):
        attend_to_neighbours(encoder, seed=seed)
    one, same, other = (
        ops.convert_to_numpy(encoder.transformer_layers[0][0]._self_attention_layer.value_dense.kernel)
        for encoder in encoders
    )
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)
