"""Train on replicas and save what happened; a process of its own, `train_on_replicas.py RECORDS FOLDER [REPLICAS]`.

Beside the records there is the architecture, `albert_config.json`.

Logical devices must be made before TensorFlow starts, and its collective operations know one number of them. Without
`REPLICAS` it is one worker of those in `TF_CONFIG`; on JAX `XLA_FLAGS` make the devices.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tests.support import strings_on_replicas
from tibert_keras.models.tibert_backbone import TibertBackbone
from tibert_keras.models.tibert_pretraining import TibertPretraining
from tibert_keras.optimizers.lamb import LAMB
from tibert_keras.optimizers.schedules import WarmupPolynomialDecay
from tibert_keras.records.build import TOKENIZER_FILE
from tibert_keras.training.config import PretrainConfig
from tibert_keras.training.pretrain import pretrain
from tibert_keras.training.strategy import chosen_strategy
from tibert_keras.training.workers import multi_worker_strategy, this_worker

ROOT = Path(__file__).resolve().parents[2]
BATCH, LENGTH, PREDICTIONS, VOCABULARY = 8, 12, 5, 50


class Log(keras.callbacks.Callback):
    """The losses and the norm of each batch by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[str, list[float]] = {}

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        # So that what is logged at the end of a batch, or of an epoch, is of the last batch.
        self.model.reset_metrics()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        # What Keras logs of a step is the replicas' mean, which is right for the losses alone.
        values = {name: value for name, value in logs.items() if name.endswith("loss")}
        if keras.backend.backend() == "tensorflow":
            # JAX brings the variables up to date between epochs only.
            values["gradient_norm"] = self.model.optimizer.gradient_norm
        for name, value in values.items():
            self.rows.setdefault(name, []).append(float(keras.ops.convert_to_numpy(value)))


def config(records: str, folder: str) -> PretrainConfig:
    """Of 20 steps; after them, on JAX, an evaluation whose last batch is smaller than the others."""
    return PretrainConfig(
        input_file=f"{records}/train/*.tf_record",
        validation_file=f"{records}/held_out/*.tf_record",
        output_dir=f"{folder}/run",
        albert_config_file=f"{records}/albert_config.json",
        do_eval=keras.backend.backend() == "jax",
        train_batch_size=8,
        eval_batch_size=40,
        max_seq_length=32,
        max_predictions_per_seq=5,
        learning_rate=0.01,
        num_train_steps=20,
        num_warmup_steps=4,
        save_checkpoints_steps=10,
        jit_compile="auto" if keras.backend.backend() == "jax" else False,
    )


def pairs() -> Any:
    """Ten batches for both tasks, with 0 to 5 masked tokens a row; replicas cannot share the last one evenly."""
    import tensorflow as tf

    random = np.random.default_rng(1)
    rows = 9 * BATCH + 5
    ids = random.integers(5, VOCABULARY, (rows, LENGTH))
    features = {
        "token_ids": ids,
        "segment_ids": np.zeros_like(ids),
        "padding_mask": np.ones_like(ids),
        "mask_positions": random.integers(0, LENGTH, (rows, PREDICTIONS)),
    }
    labels = {
        "masked_lm": random.integers(5, VOCABULARY, (rows, PREDICTIONS)),
        "sentence_order": random.integers(0, 2, rows),
    }
    counts = random.integers(0, PREDICTIONS + 1, rows)
    counts[:2] = 0  # all that one of four replicas has
    weights = {
        "masked_lm": (np.arange(PREDICTIONS) < counts[:, None]).astype("float32"),
        "sentence_order": np.ones(rows, "float32"),
    }
    return tf.data.Dataset.from_tensor_slices((features, labels, weights)).batch(BATCH)


def train_on_pairs(options: PretrainConfig) -> dict[str, np.ndarray]:
    """Train `TibertPretraining`. The loss of the last batch, which is not shared evenly, Keras cannot log exactly."""
    keras.utils.set_random_seed(0)
    log = Log()
    with chosen_strategy(options) as strategy, strategy.scope():
        model = TibertPretraining(TibertBackbone.from_preset("tibert_nano", vocabulary_size=VOCABULARY, num_layers=1))
        model.compile(LAMB(WarmupPolynomialDecay(0.01, 20, 3)), jit_compile=False)
    model.fit(pairs(), callbacks=[log], verbose=0, shuffle=False)
    return {
        **{f"pairs/{name}": np.array(values[:-1]) for name, values in log.rows.items()},
        "pairs/weights": np.concatenate([np.ravel(weight) for weight in model.get_weights()]),
        "pairs/slots": np.concatenate([np.ravel(slot) for slot in model.optimizer.variables]),
    }


def main(records: str, folder: str, replicas: str | None = None) -> None:
    if replicas:
        import tensorflow as tf

        devices = [tf.config.LogicalDeviceConfiguration()] * int(replicas)
        tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], devices)
    options, log = config(records, folder), Log()
    pretrain(options, callbacks=[log])
    arrays = {name: np.array(values) for name, values in log.rows.items()}
    if replicas:
        arrays |= train_on_pairs(options)
    elif this_worker()[1] > 1:
        # As a user's own strategy would.
        scope = multi_worker_strategy().scope()
        results = strings_on_replicas.run(f"{records}/train/{TOKENIZER_FILE}", scope, ("masked_lm", "tagger"))
        arrays["strings"] = np.array([*results.values()])
    np.savez(Path(folder) / f"worker{this_worker()[0]}.npz", **arrays)


def environments(workers: int = 1, **more: str) -> list[dict[str, str]]:
    """The environments of processes that are to train together, each with its place in `TF_CONFIG`."""
    common = {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3", **more}
    if workers == 1:
        return [{**os.environ, **common}]
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("localhost", 0))) for _ in range(workers)]
        addresses = [f"localhost:{each.getsockname()[1]}" for each in sockets]
    tasks = [{"cluster": {"worker": addresses}, "task": {"type": "worker", "index": i}} for i in range(workers)]
    return [{**os.environ, **common, "TF_CONFIG": json.dumps(task)} for task in tasks]


if __name__ == "__main__":
    main(*sys.argv[1:])
