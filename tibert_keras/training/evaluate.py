"""Evaluation of a masked language model on held-out records."""

from __future__ import annotations

import keras
import numpy as np

from tibert_keras.errors import InputError
from tibert_keras.models.tibert_masked_lm import TibertMaskedLM
from tibert_keras.optimizers.losses import MaskedLanguageModelLoss
from tibert_keras.records.pipeline import Records
from tibert_keras.training.sources import check_records, naming_damage


def evaluate(model: TibertMaskedLM, records: Records, *, batch_size: int = 64) -> dict[str, float]:
    """Evaluate a model on all masked tokens of record files.

    Args:
        model: The model. It is compiled anew: what it was compiled with, an optimizer's state too, is lost.
        records: Held-out records of the model's vocabulary.
        batch_size: Examples a step.

    Returns:
        `loss`: cross-entropy of the masked tokens, in nats. `accuracy` and `top_5_accuracy`: how often the right
        piece is the first, or among the first five. `unigram_entropy`: entropy of the masked tokens under their own
        frequencies, in nats, the loss of a model that knows no context. `nats_below_unigram`: how far the loss is
        below it. `masked_tokens`: how many there were.

    Raises:
        InputError: If the records are of another tokenizer or longer than the model's positions, or a file is damaged.

    Example:
    ```python
    model = TibertMaskedLM.from_preset("run/champion")
    evaluate(model, Records.find("records/validation_*.tf_record"))["accuracy"]
    ```
    """
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1. Received: batch_size={batch_size}.")
    check_records(
        records,
        model,
        max_seq_length=records.max_seq_length,
        max_predictions_per_seq=records.max_predictions_per_seq,
    )
    model.compile(
        loss=MaskedLanguageModelLoss(),
        # As metrics they are averages over all masked tokens, whatever the batches they came in.
        weighted_metrics=[
            keras.metrics.SparseCategoricalCrossentropy(name="cross_entropy", from_logits=True),
            keras.metrics.SparseCategoricalAccuracy(name="accuracy"),
            keras.metrics.SparseTopKCategoricalAccuracy(5, name="top_5_accuracy"),
        ],
    )
    # The records bring token ids, where the preprocessor would have text.
    preprocessor, model.preprocessor = model.preprocessor, None
    counts = np.zeros(model.backbone.vocabulary_size, np.int64)
    try:
        with naming_damage(records):
            scores = model.evaluate(records.evaluation_batches(batch_size), return_dict=True, verbose=0)
            for _, labels, weights in records.evaluation_batches(1024).as_numpy_iterator():
                counts += np.bincount(labels[weights > 0], minlength=len(counts))
    finally:
        model.preprocessor = preprocessor
    shares = counts[counts > 0] / counts.sum()
    entropy = float(-(shares * np.log(shares)).sum())
    return {
        "loss": float(scores["cross_entropy"]),
        "accuracy": float(scores["accuracy"]),
        "top_5_accuracy": float(scores["top_5_accuracy"]),
        "unigram_entropy": entropy,
        "nats_below_unigram": entropy - float(scores["cross_entropy"]),
        "masked_tokens": int(counts.sum()),
    }
