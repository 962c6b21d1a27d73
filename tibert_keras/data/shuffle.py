"""One random order over the examples of many record files, in memory that does not grow with them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import tensorflow as tf

from tibert_keras.storage import atomic_output, join, size

# What a worker holds at a time while it shuffles.
_BUCKET_BYTES = 1 << 27
_READ_TOGETHER = 1024


def num_buckets(paths: Sequence[str], num_targets: int) -> int:
    """How many buckets make up each new file, so that a bucket fits into memory with room to spare."""
    return -(-sum(map(size, paths)) // (num_targets * _BUCKET_BYTES))


def scatter(path: str, folder: str, buckets: int, seed: Sequence[int]) -> None:
    """Deal the examples of a record file out to buckets, each to any with equal probability.

    Dealing all files out and then shuffling each bucket gives every order of all examples with equal probability
    (Rao 1961, Sandelius 1962).

    Args:
        path: The record file.
        folder: Folder for its share of each bucket, files `0`, `1`, ...
        buckets: Number of buckets.
        seed: Seed of the deal.
    """
    rng = np.random.default_rng(seed)
    with atomic_output(folder) as local, ExitStack() as stack:
        local.mkdir()
        writers = [stack.enter_context(tf.io.TFRecordWriter(os.fspath(local / str(b)))) for b in range(buckets)]
        for examples in _read(path):
            for example, bucket in zip(examples, rng.integers(buckets, size=len(examples)).tolist(), strict=True):
                writers[bucket].write(example)


def gather(folders: Sequence[str], target: Path, *, buckets: Sequence[int], seed: Sequence[int]) -> int:
    """Write a record file of whole buckets, each in random order.

    Args:
        folders: What `scatter` wrote, in the order of the files.
        target: Local path of the new file.
        buckets: Numbers of the buckets.
        seed: Seed of the order.

    Returns:
        The number of examples.
    """
    rng, count = np.random.default_rng(seed), 0
    with tf.io.TFRecordWriter(os.fspath(target)) as writer:
        for bucket in buckets:
            examples = [example for folder in folders for part in _read(join(folder, str(bucket))) for example in part]
            for index in rng.permutation(len(examples)).tolist():
                writer.write(examples[index])
            count += len(examples)
    return count


def _read(path: str) -> Iterator[list[bytes]]:
    return (batch.tolist() for batch in tf.data.TFRecordDataset(path).batch(_READ_TOGETHER).as_numpy_iterator())
