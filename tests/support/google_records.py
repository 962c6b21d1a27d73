"""Google's training batches as a record file."""

from pathlib import Path

import numpy as np
import tensorflow as tf

from tibert_keras.records.serialization import serialize_examples


def write_google_records(golden: Path, path: Path) -> None:
    """Write the batches of the trajectories, 240 examples, without a tokenizer beside them."""
    features = {name: array.reshape(-1, array.shape[-1]) for name, array in np.load(golden / "batches.npz").items()}
    with tf.io.TFRecordWriter(str(path)) as writer:
        for example in serialize_examples(features | {"token_boundary": np.ones_like(features["input_ids"])}):
            writer.write(example)
