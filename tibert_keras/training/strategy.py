"""Where the model runs: one device, several, or a TPU."""

from __future__ import annotations

import logging
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
        devices = keras.distribution.list_devices()
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


def _tpu_strategy(config: PretrainConfig) -> Any:
    import tensorflow as tf

    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(
            tpu=config.tpu_name, zone=config.tpu_zone, project=config.gcp_project
        )
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except (ValueError, RuntimeError, OSError, tf.errors.OpError) as error:
        raise InputError(
            f"The TPU cannot be used: {' '.join(str(error).split())[:300]} Received: tpu_name={config.tpu_name!r}, "
            f"tpu_zone={config.tpu_zone!r}. Check that it runs, or train without use_tpu."
        ) from error
    strategy = tf.distribute.TPUStrategy(resolver)
    if strategy.num_replicas_in_sync != config.num_tpu_cores:
        raise InputError(
            f"The TPU has another number of cores than expected. Received: num_tpu_cores={config.num_tpu_cores}, "
            f"but it has {strategy.num_replicas_in_sync}."
        )
    return strategy


def _check_batch(config: PretrainConfig, replicas: int) -> None:
    if config.train_batch_size % replicas:
        raise InputError(
            "The batch must be a multiple of the number of replicas. "
            f"Received: train_batch_size={config.train_batch_size} on {replicas} replicas."
        )
