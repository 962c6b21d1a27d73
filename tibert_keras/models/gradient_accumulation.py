"""A training step in micro-batches, one after another, that is the step of the whole batch in less memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import keras
from keras import ops, tree

from tibert_keras.errors import InputError


def tensorflow_train_step(model: Any, data: Any, steps: int) -> dict[str, Any]:
    """Take a step of `keras.Model.train_step` on TensorFlow, in micro-batches.

    Args:
        model: A compiled model.
        data: A replica's share of a batch, as `train_step` gets it.
        steps: The number of micro-batches.

    Returns:
        The logs.

    Raises:
        InputError: If the micro-batches cannot be equally large.
    """
    import tensorflow as tf

    variables, parts = model.trainable_weights, _split(data, steps)
    unconnected: set[int] = set()

    def add_part(index: Any, sums: list[Any]) -> tuple[Any, list[Any]]:
        x, y, sample_weight = tree.map_structure(lambda part: None if part is None else part[index], parts)
        with tf.GradientTape() as tape:
            y_pred = model(x, training=True)
            loss = model.compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=True)
            scaled = model.optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, variables)
        unconnected.update(i for i, gradient in enumerate(gradients) if gradient is None)
        # Keras adds the logs of the replicas, and lets a loss be a replica's share; its tracker wants the mean.
        loss *= tf.distribute.get_replica_context().num_replicas_in_sync
        model._loss_tracker.update_state(loss, sample_weight=ops.shape(tree.flatten(x)[0])[0])
        model.compute_metrics(x, y, y_pred, sample_weight)
        return index + 1, [
            # An embedding's gradient comes as one row for each lookup.
            total if gradient is None else total + tf.convert_to_tensor(gradient)
            for total, gradient in zip(sums, gradients, strict=True)
        ]

    with _dividing(model.loss, data, steps):
        zeros = [tf.zeros(variable.shape, variable.dtype) for variable in variables]
        # Not in parallel, which would take the memory of several.
        _, sums = tf.while_loop(lambda index, _: index < steps, add_part, (0, zeros), parallel_iterations=1)
    # Keras's optimizers pass over variables without a gradient.
    means = [None if i in unconnected else total / steps for i, total in enumerate(sums)]
    model.optimizer.apply_gradients(zip(means, variables, strict=True))
    return model.get_metrics_result()


def jax_train_step(model: Any, state: Any, data: Any, steps: int) -> tuple[dict[str, Any], Any]:
    """Take a step of `keras.Model.train_step` on JAX, in micro-batches.

    Args:
        model: A compiled model.
        state: The values of the variables, as `train_step` gets them.
        data: A batch, as `train_step` gets it.
        steps: The number of micro-batches.

    Returns:
        The logs, and the new state.

    Raises:
        InputError: If the micro-batches cannot be equally large.
    """
    import jax

    trainable, non_trainable, optimizer, metrics = state
    compute_gradients = jax.value_and_grad(model.compute_loss_and_updates, has_aux=True)

    def add_part(carry: Any, part: Any) -> tuple[Any, dict[str, Any]]:
        sums, non_trainable, metrics = carry
        (_, aux), gradients = compute_gradients(
            trainable, non_trainable, metrics, *part, training=True, optimizer_variables=optimizer
        )
        loss, y_pred, non_trainable, metrics = aux
        x, y, sample_weight = part
        logs, metrics = model._update_metrics_variables(metrics, loss, x, y, y_pred, sample_weight)
        sums = [total + gradient for total, gradient in zip(sums, gradients, strict=True)]
        return (sums, list(non_trainable), list(metrics)), logs

    with _dividing(model.loss, data, steps):
        carry = [ops.zeros_like(variable) for variable in trainable], list(non_trainable), list(metrics)
        (sums, non_trainable, metrics), logs = jax.lax.scan(add_part, carry, _split(data, steps))
    trainable, optimizer = model.optimizer.stateless_apply(optimizer, [total / steps for total in sums], trainable)
    # Those of the last part are of all parts: Keras's metrics add up.
    logs = {name: values[-1] for name, values in logs.items()}
    return logs, (trainable, non_trainable, optimizer, metrics)


def _split(data: Any, steps: int) -> Any:
    """Turn every `[batch, ...]` into `[steps, batch / steps, ...]`, of x, y and the weights."""

    def split(values: Any) -> Any:
        if values is None:
            return None
        if values.shape[0] is not None and values.shape[0] % steps:
            raise InputError(
                "The batch of each replica must be a multiple of gradient_accumulation_steps. "
                f"Received: gradient_accumulation_steps={steps}, and a batch of {values.shape[0]}."
            )
        # Part k has the rows k, k + steps, ...: of each device that has a share of the batch, equally many.
        parts = ops.reshape(values, (-1, steps, *ops.shape(values)[1:]))
        return ops.swapaxes(parts, 0, 1)

    return tree.map_structure(split, keras.utils.unpack_x_y_sample_weight(data))


@contextmanager
def _dividing(losses: Any, data: Any, steps: int) -> Iterator[None]:
    """Let the losses that know how to divide the parts of a batch as the batch, so that their mean is its loss."""
    _, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    if isinstance(y, dict) and not isinstance(losses, dict):
        raise InputError(
            "Gradient accumulation needs a loss of its own for each output. "
            f"Received: gradient_accumulation_steps={steps}, loss={losses!r}. Give a dict of losses."
        )
    named = losses.items() if isinstance(losses, dict) else [(None, losses)]
    # All divisors before the first is set: where replicas wait for each other, the next one's thread takes over.
    divisors = [
        (loss, loss.divisor(_output(y, name), _output(sample_weight, name)) / steps)
        for name, loss in named
        if hasattr(loss, "dividing_by")
    ]
    with ExitStack() as stack:
        for loss, divisor in divisors:
            stack.enter_context(loss.dividing_by(divisor))
        yield


def _output(values: Any, name: str | None) -> Any:
    return values if name is None or values is None else values[name]
