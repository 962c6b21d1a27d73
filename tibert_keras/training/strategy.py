"""Where the model runs: one device, several, or a TPU."""

from __future__ import annotations

import logging
import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import keras

from tibert_keras.errors import InputError
from tibert_keras.training.config import PretrainConfig

_LOG = logging.getLogger(__name__)


def strategy_scope(config: PretrainConfig) -> AbstractContextManager[object]:
    """Choose the strategy for a run and return the scope in which its model is made, compiled and restored.

    On TensorFlow: a `TPUStrategy` with `use_tpu`, a `MirroredStrategy` over several GPUs, or nothing. On JAX: data
    parallelism over all devices. The choice is logged.

    Raises:
        InputError: If the TPU cannot be had, or the batch cannot be shared evenly between the replicas.
    """
    if keras.backend.backend() == "jax":
        devices = _jax_devices(config)
        _check_batch(config, len(devices))
        _LOG.info("Strategy: %d JAX device(s), data parallel.", len(devices))
        if len(devices) > 1:
            keras.distribution.set_distribution(keras.distribution.DataParallel(devices=devices))
        return nullcontext()

    import tensorflow as tf

    if config.use_tpu:
        strategy = _tpu_strategy(config)
    elif len(tf.config.list_logical_devices("GPU")) > 1:
        strategy = tf.distribute.MirroredStrategy()
    else:
        strategy = tf.distribute.get_strategy()
    _check_batch(config, strategy.num_replicas_in_sync)
    _LOG.info("Strategy: %s, %d replica(s).", type(strategy).__name__, strategy.num_replicas_in_sync)
    return strategy.scope()


def has_strategy() -> bool:
    """Whether this is the scope of a strategy other than TensorFlow's default."""
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return tf.distribute.has_strategy()


def num_replicas() -> int:
    """The number of replicas in the scope of a strategy."""
    if keras.backend.backend() == "jax":
        distribution = keras.distribution.distribution()
        return 1 if distribution is None else math.prod(distribution.device_mesh.shape)
    import tensorflow as tf

    return tf.distribute.get_strategy().num_replicas_in_sync


def _jax_devices(config: PretrainConfig) -> list[str]:
    try:
        devices = keras.distribution.list_devices("tpu" if config.use_tpu else None)
    except RuntimeError as error:
        raise _no_tpu(config, error) from error
    if config.use_tpu:
        _check_cores(config, len(devices))
    return devices


def _tpu_strategy(config: PretrainConfig) -> Any:
    import tensorflow as tf

    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(
            tpu=config.tpu_name, zone=config.tpu_zone, project=config.gcp_project
        )
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except (ValueError, RuntimeError, OSError, tf.errors.OpError) as error:
        raise _no_tpu(config, error) from error
    strategy = tf.distribute.TPUStrategy(resolver)
    _check_cores(config, strategy.num_replicas_in_sync)
    return strategy


def _no_tpu(config: PretrainConfig, error: Exception) -> InputError:
    reason = " ".join(str(error).split())[:300].rstrip(".")
    return InputError(
        f"The TPU cannot be used: {reason}. Received: tpu_name={config.tpu_name!r}, "
        f"tpu_zone={config.tpu_zone!r}. Check that it runs, or train without use_tpu."
    )


def _check_cores(config: PretrainConfig, cores: int) -> None:
    if cores != config.num_tpu_cores:
        raise InputError(
            "The TPU has another number of cores than expected. "
            f"Received: num_tpu_cores={config.num_tpu_cores}, but it has {cores}."
        )


def _check_batch(config: PretrainConfig, replicas: int) -> None:
    if config.train_batch_size % (replicas * config.gradient_accumulation_steps):
        raise InputError(
            "The batch must be a multiple of the number of replicas times gradient_accumulation_steps. "
            f"Received: train_batch_size={config.train_batch_size} on {replicas} replicas, "
            f"gradient_accumulation_steps={config.gradient_accumulation_steps}. Change one of them."
        )
