"""Chooses where a run trains: one device, several, several hosts, or a TPU."""

import logging
import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from typing import Any

import keras

from tibert_keras.errors import InputError
from tibert_keras.lazy import tf
from tibert_keras.training.config import DeviceOptions
from tibert_keras.training.workers import (
    is_chief,
    multi_worker_strategy,
    refuse_workers,
    reporting_lost_workers,
    this_worker,
)

_LOG = logging.getLogger(__name__)


class Strategy:
    """Where a run trains: on a number of replicas of the model, which share each batch.

    `distribute` is the `tf.distribute.Strategy`, or `None` on JAX, where an array is spread over all devices. Of
    several workers, only the chief, the first, writes the files of the run.
    """

    def __init__(self, num_replicas: int = 1, *, distribute: Any = None) -> None:
        self.num_replicas = num_replicas
        self.is_chief = is_chief()
        self._distribute = distribute

    def scope(self) -> AbstractContextManager[object]:
        """The context in which the model is made, compiled and restored."""
        return self._distribute.scope() if self._distribute else nullcontext()

    def any_worker(self, flag: bool) -> bool:
        """Whether the flag is set on any worker. All workers must call this at the same points."""
        if this_worker()[1] == 1:
            return flag
        with reporting_lost_workers():
            return bool(self._distribute.reduce("SUM", tf.constant(float(flag)), axis=None) > 0)

    def wait_for_workers(self) -> None:
        """Wait until all workers have called this, so that all see the files that the chief wrote before."""
        self.any_worker(False)

    def leave(self) -> None:
        """Wait for all workers before this process ends, and until they have received its last messages."""
        self.wait_for_workers()
        if this_worker()[1] > 1:
            # The end of a process closes its connections, and a message on its way is an error for the others.
            time.sleep(1)


@contextmanager
def chosen_strategy(config: Any) -> Iterator[Strategy]:
    """Choose the strategy for a pretraining or fine-tuning, log it, and use it inside the `with` block.

    On TensorFlow: a `TPUStrategy` with `use_tpu`, a `MultiWorkerMirroredStrategy` if `TF_CONFIG` names several workers,
    a `MirroredStrategy` over several devices, or none. On JAX: data parallelism over all devices. Nothing may run on
    TensorFlow before. An `InputError` is raised for other backends, a TPU or worker that does not answer, a batch that
    the replicas cannot share evenly, and several steps per call on replicas other than a TPU's.
    """
    if keras.backend.backend() not in ("tensorflow", "jax"):
        raise InputError(
            "Runs train on TensorFlow or JAX. "
            f"Received: KERAS_BACKEND={keras.backend.backend()}. Set KERAS_BACKEND=tensorflow."
        )
    if keras.backend.backend() == "jax":
        devices = _jax_devices(config)
        _check_batch(config, len(devices))
        _log_devices(devices[0].partition(":")[0].upper(), len(devices))
        parallel = keras.distribution.DataParallel(devices=devices).scope() if len(devices) > 1 else nullcontext()
        with parallel:
            yield Strategy(len(devices))
        return
    distribute = _tensorflow_strategy(config)
    replicas = distribute.num_replicas_in_sync
    _check_batch(config, replicas)
    if replicas > 1 and config.steps_per_execution > 1 and not config.use_tpu:
        raise InputError(
            "Keras fails to run several steps in one call where replicas mirror each other. "
            f"Received: iterations_per_loop={config.steps_per_execution}. Leave it out: it is for TPUs and one device."
        )
    _log_devices("TPU core" if config.use_tpu else _device_kind(), replicas)
    with reporting_lost_workers():
        yield Strategy(replicas, distribute=distribute)


def _log_devices(kind: str, count: int) -> None:
    worker, workers = this_worker()
    devices = f"one {kind}" if count == 1 else f"{count} {kind}s, which share each batch"
    _LOG.info("Training on %s%s.", devices, f"; this is worker {worker + 1} of {workers}" if workers > 1 else "")


def use_deterministic_operations() -> None:
    """Make this process avoid operations whose results may differ when repeated, as some do on GPUs.

    On JAX it must be called before the first operation.
    """
    if keras.backend.backend() == "jax":
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_exclude_nondeterministic_ops=true"
        return
    tf.config.experimental.enable_op_determinism()


def may_jit_compile(config: Any) -> bool | str:
    """Whether Keras compiles the step with XLA: not under a strategy, where that fails. TPUs compile it themselves."""
    return False if has_strategy() else config.jit_compile


def has_strategy() -> bool:
    """Whether this is called in the scope of a strategy other than TensorFlow's default."""
    return keras.backend.backend() == "tensorflow" and tf.distribute.has_strategy()


def _tensorflow_strategy(config: DeviceOptions) -> Any:
    if config.use_tpu:
        return _tpu_strategy(config)
    if this_worker()[1] > 1:
        return multi_worker_strategy()
    devices = tf.config.list_logical_devices(_device_kind())
    if len(devices) > 1:
        return _mirrored_strategy(*(device.name for device in devices))
    return tf.distribute.get_strategy()


def _device_kind() -> str:
    """The kind of devices that TensorFlow trains on without a TPU: `GPU` if there is one, else `CPU`."""
    return "GPU" if tf.config.list_logical_devices("GPU") else "CPU"


@cache
def _mirrored_strategy(*devices: str) -> Any:
    """One strategy for the whole process, because a second would number its collective operations anew."""
    return tf.distribute.MirroredStrategy(devices)


def _jax_devices(config: DeviceOptions) -> list[str]:
    refuse_workers("JAX trains on the devices of one host")
    try:
        devices = keras.distribution.list_devices("tpu" if config.use_tpu else None)
    except RuntimeError as error:
        raise _no_tpu(config, error) from error
    if config.use_tpu:
        _check_cores(config, len(devices))
    return devices


def _tpu_strategy(config: DeviceOptions) -> Any:
    refuse_workers("A TPU brings its own hosts")
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


def _no_tpu(config: DeviceOptions, error: Exception) -> InputError:
    reason = " ".join(str(error).split())[:300].rstrip(".")
    return InputError(
        f"The TPU cannot be used: {reason}. Received: tpu_name={config.tpu_name!r}, "
        f"tpu_zone={config.tpu_zone!r}. Check that it runs, or train without use_tpu."
    )


def _check_cores(config: DeviceOptions, cores: int) -> None:
    if cores != config.num_tpu_cores:
        raise InputError(
            "The TPU has another number of cores than expected. "
            f"Received: num_tpu_cores={config.num_tpu_cores}, but it has {cores}. Give num_tpu_cores={cores}."
        )


def _check_batch(config: Any, replicas: int) -> None:
    if config.train_batch_size % (replicas * config.gradient_accumulation_steps):
        raise InputError(
            "The batch must be a multiple of the number of replicas times gradient_accumulation_steps. "
            f"Received: train_batch_size={config.train_batch_size} on {replicas} replicas, "
            f"gradient_accumulation_steps={config.gradient_accumulation_steps}. Change one of them."
        )
