"""Takes a training step in micro-batches: the step of the whole batch, in less memory."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import keras
from keras import ops, tree

from tibert_keras.errors import InputError
from tibert_keras.lazy import tf
from tibert_keras.models.training_data import is_stream

_UNEQUAL = (
    "With such a loss, each batch, also the last and that of each replica, must be a multiple of "
    "gradient_accumulation_steps."
)


def accumulated_train_step(model: Any, *args: Any, steps: int) -> Any:
    """Take the step of `keras.Model.train_step`, with its arguments and results, in a number of micro-batches."""
    if keras.backend.backend() == "torch":
        raise InputError(
            "Gradients are accumulated on TensorFlow and JAX only. "
            f"Received: gradient_accumulation_steps={steps}, KERAS_BACKEND=torch. Leave it out."
        )
    if keras.backend.backend() == "jax":
        state, data = args
        return _jax_train_step(model, state, _padded(model.loss, data, steps), steps)
    (data,) = args
    return _tensorflow_train_step(model, _padded(model.loss, data, steps), steps)


def _tensorflow_train_step(model: Any, data: Any, steps: int) -> dict[str, Any]:
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
        # The loss may be a replica's share: Keras adds the logs of the replicas, but its tracker expects the mean.
        loss *= tf.distribute.get_replica_context().num_replicas_in_sync
        _update_metrics(model, loss, x, y, y_pred, sample_weight)
        return index + 1, [
            # An embedding's gradient comes as one row for each lookup.
            total if gradient is None else total + tf.convert_to_tensor(gradient)
            for total, gradient in zip(sums, gradients, strict=True)
        ]

    with _dividing(model.loss, data, steps):
        zeros = [tf.zeros(variable.shape, variable.dtype) for variable in variables]
        # In parallel, several parts would take their memory at once.
        _, sums = tf.while_loop(lambda index, _: index < steps, add_part, (0, zeros), parallel_iterations=1)
    # Keras's optimizers skip variables without a gradient.
    means = [None if i in unconnected else total / steps for i, total in enumerate(sums)]
    model.optimizer.apply_gradients(zip(means, variables, strict=True))
    return model.get_metrics_result()


def _jax_train_step(model: Any, state: Any, data: Any, steps: int) -> tuple[dict[str, Any], Any]:
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
        with keras.StatelessScope(state_mapping=list(zip(model.metrics_variables, metrics, strict=True))) as scope:
            logs = _update_metrics(model, loss, x, y, y_pred, sample_weight)
        metrics = [scope.get_current_value(variable) for variable in model.metrics_variables]
        sums = [total + gradient for total, gradient in zip(sums, gradients, strict=True)]
        return (sums, list(non_trainable), metrics), logs

    with _dividing(model.loss, data, steps):
        carry = [ops.zeros_like(variable) for variable in trainable], list(non_trainable), list(metrics)
        (sums, non_trainable, metrics), logs = jax.lax.scan(add_part, carry, _split(data, steps))
    trainable, optimizer = model.optimizer.stateless_apply(optimizer, [total / steps for total in sums], trainable)
    # Keras's metrics accumulate, so the last part's logs are those of all parts.
    logs = {name: values[-1] for name, values in logs.items()}
    return logs, (trainable, non_trainable, optimizer, metrics)


def _update_metrics(model: Any, loss: Any, x: Any, y: Any, y_pred: Any, sample_weight: Any) -> dict[str, Any]:
    loss_tracker = next(metric for metric in model.metrics if metric.name == "loss")
    loss_tracker.update_state(loss, sample_weight=ops.shape(tree.flatten(x)[0])[0])
    return model.compute_metrics(x, y, y_pred, sample_weight)


def _padded(losses: Any, data: Any, steps: int) -> Any:
    """Fill a batch up to a multiple of `steps` with rows of weight 0, which change no loss that counts weights.

    The last batch of an epoch may need it.
    """
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    first = tree.flatten(x)[0]
    known = first.shape[0]
    if (known is not None and known % steps == 0) or not _count_weights(losses):
        return data
    size = ops.shape(first)[0]
    # The last row again and again. Keras's own range takes no tensor on TensorFlow.
    rows = (ops.arange if keras.backend.backend() == "jax" else tf.range)(size + -size % steps)
    is_real = rows < size
    rows = ops.minimum(rows, size - 1)

    def weigh(values: Any) -> Any:
        shape = (-1, *[1] * (len(values.shape) - 1))
        return ops.take(values, rows, axis=0) * ops.cast(ops.reshape(is_real, shape), values.dtype)

    if sample_weight is None:
        sample_weight = tree.map_structure(lambda labels: ops.ones(ops.shape(labels), "float32"), y)
    x, y = tree.map_structure(lambda values: ops.take(values, rows, axis=0), (x, y))
    return x, y, tree.map_structure(weigh, sample_weight)


def _count_weights(losses: Any) -> bool:
    """Return whether rows of weight 0 change none of the losses."""
    return all(hasattr(loss, "dividing_by") for loss in (losses.values() if isinstance(losses, dict) else [losses]))


def _split(data: Any, steps: int) -> Any:
    """Reshape each array of x, y and the weights from `[batch, ...]` to `[steps, batch / steps, ...]`."""

    def split(values: Any) -> Any:
        if values is None:
            return None
        if values.shape[0] is not None:
            _check_size(values.shape[0], steps)
        else:
            # `fit()` reports this as an `InputError`.
            parts = [f"{_UNEQUAL} Received:", tf.shape(values)[0], f"Give a multiple of {steps}."]
            with tf.control_dependencies([tf.debugging.Assert(tf.shape(values)[0] % steps == 0, parts)]):
                values = tf.identity(values)
        # Part k has the rows k, k + steps, ..., so each device with a share of the batch has equally many of them.
        parts = ops.reshape(values, (-1, steps, *ops.shape(values)[1:]))
        return ops.swapaxes(parts, 0, 1)

    return tree.map_structure(split, keras.utils.unpack_x_y_sample_weight(data))


def _check_size(size: int, steps: int) -> None:
    if size % steps:
        raise InputError(f"{_UNEQUAL} Received: a batch of {size}. Give a multiple of {steps}.")


def check_batches(model: Any, x: Any, batch_size: int | None, validation_split: float) -> None:
    """Refuse data in memory whose batches the parts of a step cannot share, before the first step.

    The other arguments are those of `keras.Model.fit`. Losses that know rows of weight 0 fill a batch up with them.
    """
    if model.gradient_accumulation_steps == 1 or is_stream(x) or _count_weights(model.loss):
        return
    size = int(len(tree.flatten(x)[0]) * (1 - validation_split))
    batch_size = min(batch_size or 32, size)
    for each in (batch_size, size % batch_size):
        _check_size(each, model.gradient_accumulation_steps)


@contextmanager
def _dividing(losses: Any, data: Any, steps: int) -> Iterator[None]:
    """Make the losses divide each part so that the mean over the parts is the loss of the whole batch."""
    _, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    if isinstance(y, dict) and not isinstance(losses, dict):
        raise InputError(
            "Gradient accumulation needs a loss of its own for each output. "
            f"Received: gradient_accumulation_steps={steps}, loss={losses!r}. Give a dict of losses."
        )
    named = losses.items() if isinstance(losses, dict) else [(None, losses)]
    # Compute all divisors before setting one: replicas wait for each other here, and another's thread may run first.
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
