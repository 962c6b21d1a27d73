"""Whether records and a model belong together, and where a record file is damaged."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from contextlib import contextmanager

from tibert_keras.errors import InputError
from tibert_keras.models.tibert_masked_lm import TibertMaskedLM
from tibert_keras.models.tibert_pretraining import TibertPretraining
from tibert_keras.records.pipeline import Records, count_examples


def check_records(
    records: Records, model: TibertMaskedLM, *, max_seq_length: int, max_predictions_per_seq: int
) -> None:
    """Check that records are of a model's tokenizer, sizes and tasks.

    Raises:
        InputError: If they are not, with both values.
    """
    vocabulary_size, positions = model.backbone.vocabulary_size, model.backbone.max_sequence_length
    if max_seq_length > positions:
        raise InputError(
            "The sequences are longer than the model's positions. "
            f"Received: max_seq_length={max_seq_length}, positions={positions}. Give shorter records or a larger model."
        )
    if model.preprocessor is not None:
        records.check_tokenizer(model.preprocessor.tokenizer.proto)
    records.check(
        max_seq_length=max_seq_length,
        max_predictions_per_seq=max_predictions_per_seq,
        vocabulary_size=vocabulary_size,
    )
    if isinstance(model, TibertPretraining) and records.sop is False:
        raise InputError(
            "The records hold no pairs of segments whose order could be learnt. Received: sop=True, and records made "
            f"with sop=False in {os.path.dirname(records.paths[0])!r}. Make records with --sop, or train without."
        )
    if records.tokenizer is None:
        # Nobody says what vocabulary they are of, but a larger one shows at once. A GPU would not complain.
        with naming_damage(records):
            x, labels, _ = next(records.evaluation_batches(64).as_numpy_iterator())
        largest = max(x["token_ids"].max(), labels.max())
        if largest >= vocabulary_size:
            raise InputError(
                f"The records are of a larger vocabulary. Received: token id {largest} in {records.paths[0]!r}, "
                f"vocabulary size {vocabulary_size} for the model. Give the model or tokenizer of the records."
            )


@contextmanager
def naming_damage(*sources: Records | None) -> Iterator[None]:
    """Say which file is damaged, and at which example: TensorFlow's own errors say neither.

    Raises:
        InputError: In place of TensorFlow's error, if a damaged example is found.
    """
    import tensorflow as tf

    try:
        yield
    except (tf.errors.DataLossError, tf.errors.InvalidArgumentError):
        for source in filter(None, sources):
            for path in source.paths:
                _check_file(dataclasses.replace(source, paths=[path], num_examples=count_examples(path)))
        raise


def _check_file(records: Records) -> None:
    """Parse example by example; that none is cut short is known by now."""
    import tensorflow as tf

    index = 0
    try:
        for _ in records.evaluation_batches(1):
            index += 1
    except tf.errors.InvalidArgumentError as error:
        raise InputError(
            f"Example {index} of the record file is not like the others. Received: {records.paths[0]!r}, where "
            f"sequences are to have {records.max_seq_length} tokens and {records.max_predictions_per_seq} predictions. "
            "Build it again, or leave it out."
        ) from error
