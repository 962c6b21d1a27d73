"""Train a model on some replicas and save what happened; a process of its own.

Logical devices must be made before TensorFlow starts, and its collective operations know one number of them.
"""

from __future__ import annotations

import sys

import keras
import numpy as np
import tensorflow as tf

from tibert_keras.models import TibertMaskedLM
from tibert_keras.optimizers import LAMB, MaskedLanguageModelLoss, WarmupPolynomialDecay

STEPS, BATCH, LENGTH, PREDICTIONS, VOCABULARY = 10, 8, 12, 5, 50


def dataset() -> tf.data.Dataset:
    """Batches whose rows have 0 to 5 masked tokens; whole quarters of a batch have none now and then."""
    random = np.random.default_rng(1)
    rows = STEPS * BATCH
    ids = random.integers(5, VOCABULARY, (rows, LENGTH))
    features = {
        "token_ids": ids,
        "segment_ids": np.zeros_like(ids),
        "padding_mask": np.ones_like(ids),
        "mask_positions": random.integers(0, LENGTH, (rows, PREDICTIONS)),
    }
    labels = random.integers(5, VOCABULARY, (rows, PREDICTIONS))
    counts = random.integers(0, PREDICTIONS + 1, rows)
    counts[:2] = 0
    weights = (np.arange(PREDICTIONS) < counts[:, None]).astype("float32")
    return tf.data.Dataset.from_tensor_slices((features, labels, weights)).batch(BATCH, drop_remainder=True)


class Log(keras.callbacks.Callback):
    """The loss and the norm of each batch by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.loss: list[float] = []
        self.gradient_norm: list[float] = []

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self.loss.append(float(logs["loss"]))
        self.gradient_norm.append(float(self.model.optimizer.gradient_norm.numpy()))
        self.model.reset_metrics()


def train(replicas: int) -> dict[str, np.ndarray]:
    """Train on `replicas` logical devices, from the same weights each time."""
    keras.utils.set_random_seed(0)
    strategy = tf.distribute.MirroredStrategy([f"/cpu:{i}" for i in range(replicas)])
    with strategy.scope():
        model = TibertMaskedLM.from_preset("tibert_nano", vocabulary_size=VOCABULARY)
        optimizer = LAMB(WarmupPolynomialDecay(0.01, 20, 3))
        model.compile(optimizer, MaskedLanguageModelLoss(), jit_compile=False)
    log = Log()
    model.fit(dataset(), callbacks=[log], verbose=0, shuffle=False)
    return {
        "loss": np.array(log.loss),
        "gradient_norm": np.array(log.gradient_norm),
        "weights": np.concatenate([np.ravel(w) for w in model.get_weights()]),
        "evaluated": np.array(model.evaluate(dataset(), verbose=0, return_dict=True)["loss"]),
    }


if __name__ == "__main__":
    count, path = int(sys.argv[1]), sys.argv[2]
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * count
    )
    np.savez(path, **train(count))
