"""The encoder where only some positions are asked for, as a masked language model does."""

from __future__ import annotations

from typing import Any

import keras_nlp
from keras import ops


def encode_positions(
    backbone: keras_nlp.models.AlbertBackbone, inputs: dict[str, Any], positions: Any, training: bool | None
) -> dict[str, Any]:
    """Encode a batch, the last layer only where it is asked for.

    A prediction looks at its own position's output of the last layer, and at no other's. There the keys and values of
    all positions are needed, but the queries, the output projection and the feed-forward block, five sixths of a
    layer's operations, only of those that are asked for. What comes out is what the whole encoder has there.

    Args:
        backbone: The encoder.
        inputs: Its inputs, integers of shape `[batch, sequence]`.
        positions: Integers of shape `[batch, predictions]`.
        training: Whether to apply dropout.

    Returns:
        The backbone's outputs, with a `sequence_output` of shape `[batch, predictions, hidden_dim]`.
    """
    padding_mask = inputs["padding_mask"]
    x = _embed(backbone, inputs, training)
    calls = backbone.num_layers // backbone.num_groups
    *layers, last = [layer for group in backbone.transformer_layers for _ in range(calls) for layer in group]
    attention_mask = _attention_mask(padding_mask, queries=padding_mask)
    for layer in layers:
        x = layer(x, attention_mask=attention_mask, training=training)
    # [CLS] before them, for the pooler; twice where the number would be odd, which cuDNN's attention does not train.
    first = 1 if (positions.shape[1] or 0) % 2 else 2
    x = _encode_last(last, x, ops.pad(positions, [[0, 0], [first, 0]]), padding_mask, training)
    return {"sequence_output": x[:, first:], "pooled_output": backbone.pooled_dense(x[:, 0])}


def _embed(backbone: keras_nlp.models.AlbertBackbone, inputs: dict[str, Any], training: bool | None) -> Any:
    """What the first layer takes, `[batch, sequence, hidden_dim]`, as in KerasHub's constructor."""
    tokens = backbone.token_embedding(inputs["token_ids"])
    segments = backbone.segment_embedding(inputs["segment_ids"])
    x = backbone.embeddings_add((tokens, backbone.position_embedding(tokens), segments))
    x = backbone.embeddings_dropout(backbone.embeddings_layer_norm(x), training=training)
    return backbone.embeddings_projection(x)


def _encode_last(layer: Any, x: Any, positions: Any, padding_mask: Any, training: bool | None) -> Any:
    """A layer's output at some positions: `TransformerEncoder.call`, with fewer queries than keys."""
    rows = ops.take_along_axis(x, positions[:, :, None], axis=1)
    attention_mask = _attention_mask(padding_mask, queries=positions)
    attended = layer._self_attention_layer(query=rows, value=x, attention_mask=attention_mask, training=training)
    rows = layer._self_attention_layer_norm(rows + layer._self_attention_dropout(attended, training=training))
    hidden = layer._feedforward_output_dense(layer._feedforward_intermediate_dense(rows))
    return layer._feedforward_layer_norm(rows + layer._feedforward_dropout(hidden, training=training))


def _attention_mask(padding_mask: Any, *, queries: Any) -> Any:
    """What each query may look at, `[batch, queries, sequence]`: the same for all.

    KerasHub's layer leaves the middle axis at 1, to be broadcast, and cuDNN's attention takes no such mask.
    """
    return ops.ones_like(queries)[:, :, None] * padding_mask[:, None, :]
