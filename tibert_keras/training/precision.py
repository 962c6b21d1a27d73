"""Chooses the precision that is fastest on this machine, by training steps of a small trial."""

from __future__ import annotations

import dataclasses
import logging
import time
from typing import Any

import keras

from tibert_keras.models.tibert_backbone import TibertBackbone
from tibert_keras.models.tibert_masked_lm import TibertMaskedLM
from tibert_keras.records.pipeline import Records
from tibert_keras.training.config import PretrainConfig
from tibert_keras.training.model import check_run_records, compile_model, initial_model
from tibert_keras.training.strategy import Strategy

# Sequences in a step of the trial: with fewer, the time would be that of other things than the products of matrices.
_MAX_BATCH = 32
_STEPS = 3

_LOG = logging.getLogger(__name__)


def with_fastest_precision(config: PretrainConfig, strategy: Strategy, records: Records) -> PretrainConfig:
    """Replace a `mixed_precision` of `auto`, and a `jit_compile` of `auto` too, by what takes the shortest step.

    Each choice trains two layers of the model's size on some of the records; the steps of the choices take turns, and
    the shortest of each counts. A TPU computes in bfloat16 whatever the trial would say.

    Args:
        config: The options.
        strategy: Where the run trains. Of several workers, all compute in bfloat16 if it is faster on one.
        records: The training records.

    Raises:
        InputError: If the options, the tokenizer and the records do not fit together.
    """
    if config.mixed_precision != "auto":
        return config
    if config.use_tpu:
        return dataclasses.replace(config, mixed_precision="mixed_bfloat16")
    # Keras cannot compile the step with XLA under a strategy, and on JAX always does.
    tries_xla = config.jit_compile == "auto" and strategy.num_replicas == 1 and keras.backend.backend() == "tensorflow"
    choices = [
        dataclasses.replace(config, mixed_precision=precision, jit_compile=jit_compile)
        for precision in ("float32", "mixed_bfloat16")
        for jit_compile in ((False, True) if tries_xla else (config.jit_compile,))
    ]
    size = min(config.train_batch_size // strategy.num_replicas // config.gradient_accumulation_steps, _MAX_BATCH)
    batch = next(records.numpy_batches(size, sop=config.sop))
    model = initial_model(config, records)
    check_run_records(config, model, records)
    seconds = _measure([_trial_model(choice, model) for choice in choices], batch)
    best = choices[seconds.index(min(seconds))]
    if strategy.any_worker(best.mixed_precision == "mixed_bfloat16"):
        best = dataclasses.replace(best, mixed_precision="mixed_bfloat16")
    described = ", ".join(f"{_name(choice)} {took:.3f} s" for choice, took in zip(choices, seconds, strict=True))
    _LOG.info("Computing in %s, for a step of a trial takes %s.", _name(best), described)
    return best


def _trial_model(config: PretrainConfig, model: TibertMaskedLM) -> TibertMaskedLM:
    changes = {"num_layers": 2, "num_groups": 1, "dtype": config.mixed_precision, "name": None}
    backbone = TibertBackbone(**{**model.backbone.get_config(), **changes})
    trial = type(model)(backbone)
    compile_model(dataclasses.replace(config, iterations_per_loop=1, gradient_accumulation_steps=1), trial)
    return trial


def _measure(models: list[TibertMaskedLM], batch: Any) -> list[float]:
    """Return the seconds of the shortest step of each model."""
    x, y, sample_weight = batch
    seconds = [float("inf")] * len(models)
    # In the first step all is traced and compiled.
    for step in range(1 + _STEPS):
        for index, model in enumerate(models):
            began = time.perf_counter()
            model.train_on_batch(x, y, sample_weight)
            if step:
                seconds[index] = min(seconds[index], time.perf_counter() - began)
    return seconds


def _name(config: PretrainConfig) -> str:
    return f"{config.mixed_precision}{' with XLA' * (config.jit_compile is True)}"
