"""Find record files, and read them as batches for training and evaluation with `tf.data`."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tibert_keras.errors import InputError
from tibert_keras.records.manifest import Manifest, refuse_other_tokenizer
from tibert_keras.records.masking import MaskingPolicy
from tibert_keras.records.serialization import SHAPE, check_lengths, example_shape, feature_sizes, read_records
from tibert_keras.storage import expand_glob, is_remote, size

if TYPE_CHECKING:
    import tensorflow as tf

# Serialized examples are about 1 kB each, so the buffer is about 100 MB.
_SHUFFLE_BUFFER = 100_000
_FILES_READ_TOGETHER = 8
# Far more than any model has.
_MOST_SEGMENTS = 1 << 10


@dataclass(frozen=True, kw_only=True)
class Records:
    """A set of record files that belong together.

    Attributes:
        paths: The files, sorted.
        num_examples: Examples in all of them.
        max_seq_length: Length of every sequence.
        max_predictions_per_seq: Prediction slots of every sequence.
        tokenizer: The manifest's entry of the tokenizer (`sha256`, `vocabulary_size` and its options), or
            `None` without a manifest, as with Google's records.
        masking: The options of `MaskingPolicy` in the manifest of the first file; empty without one.
        sop: Whether all have two segments, swapped in half of the cases; `None` if a manifest is missing
            or does not say so.
    """

    paths: list[str]
    num_examples: int
    max_seq_length: int
    max_predictions_per_seq: int
    tokenizer: dict[str, Any] | None
    masking: dict[str, Any]
    sop: bool | None

    @classmethod
    def find(cls, pattern: str) -> Records:
        """Find record files, and read what they hold from their manifests or, without one, from the files.

        Args:
            pattern: A path, a glob pattern, or several separated by commas.

        Raises:
            InputError: If there is no file, one is damaged or does not match its manifest, or they differ in shape
                or tokenizer. Of a file in a manifest only the size is checked.
        """
        # Files of the working directory need a folder too.
        paths = [path if os.path.dirname(path) else f"./{path}" for path in expand_glob(pattern)]
        manifests = {folder: Manifest.read(folder) for folder in {os.path.dirname(path) for path in paths}}
        num_examples = 0
        shapes: list[dict[str, int]] = []
        tokenizers: list[dict[str, Any] | None] = []
        for path in paths:
            manifest = manifests[os.path.dirname(path)]
            if manifest is None:
                num_examples += count_examples(path)
                shapes.append(example_shape(path))
                tokenizers.append(None)
            else:
                num_examples += _listed_examples(path, manifest)
                slots = MaskingPolicy(**_masking(manifest)).prediction_slots
                shapes.append(dict(zip(SHAPE, [manifest.options["max_seq_length"], slots], strict=True)))
                tokenizers.append(manifest.tokenizer)
        _refuse_differences(paths, [shape | (known or {}) for shape, known in zip(shapes, tokenizers, strict=True)])
        first = manifests[os.path.dirname(paths[0])]
        masking = _masking(first) if first else {}
        known = [manifest and manifest.options.get("sop") for manifest in manifests.values()]
        sop = None if None in known else all(known)
        return cls(
            paths=paths, num_examples=num_examples, tokenizer=tokenizers[0], masking=masking, sop=sop, **shapes[0]
        )

    def check(self, *, max_seq_length: int, max_predictions_per_seq: int, vocabulary_size: int) -> None:
        """Check that the records fit a model of these sizes, whose vocabulary may be larger than their tokenizer's.

        Raises:
            InputError: If they do not, with both values.
        """
        wanted = {
            "max_seq_length": (self.max_seq_length, max_seq_length),
            "max_predictions_per_seq": (self.max_predictions_per_seq, max_predictions_per_seq),
        }
        if self.tokenizer is not None and self.tokenizer["vocabulary_size"] > vocabulary_size:
            wanted["vocabulary size"] = (self.tokenizer["vocabulary_size"], vocabulary_size)
        for name, (theirs, ours) in wanted.items():
            if theirs != ours:
                raise InputError(
                    f"The records and the model disagree. Received: {name}={theirs} in the records of "
                    f"{os.path.dirname(self.paths[0])!r}, {ours} for the model. Give matching records or options."
                )

    def check_tokenizer(self, proto: bytes) -> None:
        """Check that the records were made with this SentencePiece model, if their manifest records which it was.

        Raises:
            InputError: If they were made with another, with both hashes.
        """
        refuse_other_tokenizer(self.tokenizer, proto, folder=os.path.dirname(self.paths[0]))

    def training_batches(
        self, batch_size: int, *, seed: int, start_step: int = 0, sop: bool = False
    ) -> tf.data.Dataset:
        """Make an endless stream of batches, shuffled anew each epoch, that can start at any step.

        Each epoch reads the files in another order, several at a time, and shuffles the examples in a buffer. The
        order depends on the seed and the epoch alone, so a resumed run sees the same batches.

        Args:
            batch_size: Examples in a batch, over all replicas.
            seed: Seed of the order.
            start_step: Number of batches to skip.
            sop: Add the labels of the sentence order, for `TibertPretraining`.

        Returns:
            Batches of `(x, y, sample_weight)` with static shapes: `x` has int32 `token_ids`, `padding_mask` and
            `segment_ids` `[batch, max_seq_length]` and `mask_positions` `[batch, max_predictions_per_seq]`;
            `y` and `sample_weight` are the labels (int32) and their weights (float32), shaped like `mask_positions`.
            With `sop` both are dictionaries of these as `masked_lm`, and `sentence_order` `[batch]`: 1 where the two
            segments are swapped, with weights of 1.
        """
        import tensorflow as tf

        start_epoch, passed = divmod(start_step * batch_size, self.num_examples)

        def epoch(number: tf.Tensor) -> tf.data.Dataset:
            # `shuffle` combines the seed of the process, or here of the graph, with its own, and fails if both are 0.
            tf.compat.v1.set_random_seed(1)
            files = tf.random.experimental.stateless_shuffle(self.paths, seed=[seed, number])
            examples = tf.data.Dataset.from_tensor_slices(files).interleave(
                tf.data.TFRecordDataset,
                cycle_length=_FILES_READ_TOGETHER,
                block_length=16,
                num_parallel_calls=tf.data.AUTOTUNE,
                deterministic=True,
            )
            order = tf.random.stateless_uniform([], seed=[seed, number], maxval=tf.int32.max, dtype=tf.int32)
            return examples.shuffle(min(_SHUFFLE_BUFFER, self.num_examples), seed=tf.cast(order, tf.int64))

        examples = tf.data.Dataset.range(start_epoch, tf.int64.max).flat_map(epoch).skip(passed)
        return self._batches(examples, batch_size, drop_remainder=True, sop=sop)

    def evaluation_batches(
        self, batch_size: int, *, drop_remainder: bool = False, sop: bool = False
    ) -> tf.data.Dataset:
        """Read the examples once, in order, as batches like those of `training_batches`.

        Args:
            batch_size: Examples in a batch.
            drop_remainder: Leave out the last batch if it is smaller, so that shapes are static.
            sop: Add the labels of the sentence order.
        """
        import tensorflow as tf

        examples = tf.data.TFRecordDataset(self.paths)
        batches = self._batches(examples, batch_size, drop_remainder=drop_remainder, sop=sop)
        count = self.num_examples / batch_size
        # Without a cardinality Keras warns when the data ends.
        cardinality = tf.data.experimental.assert_cardinality(math.floor(count) if drop_remainder else math.ceil(count))
        return batches.apply(cardinality)

    def _batches(
        self, examples: tf.data.Dataset, batch_size: int, *, drop_remainder: bool, sop: bool
    ) -> tf.data.Dataset:
        import tensorflow as tf

        features = {
            name: tf.io.FixedLenFeature([size], tf.float32 if name == "masked_lm_weights" else tf.int64)
            for name, size in feature_sizes(self.max_seq_length, self.max_predictions_per_seq).items()
            if sop or name != "next_sentence_labels"
        }

        def parse(serialized: tf.Tensor) -> tuple[dict[str, tf.Tensor], Any, Any]:
            # Parsing whole batches is several times as fast as parsing single examples.
            parsed = tf.io.parse_example(serialized, features)
            self._check_values(parsed)
            x = {name: tf.cast(parsed[feature], "int32") for name, feature in _INPUTS.items()}
            labels, weights = tf.cast(parsed["masked_lm_ids"], "int32"), parsed["masked_lm_weights"]
            if not sop:
                return x, labels, weights
            order = tf.cast(parsed["next_sentence_labels"][:, 0], "int32")
            return (
                x,
                {"masked_lm": labels, "sentence_order": order},
                {"masked_lm": weights, "sentence_order": tf.ones_like(order, "float32")},
            )

        # Each of several workers takes its part of every batch, and not, as by default, some of the files.
        options = tf.data.Options()
        options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
        batches = examples.batch(batch_size, drop_remainder=drop_remainder).with_options(options)
        return batches.map(parse, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)

    def _check_values(self, parsed: dict[str, tf.Tensor]) -> None:
        """Check the values of a batch in the graph. XLA and GPUs take ids beyond a table without complaint."""
        import tensorflow as tf

        pieces = (self.tokenizer or {}).get("vocabulary_size", tf.int32.max)
        limits = {"input_ids": pieces, "masked_lm_ids": pieces, "masked_lm_positions": self.max_seq_length}
        limits |= {"input_mask": 2, "next_sentence_labels": 2, "segment_ids": _MOST_SEGMENTS}
        for name in limits.keys() & parsed.keys():
            tf.debugging.Assert(
                tf.reduce_all((parsed[name] >= 0) & (parsed[name] < limits[name])),
                [f"{name} must be from 0 to {limits[name] - 1}."],
            )
        weights = parsed["masked_lm_weights"]
        tf.debugging.Assert(
            tf.reduce_all((weights >= 0) & (weights < math.inf)),
            ["masked_lm_weights must be finite and not negative."],
        )


# KerasHub's input names, and the features of Google's schema that they are read from.
_INPUTS = {
    "token_ids": "input_ids",
    "padding_mask": "input_mask",
    "segment_ids": "segment_ids",
    "mask_positions": "masked_lm_positions",
}


def _refuse_differences(paths: list[str], kinds: list[dict[str, Any]]) -> None:
    for path, kind in zip(paths, kinds, strict=True):
        for name in {**kinds[0], **kind}:
            if kind.get(name) != kinds[0].get(name):
                raise InputError(
                    f"The record files are not of one kind. Received: {name}={kinds[0].get(name)!r} for {paths[0]!r}, "
                    f"{kind.get(name)!r} for {path!r}. Give files that were made with the same options."
                )


def _masking(manifest: Manifest) -> dict[str, Any]:
    names = [field.name for field in fields(MaskingPolicy)]
    return {name: manifest.options[name] for name in names if name in manifest.options}


def _listed_examples(path: str, manifest: Manifest) -> int:
    name = Path(path).name
    if name not in manifest.files:
        raise InputError(
            f"The record file is not in the manifest beside it. Received: {path!r}. Build the records again."
        )
    listed = manifest.files[name]
    found = size(path)
    if found != listed["bytes"]:
        count_examples(path)  # Raises an error with the index if an example is damaged.
        raise InputError(
            f"The record file is not the one in the manifest beside it. Received: {path!r} of {found} bytes, "
            f"{listed['bytes']} in the manifest. Build the records again."
        )
    if not is_remote(path):
        check_lengths(path)
    return listed["examples"]


def count_examples(path: str) -> int:
    """Count the examples in a record file by reading it.

    Raises:
        InputError: If the file is cut short or damaged (with the index of the example), or holds none.
    """
    count = sum(1 for _ in read_records(path))
    if count == 0:
        raise InputError(f"The record file holds no example. Received: {path!r}.")
    return count
