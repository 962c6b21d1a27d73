"""Short trainings with LAMB, in whole batches and in micro-batches.

As a script, `python -m tests.support.micro_batches FILE`, it trains both tasks in micro-batches on two devices.
"""

import sys
from contextlib import nullcontext

import keras
import numpy as np

from tests.support.base import ON_JAX
from tibert_keras.models.tibert_backbone import TibertBackbone
from tibert_keras.models.tibert_masked_lm import TibertMaskedLM
from tibert_keras.models.tibert_pretraining import TibertPretraining
from tibert_keras.optimizers.lamb import LAMB
from tibert_keras.optimizers.schedules import WarmupPolynomialDecay

STEPS, BATCH, LENGTH, PREDICTIONS = 3, 16, 10, 3
PARTS = 4
# One layer, for the sake of the time XLA takes.
SIZES = {"num_layers": 1, "num_heads": 2, "embedding_dim": 8, "hidden_dim": 16, "intermediate_dim": 32}


def data(cls):
    """Batches of which part 0 of 4 has no masked token, and the others unequally many."""
    random, rows = np.random.default_rng(0), STEPS * BATCH
    ids = random.integers(5, 50, (rows, LENGTH))
    features = {
        "token_ids": ids,
        "segment_ids": np.zeros_like(ids),
        "padding_mask": np.ones_like(ids),
        "mask_positions": random.integers(0, LENGTH, (rows, PREDICTIONS)),
    }
    labels = random.integers(5, 50, (rows, PREDICTIONS))
    weights = (np.arange(PREDICTIONS) < random.integers(0, PREDICTIONS + 1, (rows, 1))).astype("float32")
    weights[::PARTS], weights[1::PARTS] = 0, 1
    if cls is TibertMaskedLM:
        return features, labels, weights
    order, some = random.integers(0, 2, rows), (random.random(rows) < 0.7).astype("float32")
    return features, {"masked_lm": labels, "sentence_order": order}, {"masked_lm": weights, "sentence_order": some}


def train(
    cls,
    parts=1,
    *,
    batch_size=BATCH,
    optimizer_parts=None,
    jit_compile="auto",
    rematerialize=False,
    run_eagerly=False,
    scope=None,
    **sizes,
):
    """Train with LAMB, at work in clipping and warm-up; returns the model, and the logs."""
    keras.utils.set_random_seed(0)
    with scope or nullcontext():
        model = cls(TibertBackbone(vocabulary_size=50, **{**SIZES, **sizes}))
        model.compile(
            LAMB(WarmupPolynomialDecay(0.01, 20, 2), gradient_accumulation_steps=optimizer_parts),
            gradient_accumulation_steps=parts,
            jit_compile=jit_compile,
            rematerialize=rematerialize,
            run_eagerly=run_eagerly,
        )
    x, y, weights = data(cls)
    history = model.fit(x, y, sample_weight=weights, batch_size=batch_size, shuffle=False, verbose=0).history
    return model, history


def flat(model, logs):
    """What `train` gave, as arrays."""
    return {
        "logs": np.array([logs[key] for key in sorted(logs)]),
        "weights": np.concatenate([np.ravel(weight) for weight in model.get_weights()]),
    }


def two_devices():
    """The scope of two replicas on the CPU; on JAX it is entered for good."""
    if ON_JAX:
        devices = keras.distribution.list_devices()
        assert len(devices) == 2
        keras.distribution.set_distribution(keras.distribution.DataParallel(devices=devices))
        return nullcontext()
    import tensorflow as tf

    return tf.distribute.MirroredStrategy(["/cpu:0", "/cpu:1"]).scope()


if __name__ == "__main__":
    if not ON_JAX:
        import tensorflow as tf

        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
        )
    np.savez(sys.argv[1], **flat(*train(TibertPretraining, PARTS, scope=two_devices(), rematerialize=True)))
