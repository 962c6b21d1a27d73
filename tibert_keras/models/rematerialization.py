"""Layers that are computed once more in the backward pass, so that only their inputs are kept until then."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops


def set_rematerialization(layer: keras.layers.Layer, enabled: bool) -> None:
    """Choose whether a layer's activations in training are kept for the backward pass or computed again.

    Neither changes a number, nor how variables are named and saved. `keras.RematScope` does not do here: a layer that
    is called with keywords fails under it on TensorFlow, and KerasHub's encoder on JAX.

    Args:
        layer: A layer of one output, whose `call()` takes one differentiable tensor and `training`.
        enabled: Whether to compute again.
    """
    # On this layer, over its class's method.
    vars(layer).pop("call", None)
    if enabled:
        vars(layer)["call"] = _rematerialized(layer, layer.call)


def _rematerialized(layer: keras.layers.Layer, call: Any) -> Any:
    def rematerialized_call(inputs: Any, *, training: bool | None = None, **kwargs: Any) -> Any:
        if not training:
            return call(inputs, training=training, **kwargs)
        weights, ids = layer.weights, {id(weight) for weight in layer.weights}
        seeds = [variable for variable in layer.variables if id(variable) not in ids]
        # What they hold before the first call: on TensorFlow a variable's value is the variable itself.
        drawn_from = [ops.copy(seed.value) for seed in seeds]

        # Reads no variable and assigns to none, so that it can be called twice.
        def pure_call(inputs: Any, *values: Any) -> tuple[Any, ...]:
            mapping = [*zip(weights, values, strict=True), *zip(seeds, drawn_from, strict=True)]
            with keras.StatelessScope(state_mapping=mapping) as scope:
                outputs = call(inputs, training=training, **kwargs)
            return outputs, *(scope.get_current_value(seed) for seed in seeds)

        outputs, *states = _recomputed(pure_call)(inputs, *(weight.value for weight in weights))
        for seed, state in zip(seeds, states, strict=True):
            seed.assign(state)
        return outputs

    return rematerialized_call


def _recomputed(function: Callable[..., tuple[Any, ...]]) -> Callable[..., tuple[Any, ...]]:
    """Let the backward pass of a function of tensors begin with its forward pass, as `keras.remat` does."""
    if keras.backend.backend() != "jax":
        return keras.remat(function)
    import jax

    recomputed = jax.custom_vjp(function)

    def backward(arguments: tuple[Any, ...], gradients: tuple[Any, ...]) -> Any:
        inputs, *values = arguments
        # `jax.checkpoint` saves next to nothing on a CPU: nothing makes XLA wait with it until the gradient is there.
        # A dependency on that which it cannot see through, as in `tf.recompute_grad`:
        nothing = ops.where(ops.isinf(ops.ravel(gradients[0])[0]), float("nan"), 0.0)
        _, pull_back = jax.vjp(function, inputs + ops.cast(nothing, inputs.dtype), *values)
        return pull_back(gradients)

    recomputed.defvjp(lambda *arguments: (function(*arguments), arguments), backward)
    return recomputed
