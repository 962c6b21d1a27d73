"""Pretrain on one device and on two, and save what came of it; a process of its own.

Logical devices must be made before TensorFlow starts.
"""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from unittest import mock

import keras
import numpy as np
import tensorflow as tf

from tibert_keras.models import TibertMaskedLM
from tibert_keras.training import PretrainConfig, pretrain
from tibert_keras.training.history import History


class Count(keras.callbacks.Callback):
    """Notes how many replicas take part."""

    def on_train_begin(self, logs: dict | None = None) -> None:
        self.replicas = self.model.distribute_strategy.num_replicas_in_sync


def run(records: Path, folder: Path, strategy: tf.distribute.Strategy | None) -> dict[str, np.ndarray]:
    """Take 6 steps, with a validation whose last batch would be smaller than the others."""
    config = PretrainConfig(
        input_file=f"{records}/train/*.tf_record",
        validation_file=f"{records}/held_out/*.tf_record",
        output_dir=f"{folder}/run{strategy is not None}",
        preset="tibert_nano",
        train_batch_size=8,
        eval_batch_size=50,
        max_seq_length=32,
        max_predictions_per_seq=5,
        learning_rate=0.01,
        num_train_steps=6,
        num_warmup_steps=2,
        save_checkpoints_steps=3,
        jit_compile=False,
    )
    count = Count()
    scope = strategy.scope() if strategy else nullcontext()
    with mock.patch.object(sys.modules[pretrain.__module__], "strategy_scope", lambda config: scope):
        champion = pretrain(config, callbacks=[count])
    rows = History(config.output_dir).rows
    model = TibertMaskedLM.from_preset(champion.preset)
    return {
        "replicas": np.array(count.replicas),
        "loss": np.array([row["loss"] for row in rows]),
        "val_loss": np.array([row["val_loss"] for row in rows]),
        "weights": np.concatenate([np.ravel(weight) for weight in model.get_weights()]),
    }


if __name__ == "__main__":
    records, folder = map(Path, sys.argv[1:])
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
    )
    np.savez(folder / "1.npz", **run(records, folder, None))
    np.savez(folder / "2.npz", **run(records, folder, tf.distribute.MirroredStrategy(["/cpu:0", "/cpu:1"])))
