"""Finds record files, and reads them as batches for training and evaluation."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from tibert_keras.errors import InputError
from tibert_keras.records import batches, tensorflow_batches
from tibert_keras.records.manifest import Manifest, refuse_other_tokenizer
from tibert_keras.records.masking import DynamicMasking, MaskingPolicy
from tibert_keras.records.reader import find_records, open_records
from tibert_keras.records.serialization import MAX_IDS, SHAPE, example_shape, feature_dtype, read_records
from tibert_keras.storage import expand_glob, is_remote, size


@dataclass(frozen=True, kw_only=True)
class Records(batches.RecordFiles):
    """A set of record files that belong together.

    Attributes:
        paths: The files, sorted.
        num_examples: Examples in all of them.
        max_seq_length: Length of every sequence.
        max_predictions_per_seq: Prediction slots of every sequence.
        tokenizer: The manifest's entry of the tokenizer (`sha256`, `vocabulary_size` and its options), or
            `None` without a manifest, as with Google's records.
        masking: The options of `MaskingPolicy` in the manifests; empty without one, or if they differ.
        sop: Whether all have two segments, swapped in half of the cases; `None` if a manifest is missing
            or does not say so.
        num_ids: The number of token ids, if it is known. Examples with others are refused when they are read.
        num_segments: The number of segments, if it is known.
    """

    tokenizer: dict[str, Any] | None
    masking: dict[str, Any]
    sop: bool | None

    @classmethod
    def find(cls, pattern: str) -> Self:
        """Find record files, by a path, a glob pattern, or several separated by commas, and read their sizes.

        These are read from the manifests or, without one, from the files. Files that are damaged, do not match their
        manifest, or differ in shape or tokenizer are an `InputError`. Of a file in a manifest only the size is checked.
        """
        # Files of the working directory need a folder too.
        paths = [path if os.path.dirname(path) else f"./{path}" for path in expand_glob(pattern)]
        manifests = {folder: Manifest.read(folder) for folder in {os.path.dirname(path) for path in paths}}
        num_examples = 0
        kinds: list[tuple[dict[str, int], dict[str, Any] | None]] = []
        for path in paths:
            if (manifest := manifests[os.path.dirname(path)]) is None:
                num_examples += count_examples(path)
                kinds.append((example_shape(path), None))
            else:
                num_examples += _listed_examples(path, manifest)
                slots = MaskingPolicy(**manifest.options_of(MaskingPolicy)).prediction_slots
                shape = dict(zip(SHAPE, [manifest.options["max_seq_length"], slots], strict=True))
                kinds.append((shape, manifest.tokenizer))
        _refuse_differences(paths, [shape | (tokenizer or {}) for shape, tokenizer in kinds])
        shape, tokenizer = kinds[0]
        masked = [manifest.options_of(MaskingPolicy) if manifest else {} for manifest in manifests.values()]
        known = [manifest and manifest.options.get("sop") for manifest in manifests.values()]
        return cls(
            paths=paths,
            num_examples=num_examples,
            tokenizer=tokenizer,
            masking=masked[0] if all(each == masked[0] for each in masked) else {},
            sop=None if None in known else all(known),
            num_ids=MAX_IDS if tokenizer is None else tokenizer["vocabulary_size"],
            **shape,
        )

    def check(self, *, max_seq_length: int, max_predictions_per_seq: int, vocabulary_size: int) -> None:
        """Refuse records that do not fit a model of these sizes; its vocabulary may be larger than the tokenizer's."""
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
        """Refuse a SentencePiece model other than the one of the records, if their manifest records which it was."""
        refuse_other_tokenizer(self.tokenizer, proto, folder=os.path.dirname(self.paths[0]))

    def training_batches(
        self,
        batch_size: int,
        *,
        seed: int,
        start_step: int = 0,
        sop: bool = False,
        masking: DynamicMasking | None = None,
    ) -> Any:
        """Make an endless stream of batches, shuffled anew each epoch, that can start at any step.

        The order depends on the seed and the epoch alone, so a resumed run sees the same batches. On TensorFlow each
        epoch reads the files in another order, several at a time, and shuffles the examples in a buffer. On other
        backends, which need no TensorFlow for it, each epoch shuffles all examples, and no start takes longer than
        another.

        Args:
            batch_size: Examples in a batch, over all replicas.
            seed: Seed of the order.
            start_step: Number of batches to skip.
            sop: Add the labels of the sentence order, for `TibertPretraining`.
            masking: Draws other masks in each epoch, in place of those of the records.

        Returns:
            A `tf.data.Dataset` or, on other backends, a `keras.utils.PyDataset` of batches `(x, y, sample_weight)`
            with static shapes: `x` has int32 `token_ids`, `padding_mask` and `segment_ids` `[batch, max_seq_length]`
            and `mask_positions` `[batch, max_predictions_per_seq]`; `y` and `sample_weight` are the labels (int32) and
            their weights (float32), shaped like `mask_positions`. With `sop` both are dictionaries of these as
            `masked_lm`, and `sentence_order` `[batch]`: 1 where the two segments are swapped, with weights of 1.
        """
        options = {"seed": seed, "start_step": start_step, "sop": sop, "masking": masking}
        return _batches_of_backend().training_batches(self, batch_size, **options)

    def evaluation_batches(self, batch_size: int, *, drop_remainder: bool = False, sop: bool = False) -> Any:
        """Read the examples once, in order, as batches like those of `training_batches`.

        With `drop_remainder`, a last batch that is smaller is left out, so that shapes are static.
        """
        return _batches_of_backend().evaluation_batches(self, batch_size, drop_remainder=drop_remainder, sop=sop)

    def empty_batch(self, batch_size: int, *, sop: bool = False) -> tuple[dict[str, np.ndarray], Any, Any]:
        """Make a batch of zeros, of the shapes and types of `training_batches`."""
        sizes = self.sizes(sop).items()
        return batches.as_inputs({name: np.zeros((batch_size, count), feature_dtype(name)) for name, count in sizes})


def _batches_of_backend() -> Any:
    import keras

    return tensorflow_batches if keras.backend.backend() == "tensorflow" else batches


def _refuse_differences(paths: list[str], kinds: list[dict[str, Any]]) -> None:
    for path, kind in zip(paths, kinds, strict=True):
        for name in {**kinds[0], **kind}:
            if kind.get(name) != kinds[0].get(name):
                raise InputError(
                    f"The record files are not of one kind. Received: {name}={kinds[0].get(name)!r} for {paths[0]!r}, "
                    f"{kind.get(name)!r} for {path!r}. Give files that were made with the same options."
                )


def _listed_examples(path: str, manifest: Manifest) -> int:
    name = Path(path).name
    if name not in manifest.files:
        raise InputError(
            f"The record file is not in the manifest beside it. Received: {path!r}. Build the records again."
        )
    listed, found = manifest.files[name], {"bytes": size(path)}
    if not is_remote(path):
        # Raises an error with the index if an example is cut short.
        with open_records(path) as file:
            found["examples"] = len(find_records(file, path=path))
    for what, count in found.items():
        if count != listed[what]:
            raise InputError(
                f"The record file is not the one in the manifest beside it. Received: {path!r} of {count} {what}, "
                f"{listed[what]} in the manifest. Build the records again."
            )
    return listed["examples"]


def count_examples(path: str) -> int:
    """Count the examples in a record file by reading it; an empty or damaged one is an `InputError`."""
    count = sum(1 for _ in read_records(path))
    if count == 0:
        raise InputError(f"The record file holds no example. Received: {path!r}.")
    return count
