"""Chooses the precision that trains fastest on this machine, by steps of a short trial."""

import dataclasses
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import keras
import numpy as np

import tibert_keras.optimizers
from tibert_keras.models.tibert_backbone import TibertBackbone
from tibert_keras.training.strategy import Strategy, has_strategy

# On a CPU, this many sequences show the rates of larger batches.
_SEQUENCES = 16
_SECONDS = 10.0
# Bfloat16 rounds to 8 bits, so it must be this much faster.
_WORTH = 1.05

# The options of a run.
_Config = TypeVar("_Config", bound=Any)

_LOG = logging.getLogger(__name__)


def with_fastest_precision(
    config: _Config,
    strategy: Strategy,
    backbone: TibertBackbone,
    *,
    make_model: Callable[[_Config, TibertBackbone], keras.Model],
    batch: Any,
) -> _Config:
    """Replace a `mixed_precision` of `auto`, and a `jit_compile` of `auto` too, by what trains fastest.

    The choices take turns at training two layers of the encoder's size; the shortest step of each counts. XLA is a
    choice on one device of TensorFlow: JAX always compiles, and Keras cannot under a strategy. A TPU computes in
    bfloat16 without a trial. Must be called in the strategy's scope, by all workers, which all compute in bfloat16 if
    it is faster on one.

    `make_model` makes a compiled model over an encoder from the options of a choice, which have no accumulation. The
    batch has inputs, labels and weights or `None`, of any number of sequences.
    """
    if config.use_tpu:
        return dataclasses.replace(config, mixed_precision="mixed_bfloat16")
    on_tensorflow = keras.backend.backend() == "tensorflow"
    tries_xla = on_tensorflow and config.jit_compile == "auto" and not has_strategy()
    choices = [
        dataclasses.replace(config, mixed_precision=precision, jit_compile=jit_compile, gradient_accumulation_steps=1)
        for precision in ("float32", "mixed_bfloat16")
        for jit_compile in ((False, True) if tries_xla else (config.jit_compile,))
    ]
    with _without_reports():
        shallow = {"num_layers": min(2, backbone.num_layers), "num_groups": 1, "name": None, "trainable": True}
        sizes = {**backbone.get_config(), **shallow}
        models = [
            make_model(choice, TibertBackbone(**{**sizes, "dtype": choice.mixed_precision})) for choice in choices
        ]
    size = _sequences_of_replica(config, strategy.num_replicas)
    # On TensorFlow each replica gets all of the batch.
    resized = _resized(batch, size if on_tensorflow else size * strategy.num_replicas)
    rates = [size * strategy.num_replicas / seconds for seconds in _shortest_steps(models, resized, strategy)]
    worth = {
        rate * (_WORTH if choice.mixed_precision == "float32" else 1): choice
        for choice, rate in zip(choices, rates, strict=True)
    }
    best = worth[max(worth)]
    described = ", ".join(f"{_name(choice)} {rate:.1f}" for choice, rate in zip(choices, rates, strict=True))
    if strategy.any_worker(best.mixed_precision == "mixed_bfloat16"):
        best = dataclasses.replace(best, mixed_precision="mixed_bfloat16")
    _LOG.info("Computing in %s, by a trial of two layers, in sequences/s: %s.", _name(best), described)
    return dataclasses.replace(config, mixed_precision=best.mixed_precision, jit_compile=best.jit_compile)


@contextmanager
def _without_reports() -> Iterator[None]:
    """Keep to themselves which variables the optimizers of a trial treat how."""
    logger = logging.getLogger(tibert_keras.optimizers.__name__)
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def _sequences_of_replica(config: Any, replicas: int) -> int:
    """The sequences whose gradient a replica computes at once, on CPUs at most `_SEQUENCES`."""
    share = config.train_batch_size // replicas // config.gradient_accumulation_steps
    on_cpu = all(device.startswith("cpu") for device in keras.distribution.list_devices())
    return min(share, _SEQUENCES) if on_cpu else share


def _resized(batch: Any, size: int) -> Any:
    """The first sequences of a batch, repeated if there are too few."""
    return keras.tree.map_structure(
        lambda values: None if values is None else np.resize(values[:size], (size, *values.shape[1:])), batch
    )


def _shortest_steps(models: list[keras.Model], batch: Any, strategy: Strategy) -> list[float]:
    """The seconds of the shortest step of each model, which train in turns."""
    x, y, sample_weight = batch
    seconds = [float("inf")] * len(models)
    # In the first step all is traced and compiled.
    for model in models:
        model.train_on_batch(x, y, sample_weight)
    end = time.perf_counter() + _SECONDS
    for turn in range(10):
        # All workers take the same steps, as they wait for each other in each.
        if turn > 1 and strategy.any_worker(time.perf_counter() > end):
            break
        for index, model in enumerate(models):
            began = time.perf_counter()
            model.train_on_batch(x, y, sample_weight)
            seconds[index] = min(seconds[index], time.perf_counter() - began)
    return seconds


def _name(config: Any) -> str:
    return f"{config.mixed_precision}{' with XLA' * (config.jit_compile is True)}"
