"""Reads record files as batches of arrays for `fit()`, on any backend and without TensorFlow."""

import functools
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from tibert_keras.records.masking import DynamicMasking
from tibert_keras.records.reader import ExampleReader
from tibert_keras.records.serialization import MAX_IDS, MAX_SEGMENTS, feature_sizes

# KerasHub's input names, and the features of Google's schema that they are read from.
_INPUTS = {
    "token_ids": "input_ids",
    "padding_mask": "input_mask",
    "segment_ids": "segment_ids",
    "mask_positions": "masked_lm_positions",
}


@dataclass(frozen=True, kw_only=True)
class RecordFiles:
    """Record files as their readers see them; for the attributes see `Records`."""

    paths: list[str]
    num_examples: int
    max_seq_length: int
    max_predictions_per_seq: int
    num_ids: int = MAX_IDS
    num_segments: int = MAX_SEGMENTS

    def sizes(self, sop: bool) -> dict[str, int]:
        """Return the number of values of each feature to read, that of the sentence order only with `sop`."""
        sizes = feature_sizes(self.max_seq_length, self.max_predictions_per_seq)
        return {name: count for name, count in sizes.items() if sop or name != "next_sentence_labels"}

    def num_batches(self, batch_size: int, drop_remainder: bool = False) -> int:
        """Return the number of batches of an epoch."""
        return self.num_examples // batch_size if drop_remainder else -(-self.num_examples // batch_size)

    def reader(self, sop: bool) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
        """Return a reader of examples by their numbers."""
        return ExampleReader(self.paths, self.sizes(sop), num_ids=self.num_ids, num_segments=self.num_segments).read

    def in_order(self, batch_size: int, sop: bool) -> Callable[[int], Any]:
        """Return a reader of batches, by their numbers, of the examples as they stand in the files."""
        read = self.reader(sop)
        return lambda index: as_inputs(
            read(np.arange(index * batch_size, min((index + 1) * batch_size, self.num_examples)))
        )

    def numpy_batches(self, batch_size: int, *, sop: bool = False) -> Iterator[Any]:
        """Read the batches of `Records.evaluation_batches`, as arrays on any backend."""
        return map(self.in_order(batch_size, sop), range(self.num_batches(batch_size)))


def training_batches(
    files: RecordFiles, batch_size: int, *, seed: int, start_step: int, sop: bool, masking: DynamicMasking | None
) -> Any:
    """Make the `PyDataset` of `Records.training_batches`."""
    read = files.reader(sop)

    def batch(index: int) -> Any:
        first = (start_step + index) * batch_size
        features = read(shuffled_numbers(first, batch_size, num_examples=files.num_examples, seed=seed))
        return as_inputs(features if masking is None else masking(features, first))

    return keras_batches(batch, None)


def evaluation_batches(files: RecordFiles, batch_size: int, *, drop_remainder: bool, sop: bool) -> Any:
    """Make the `PyDataset` of `Records.evaluation_batches`."""
    return keras_batches(files.in_order(batch_size, sop), files.num_batches(batch_size, drop_remainder))


def as_inputs(features: Mapping[str, Any], *, cast: Callable[[Any, str], Any] = np.asarray) -> Any:
    """Return `(x, y, sample_weight)`, as `Records.training_batches` describes it, from features of Google's schema.

    They are arrays or tensors `[batch, values]`, with the sentence order if it is wanted; `cast` is `tf.cast` for
    tensors.
    """
    x = {name: cast(features[feature], "int32") for name, feature in _INPUTS.items()}
    labels, weights = cast(features["masked_lm_ids"], "int32"), features["masked_lm_weights"]
    if "next_sentence_labels" not in features:
        return x, labels, weights
    order = cast(features["next_sentence_labels"][:, 0], "int32")
    ones = cast(order >= 0, "float32")
    return x, {"masked_lm": labels, "sentence_order": order}, {"masked_lm": weights, "sentence_order": ones}


def shuffled_numbers(first: int, count: int, *, num_examples: int, seed: int) -> np.ndarray:
    """Return the numbers of `count` examples, from the `first` on, in an endless stream of epochs, int64 `[count]`.

    Each epoch holds every example once, in an order that depends on the seed and the epoch alone.
    """
    epochs, places = np.divmod(np.arange(first, first + count), num_examples)
    return np.concatenate(
        [_order(num_examples, seed, epoch)[places[epochs == epoch]] for epoch in np.unique(epochs).tolist()]
    )


# Of two epochs, because a batch may end in the one after that in which it begins.
@functools.lru_cache(maxsize=2)
def _order(num_examples: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(num_examples)


def keras_batches(read: Callable[[int], Any], num_batches: int | None) -> Any:
    """Make a `keras.utils.PyDataset` of batches that are read by number, each while the one before is in use.

    `num_batches` is `None` if they never end. As a `tf.data.Dataset`, it has a method `take`.
    """
    import keras

    class Batches(keras.utils.PyDataset):
        def __init__(self) -> None:
            super().__init__()
            self._thread = ThreadPoolExecutor(1, "records")
            self._ahead: dict[int, Future[Any]] = {}

        @property
        def num_batches(self) -> int | None:
            return num_batches

        def __getitem__(self, index: int) -> Any:
            ahead = self._ahead.pop(index, None)
            batch = read(index) if ahead is None else ahead.result()
            if index + 1 != num_batches:
                self._ahead = {index + 1: self._thread.submit(read, index + 1)}
            return batch

        def take(self, count: int) -> Any:
            """Return the first batches alone."""
            return keras_batches(read, count if num_batches is None else min(count, num_batches))

    return Batches()
