"""Changes how KerasHub's encoder layer computes. All reads of Keras's and KerasHub's private attributes are here."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import keras
import keras_nlp
from keras import ops

from tibert_keras.lazy import tf

# `flat_layers` changes layers in place.
_FLAT_LOCK = threading.RLock()


def build_training_variables(model: keras.Model, data_batch: Any) -> None:
    """Create the variables of a compiled model's losses, metrics and optimizer, as Keras does at the first step."""
    model._symbolic_build(data_batch=data_batch)


def sentence_piece_in_graph(tokenizer: keras_nlp.models.AlbertTokenizer) -> Any:
    """Return the `tensorflow_text.SentencepieceTokenizer` of a tokenizer."""
    tokenizer._maybe_initialized_tf()
    return tokenizer._sentence_piece


def quantized_policies(model: Any) -> keras.dtype_policies.DTypePolicyMap:
    """Return the policies of the quantized layers of a model, by path."""
    policies = keras.dtype_policies.DTypePolicyMap()
    for layer in model._flatten_layers():
        if layer.quantization_mode is not None:
            policies[layer.path] = layer.dtype_policy
    return policies


def has_own_policies(model: Any) -> bool:
    """Return whether the layers of a task's encoder have policies of their own, as those of a quantized model do."""
    return isinstance(model.backbone.dtype_policy, keras.dtype_policies.DTypePolicyMap)


def merge_lora(model: Any) -> None:
    """Add the low-rank additions (LoRA) of layers to their kernels, as Keras does in files; the additions become 0."""
    for kernel, value, addition in lora_kernels(model):
        kernel.assign(value)
        addition.assign(ops.zeros_like(addition))


def lora_kernels(model: Any) -> Iterator[tuple[Any, Any, Any]]:
    """Yield the kernels and embeddings with low-rank additions (LoRA): alone, with these, and their second factor."""
    for layer in model._flatten_layers():
        if getattr(layer, "lora_enabled", False) and layer.quantization_mode is None:
            if isinstance(layer, keras.layers.Embedding):
                yield layer._embeddings, layer.embeddings, layer.lora_embeddings_b
            else:
                yield layer._kernel, layer.kernel, layer.lora_kernel_b


def layer_behind(tensor: Any) -> Any:
    """Return the layer whose output a symbolic tensor is; `None` for any other tensor."""
    return tensor._keras_history.operation if isinstance(tensor, keras.KerasTensor) else None


def _after_attention(layer: Any, inputs: Any, attended: Any, training: bool | None) -> Any:
    """Compute the rest of `TransformerEncoder.call` from the layer's inputs and the output of its attention."""
    x = layer._self_attention_layer_norm(inputs + layer._self_attention_dropout(attended, training=training))
    hidden = layer._feedforward_output_dense(layer._feedforward_intermediate_dense(x))
    return layer._feedforward_layer_norm(x + layer._feedforward_dropout(hidden, training=training))


def _replace_call(layer: keras.layers.Layer, call: Callable[..., Any] | None) -> Callable[..., Any] | None:
    """Make a layer run `call`, or its class's method if that is None, and return the former replacement, or None."""
    before = vars(layer).pop("call", None)
    if call is not None:
        # Not `setattr`, which Keras tracks.
        vars(layer)["call"] = call
    return before


# === Only some positions ===


def encode_positions(
    backbone: keras_nlp.models.AlbertBackbone, inputs: dict[str, Any], positions: Any, training: bool | None
) -> dict[str, Any]:
    """Encode a batch, with the last layer computed at the given positions only.

    A masked language model uses the last layer's output at few positions. These need the keys and values of all
    positions, but queries, output projection and feed-forward block, five sixths of a layer's operations, only of
    their own. The result equals the whole encoder's at these positions.

    The positions are integers `[batch, predictions]`; `sequence_output` is `[batch, predictions, hidden_dim]`.
    """
    padding_mask = inputs["padding_mask"]
    x = _embed(backbone, inputs, training)
    calls = backbone.num_layers // backbone.num_groups
    *layers, last = [layer for group in backbone.transformer_layers for _ in range(calls) for layer in group]
    attention_mask = _attention_mask(padding_mask, queries=padding_mask)
    for layer in layers:
        x = layer(x, attention_mask=attention_mask, training=training)
    # The pooler needs [CLS]. Two of them make an odd number of queries even: cuDNN's attention cannot train odd ones.
    first = 1 if (positions.shape[1] or 0) % 2 else 2
    positions = ops.pad(positions, [[0, 0], [first, 0]])
    rows = ops.take_along_axis(x, positions[:, :, None], axis=1)
    attention_mask = _attention_mask(padding_mask, queries=positions)
    attended = last._self_attention_layer(query=rows, value=x, attention_mask=attention_mask, training=training)
    x = _after_attention(last, rows, attended, training)
    return {"sequence_output": x[:, first:], "pooled_output": backbone.pooled_dense(x[:, 0])}


def _embed(backbone: keras_nlp.models.AlbertBackbone, inputs: dict[str, Any], training: bool | None) -> Any:
    """Compute the first layer's input, `[batch, sequence, hidden_dim]`, as KerasHub's constructor does."""
    tokens = backbone.token_embedding(inputs["token_ids"])
    segments = backbone.segment_embedding(inputs["segment_ids"])
    x = backbone.embeddings_add((tokens, backbone.position_embedding(tokens), segments))
    x = backbone.embeddings_dropout(backbone.embeddings_layer_norm(x), training=training)
    return backbone.embeddings_projection(x)


def _attention_mask(padding_mask: Any, *, queries: Any) -> Any:
    """Return the mask `[batch, queries, sequence]`, the same for each query.

    KerasHub's layer leaves the second axis at 1 for broadcasting, which cuDNN's attention does not accept.
    """
    return ops.ones_like(queries)[:, :, None] * padding_mask[:, None, :]


# === Rematerialization ===


def set_rematerialization(layer: keras.layers.Layer, enabled: bool) -> None:
    """Choose whether training keeps a layer's activations for the backward pass or computes them again.

    Numbers, variable names and saved files stay the same. `keras.RematScope` does not serve: under it, layers called
    with keywords fail on TensorFlow, and KerasHub's encoder fails on JAX.
    """
    _replace_call(layer, None)
    if enabled:
        _replace_call(layer, partial(_rematerialized_call, layer, layer.call))


def _rematerialized_call(
    layer: keras.layers.Layer, call: Callable[..., Any], inputs: Any, *, training: bool | None = None, **kwargs: Any
) -> Any:
    if not training:
        return call(inputs, training=training, **kwargs)
    weights, ids = layer.weights, {id(weight) for weight in layer.weights}
    seeds = [variable for variable in layer.variables if id(variable) not in ids]
    # Copied before the first call: on TensorFlow a variable's value is the variable itself.
    seed_values = [ops.copy(seed.value) for seed in seeds]

    # Neither reads nor assigns variables, so it can run twice.
    def pure_call(inputs: Any, *values: Any) -> tuple[Any, ...]:
        mapping = [*zip(weights, values, strict=True), *zip(seeds, seed_values, strict=True)]
        with keras.StatelessScope(state_mapping=mapping) as scope:
            outputs = call(inputs, training=training, **kwargs)
        return outputs, *(scope.get_current_value(seed) for seed in seeds)

    outputs, *states = _recomputed(pure_call)(inputs, *(weight.value for weight in weights))
    for seed, state in zip(seeds, states, strict=True):
        seed.assign(state)
    return outputs


def _recomputed(function: Callable[..., tuple[Any, ...]]) -> Callable[..., tuple[Any, ...]]:
    """Make the backward pass of a function of tensors run its forward pass again, as `keras.remat` does."""
    if keras.backend.backend() != "jax":
        return keras.remat(function)
    import jax

    recomputed = jax.custom_vjp(function)

    def backward(arguments: tuple[Any, ...], gradients: tuple[Any, ...]) -> Any:
        inputs, *values = arguments
        # `jax.checkpoint` saves next to nothing on a CPU, where XLA does not wait for the gradient before it computes
        # the forward pass again. This dependency, which XLA cannot see through, makes it wait, as in
        # `tf.recompute_grad`.
        nothing = ops.where(ops.isinf(ops.ravel(gradients[0])[0]), float("nan"), 0.0)
        _, pull_back = jax.vjp(function, inputs + ops.cast(nothing, inputs.dtype), *values)
        return pull_back(gradients)

    recomputed.defvjp(lambda *arguments: (function(*arguments), arguments), backward)
    return recomputed


# === Flat layers ===


@contextmanager
def flat_layers(backbone: keras_nlp.models.AlbertBackbone) -> Iterator[None]:
    """Compute the encoder's layers in matrix products, without dropout, while the body runs.

    KerasHub's layers work on `[batch, tokens, hidden_dim]`, where TensorFlow on CPUs computes each bias, activation and
    residual by itself, and attention's projections as a slower `einsum`. On `[batch * tokens, hidden_dim]` it fuses
    them. The results are the same. The last layer stays KerasHub's where `encode_positions` computes it, and quantized
    layers stay as they are.

    The backend must be TensorFlow. No other thread may train the model meanwhile.
    """
    layers = [layer for group in backbone.transformer_layers for layer in group]
    layers = [layer for layer in layers if layer._self_attention_layer.query_dense.quantization_mode is None]
    with _FLAT_LOCK:
        before = [_replace_call(layer, partial(_flat_call, layer)) for layer in layers]
        try:
            yield
        finally:
            for layer, call in zip(layers, before, strict=True):
                _replace_call(layer, call)


def _flat_call(
    layer: Any, inputs: tf.Tensor, padding_mask: Any = None, attention_mask: Any = None, training: bool | None = None
) -> tf.Tensor:
    """Run `TransformerEncoder.call` for inference, with one mask for all queries, as an encoder has."""
    mask = tf.cast(padding_mask[:, tf.newaxis] if attention_mask is None else attention_mask[:, :1], tf.bool)
    x = tf.reshape(inputs, [-1, inputs.shape[-1]])
    attended = _flat_attention(layer._self_attention_layer, x, mask, tf.shape(inputs))
    return tf.reshape(_after_attention(layer, x, attended, training=False), tf.shape(inputs))


def _flat_attention(
    attention: keras.layers.MultiHeadAttention, x: tf.Tensor, mask: tf.Tensor, shape: tf.Tensor
) -> tf.Tensor:
    """Compute self-attention over `x`, `[batch * tokens, hidden_dim]`, of the `shape` `[batch, tokens, hidden_dim]`.

    `mask` is true where there is a token, bool `[batch, 1, tokens]`.
    """
    heads, size = attention.num_heads, attention.key_dim

    def project(layer: keras.layers.EinsumDense, x: tf.Tensor) -> tf.Tensor:
        kernel, bias = (tf.cast(keras.ops.convert_to_tensor(each), x.dtype) for each in (layer.kernel, layer.bias))
        return tf.nn.bias_add(tf.matmul(x, tf.reshape(kernel, [x.shape[-1], -1])), tf.reshape(bias, [-1]))

    def by_head(layer: keras.layers.EinsumDense) -> tf.Tensor:
        return tf.transpose(tf.reshape(project(layer, x), [shape[0], shape[1], heads, size]), [0, 2, 1, 3])

    query, key, value = map(by_head, (attention.query_dense, attention.key_dense, attention.value_dense))
    # At least in float32, as in Keras.
    dtype = tf.as_dtype(keras.backend.result_type(x.dtype, "float32"))
    scores = tf.cast(tf.matmul(query, key, transpose_b=True), dtype) * size**-0.5
    weights = tf.cast(tf.nn.softmax(tf.where(mask[:, tf.newaxis], scores, dtype.min)), x.dtype)
    attended = tf.transpose(tf.matmul(weights, value), [0, 2, 1, 3])
    return project(attention.output_dense, tf.reshape(attended, [-1, heads * size]))
