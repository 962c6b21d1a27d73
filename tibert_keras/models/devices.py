"""What Keras lacks to train and use models on several devices, under TensorFlow's strategies and on JAX."""

from collections.abc import Mapping
from typing import Any

import keras

from tibert_keras.errors import InputError
from tibert_keras.lazy import tf
from tibert_keras.models.encoder_layer import build_training_variables
from tibert_keras.models.training_data import is_dataset, is_stream


def prepare_strategy(model: Any) -> None:
    """Prepare the TensorFlow strategy that a model was made under. A model that would fail there is an `InputError`."""
    if keras.backend.backend() != "tensorflow":
        return
    strategy = model.distribute_strategy
    if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        reduce_for_keras(strategy)
    is_tpu = isinstance(strategy, tf.distribute.TPUStrategy)
    if not is_tpu and strategy.num_replicas_in_sync == 1:
        return
    name = type(strategy).__name__
    if model.jit_compile and not model.run_eagerly:
        raise InputError(
            f"Keras cannot compile a step with XLA under a strategy. Received: jit_compile=True under {name}. "
            "Compile the model with jit_compile=False; a TPU compiles by itself."
        )
    if model.steps_per_execution > 1 and not is_tpu:
        raise InputError(
            "Keras fails to run several steps in one call where replicas mirror each other. Received: "
            f"steps_per_execution={model.steps_per_execution} under {name}. Leave it to TPUs and single devices."
        )


def build_for_training(model: Any, data: Mapping[str, Any]) -> None:
    """Make the variables that Keras makes in the first step, which TensorFlow traces twice then.

    These are the optimizer's and, for several outputs whose data are arrays or a `tf.data.Dataset`, the averages of
    their losses.
    """
    if keras.backend.backend() != "tensorflow" or getattr(model, "optimizer", None) is None:
        return
    strategy, x = model.distribute_strategy, data["x"]
    with strategy.scope():
        if not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
        # With replicas Keras makes them by itself.
        if len(model.outputs) > 1 and strategy.num_replicas_in_sync == 1 and (is_dataset(x) or not is_stream(x)):
            batch = x.element_spec if is_dataset(x) else (x, data["y"], data["sample_weight"])
            build_training_variables(model, batch)


def reduce_for_keras(strategy: Any) -> None:
    """Make a `tf.distribute.MultiWorkerMirroredStrategy` reduce two kinds of values that Keras gives it.

    TensorFlow refuses a whole batch, for the shapes with which Keras builds the model, and scalars along axis 0, for
    the logs of a step.
    """
    if "reduce" in vars(strategy):
        return
    reduce = strategy.reduce

    def reduce_any(reduce_op: Any, value: Any, axis: int | None = None) -> Any:
        if tf.nest.is_nested(value):
            return tf.nest.map_structure(lambda part: strategy.experimental_local_results(part)[0], value)
        scalar = strategy.experimental_local_results(value)[0].shape.rank == 0
        return reduce(reduce_op, value, axis=None if scalar else axis)

    vars(strategy)["reduce"] = reduce_any


def seed_of_all_workers(model: Any, seed: int) -> int:
    """Return a seed that all workers share, as they take parts of the same batches; on one host, the given one."""
    strategy = getattr(model, "distribute_strategy", None)
    if keras.backend.backend() != "tensorflow" or not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return seed
    return int(strategy.reduce("SUM", tf.constant(seed, "int64"), axis=None)) % 2**32


def needs_full_batches(model: Any) -> bool:
    """Return whether a model trains on a TPU, which needs batches of one size."""
    return keras.backend.backend() == "tensorflow" and isinstance(model.distribute_strategy, tf.distribute.TPUStrategy)


def share_any_batch() -> None:
    """Let each of JAX's devices compute all of a batch that they cannot share evenly, such as the last of an epoch.

    Keras fails there. The results are those of one device.
    """
    import jax
    from keras.src.backend.jax import distribution_lib

    distribute = distribution_lib.distribute_data_input

    def distribute_any_input(per_process_batch: Any, layout: Any, batch_dim_name: str) -> Any:
        sharding = getattr(layout, "backend_layout", layout)
        try:
            sharding.shard_shape(per_process_batch.shape)
        except ValueError:
            if jax.process_count() == 1:
                layout = jax.sharding.NamedSharding(sharding.mesh, jax.sharding.PartitionSpec())
        return distribute(per_process_batch, layout, batch_dim_name)

    distribution_lib.distribute_data_input = distribute_any_input


if keras.backend.backend() == "jax":
    share_any_batch()
