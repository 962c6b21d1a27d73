"""Reads record files with `tf.data`: in threads of TensorFlow's own, under its strategies and on its TPUs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tibert_keras.lazy import tf
from tibert_keras.records.batches import RecordFiles, as_inputs
from tibert_keras.records.masking import LABEL_FEATURES, DynamicMasking
from tibert_keras.records.serialization import feature_dtype, value_limits

# Serialized examples are about 1 kB each, so the buffer is about 100 MB.
_SHUFFLE_BUFFER = 100_000
_FILES_READ_TOGETHER = 8


def training_batches(
    files: RecordFiles, batch_size: int, *, seed: int, start_step: int, sop: bool, masking: DynamicMasking | None
) -> tf.data.Dataset:
    """Make the `tf.data.Dataset` of `Records.training_batches`.

    Each epoch reads the files in another order, several at a time, and shuffles the examples in a buffer.
    """
    start_epoch, passed = divmod(start_step * batch_size, files.num_examples)

    def epoch(number: tf.Tensor) -> tf.data.Dataset:
        # `shuffle` combines the seed of the process, or here of the graph, with its own, and fails if both are 0.
        tf.compat.v1.set_random_seed(1)
        paths = tf.random.experimental.stateless_shuffle(files.paths, seed=[seed, number])
        examples = tf.data.Dataset.from_tensor_slices(paths).interleave(
            tf.data.TFRecordDataset,
            cycle_length=_FILES_READ_TOGETHER,
            block_length=16,
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
        order = tf.random.stateless_uniform([], seed=[seed, number], maxval=tf.int32.max, dtype=tf.int32)
        return examples.shuffle(min(_SHUFFLE_BUFFER, files.num_examples), seed=tf.cast(order, tf.int64))

    examples = tf.data.Dataset.range(start_epoch, tf.int64.max).flat_map(epoch).skip(passed)
    batches = examples.batch(batch_size, drop_remainder=True).enumerate(start_step)

    def parse(step: tf.Tensor, serialized: tf.Tensor) -> Any:
        features = _parse(serialized, files, sop)
        if masking is not None:
            features |= _masked_in_graph(features, step * batch_size, masking)
        return as_inputs(features, cast=tf.cast)

    return _mapped(batches, parse)


def evaluation_batches(files: RecordFiles, batch_size: int, *, drop_remainder: bool, sop: bool) -> tf.data.Dataset:
    """Make the `tf.data.Dataset` of `Records.evaluation_batches`."""
    batches = tf.data.TFRecordDataset(files.paths).batch(batch_size, drop_remainder=drop_remainder)
    batches = _mapped(batches, lambda serialized: as_inputs(_parse(serialized, files, sop), cast=tf.cast))
    # Without a cardinality Keras warns when the data ends.
    return batches.apply(tf.data.experimental.assert_cardinality(files.num_batches(batch_size, drop_remainder)))


def _mapped(batches: tf.data.Dataset, parse: Any) -> tf.data.Dataset:
    # Each of several workers takes its part of every batch, and not, as by default, some of the files.
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return batches.with_options(options).map(parse, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def _parse(serialized: tf.Tensor, files: RecordFiles, sop: bool) -> dict[str, tf.Tensor]:
    """Parse and check a batch, which is several times as fast as to parse single examples."""
    features = {
        name: tf.io.FixedLenFeature([count], tf.as_dtype(feature_dtype(name)))
        for name, count in files.sizes(sop).items()
    }
    parsed = tf.io.parse_example(serialized, features)
    # XLA and GPUs take ids beyond a table without complaint.
    for name, limit in value_limits(files.max_seq_length, files.num_ids, files.num_segments).items():
        if name in parsed:
            right = tf.reduce_all((parsed[name] >= 0) & (parsed[name] < limit))
            tf.debugging.Assert(right, [f"{name} must be from 0 to {limit - 1}."])
    weights = parsed["masked_lm_weights"]
    right = tf.reduce_all((weights >= 0) & (weights < math.inf))
    tf.debugging.Assert(right, ["masked_lm_weights must be finite and not negative."])
    return parsed


def _masked_in_graph(features: dict[str, tf.Tensor], first: tf.Tensor, masking: DynamicMasking) -> dict[str, tf.Tensor]:
    """Call `masking` in a graph, and return the features that it changes."""

    def in_python(first: np.ndarray, *arrays: np.ndarray) -> list[np.ndarray]:
        masked = masking(dict(zip(LABEL_FEATURES, arrays, strict=True)), int(first))
        return [masked[name] for name in LABEL_FEATURES]

    before = [features[name] for name in LABEL_FEATURES]
    types = [tf.int32, tf.int32, tf.int32, tf.float32]
    after = tf.numpy_function(in_python, [first, *before], types, stateful=False)
    shaped = [tf.ensure_shape(new, old.shape) for new, old in zip(after, before, strict=True)]
    return dict(zip(LABEL_FEATURES, shaped, strict=True))
