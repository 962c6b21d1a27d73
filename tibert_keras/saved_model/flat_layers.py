"""The encoder's layers as SavedModels have them: in matrix products, which TensorFlow on CPUs fuses with what follows.

KerasHub's layers work on `[batch, tokens, hidden_dim]`. There TensorFlow computes each bias, activation and residual by
itself, and the projections of the attention as sums over named axes (`einsum`), which it is slower at. The last layer
of a masked language model, of which few positions are computed, stays KerasHub's.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import keras
import tensorflow as tf

from tibert_keras.models.tibert_backbone import TibertBackbone

# The layers are changed in place.
_LOCK = threading.RLock()


@contextmanager
def flat_layers(backbone: TibertBackbone) -> Iterator[None]:
    """Let an encoder compute in matrix products while the body runs, without dropout. What comes out is the same.

    Meanwhile no other thread may train the model.

    Args:
        backbone: An encoder on the TensorFlow backend. Layers that are quantized stay as they are.

    Example:
    ```python
    with flat_layers(model.backbone):
        model(inputs)
    ```
    """
    layers = [layer for group in backbone.transformer_layers for layer in group]
    layers = [layer for layer in layers if layer._self_attention_layer._query_dense.quantization_mode is None]
    with _LOCK:
        # Rematerialisation may have given them a `call` already that goes before their class's.
        before = [vars(layer).get("call") for layer in layers]
        for layer in layers:
            vars(layer)["call"] = partial(_call, layer)
        try:
            yield
        finally:
            for layer, call in zip(layers, before, strict=True):
                vars(layer).pop("call", None)
                if call is not None:
                    vars(layer)["call"] = call


def _call(
    layer: Any, inputs: tf.Tensor, padding_mask: Any = None, attention_mask: Any = None, training: bool | None = None
) -> tf.Tensor:
    """`TransformerEncoder.call` for inference, where all queries see the same, as in an encoder they do."""
    seen = tf.cast(padding_mask[:, tf.newaxis] if attention_mask is None else attention_mask[:, :1], tf.bool)
    x = tf.reshape(inputs, [-1, inputs.shape[-1]])
    attended = _attend(layer._self_attention_layer, x, seen, tf.shape(inputs))
    x = layer._self_attention_layer_norm(attended + x)
    hidden = layer._feedforward_output_dense(layer._feedforward_intermediate_dense(x))
    return tf.reshape(layer._feedforward_layer_norm(hidden + x), tf.shape(inputs))


def _attend(attention: keras.layers.MultiHeadAttention, x: tf.Tensor, seen: tf.Tensor, shape: tf.Tensor) -> tf.Tensor:
    """Self-attention.

    Args:
        attention: The layer.
        x: `[batch * tokens, hidden_dim]`.
        seen: Where there is a token, bool `[batch, 1, tokens]`.
        shape: What `x` is of, `[batch, tokens, hidden_dim]`.

    Returns:
        `[batch * tokens, hidden_dim]`.
    """
    heads, size = attention.num_heads, attention.key_dim

    def by_head(projection: keras.layers.EinsumDense) -> tf.Tensor:
        return tf.transpose(tf.reshape(_project(projection, x), [shape[0], shape[1], heads, size]), [0, 2, 1, 3])

    query, key, value = map(by_head, (attention._query_dense, attention._key_dense, attention._value_dense))
    # In float32, as in Keras.
    scores = tf.cast(tf.matmul(query, key, transpose_b=True), tf.float32) * size**-0.5
    weights = tf.cast(tf.nn.softmax(tf.where(seen[:, tf.newaxis], scores, tf.float32.min)), x.dtype)
    attended = tf.transpose(tf.matmul(weights, value), [0, 2, 1, 3])
    return _project(attention._output_dense, tf.reshape(attended, [-1, heads * size]))


def _project(layer: keras.layers.EinsumDense, x: tf.Tensor) -> tf.Tensor:
    """Apply one of the attention's projections, to all heads in a row or from them."""
    kernel, bias = (tf.cast(keras.ops.convert_to_tensor(each), x.dtype) for each in (layer.kernel, layer.bias))
    return tf.nn.bias_add(tf.matmul(x, tf.reshape(kernel, [x.shape[-1], -1])), tf.reshape(bias, [-1]))
