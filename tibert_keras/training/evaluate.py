"""Evaluates masked language models on held-out records, with Keras and with transformers, and checks that they fit."""

import dataclasses
import math
import os
import tempfile
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tibert_keras.errors import InputError
from tibert_keras.lazy import tf
from tibert_keras.models.tibert_masked_lm import TibertMaskedLM
from tibert_keras.models.tibert_pretraining import TibertPretraining
from tibert_keras.records.pipeline import Records, count_examples
from tibert_keras.training.guesses import MaskedPlaces, model_guesses, ngram_ranks, syllable_ranks

# Float32 rounds the mean of many losses to about 1e-6.
LOSS_TOLERANCE = 1e-3


def evaluate(
    model: TibertMaskedLM, records: Records, *, batch_size: int = 64, baseline: Records | None = None
) -> dict[str, float]:
    """Evaluate a model on all masked tokens of record files.

    A masked token may also be shown as it is, or as another: [MASK] hides 80% of them by default. The figures of the
    hidden ones tell what a model makes of their context.

    Args:
        model: The model.
        records: Held-out records of the model's vocabulary.
        batch_size: Examples in a batch.
        baseline: Records, usually those that the model was trained on, of which n-grams are counted to guess the hidden
            tokens too.

    Returns:
        `loss`: cross-entropy of the masked tokens, in nats. `accuracy` and `top_5_accuracy`: how often the right
        piece is the first, or among the first five. `unigram_entropy`: entropy of the masked tokens under their own
        frequencies, in nats, which is the loss of a model that ignores the context. `nats_below_unigram`: how far the
        loss is below it. `masked_tokens`: their number.

        If the model has a preprocessor, which knows [MASK], also `hidden_loss`, `hidden_accuracy`,
        `hidden_top_5_accuracy` and `hidden_tokens`: the same for the hidden tokens alone; and `syllable_accuracy`,
        `syllable_top_5_accuracy` and `hidden_syllables`: for the syllables all of whose tokens are hidden. All of them
        must be first; of several, the product of their ranks must be five at most.

        With a `baseline` also `baseline_accuracy`, `baseline_top_5_accuracy`, `baseline_syllable_accuracy` and
        `baseline_syllable_top_5_accuracy`: what n-grams make of the hidden tokens and syllables.

    Raises:
        InputError: If the records are of another tokenizer or longer than the model's positions, a file is damaged, or
            a baseline is wanted for a model without a preprocessor.
    """
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1. Received: batch_size={batch_size}.")
    records = check_records(records, model)
    if baseline is not None:
        baseline = check_records(baseline, model)
        if model.preprocessor is None:
            raise InputError(
                "The baseline guesses the tokens that [MASK] hides, and only a tokenizer knows [MASK]. "
                "Received: baseline, and a model without a preprocessor. Give one with its tokenizer."
            )
    tokens, losses, ranks = model_guesses(model, records, batch_size=batch_size)
    scores = _scores(tokens, losses, ranks)
    if model.preprocessor is None:
        return scores
    tokenizer = model.preprocessor.tokenizer
    hidden = tokens.shown == tokenizer.mask_token_id
    starts = tokenizer.starts_syllable(tokens.original)
    syllables = syllable_ranks(tokens, ranks, hidden, starts)
    scores |= {
        "hidden_loss": _mean(losses[hidden]),
        **_shares("hidden_", ranks[hidden]),
        **_shares("syllable_", syllables),
        "hidden_tokens": int(hidden.sum()),
        "hidden_syllables": len(syllables),
    }
    if baseline is not None:
        ranks = ngram_ranks(tokens, baseline, num_ids=model.backbone.vocabulary_size)
        scores |= _shares("baseline_", ranks[hidden])
        scores |= _shares("baseline_syllable_", syllable_ranks(tokens, ranks, hidden, starts))
    return scores


def _scores(tokens: MaskedPlaces, losses: np.ndarray, ranks: np.ndarray) -> dict[str, float]:
    counts = np.bincount(tokens.labels)
    shares = counts[counts > 0] / counts.sum()
    entropy = float(-(shares * np.log(shares)).sum())
    loss = _mean(losses)
    return {
        "loss": loss,
        **_shares("", ranks),
        "unigram_entropy": entropy,
        "nats_below_unigram": entropy - loss,
        "masked_tokens": len(ranks),
    }


def _shares(prefix: str, ranks: np.ndarray) -> dict[str, float]:
    return {f"{prefix}accuracy": _mean(ranks == 1), f"{prefix}top_5_accuracy": _mean(ranks <= 5)}


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else math.nan


# === Whether records fit a model ===
def check_records(
    records: Records,
    model: TibertMaskedLM,
    *,
    max_seq_length: int | None = None,
    max_predictions_per_seq: int | None = None,
) -> Records:
    """Check that records fit a model's tokenizer, sizes and tasks, as far as it shows before all of them are read.

    The lengths that their sequences and predictions should have are any by default. Reading the records that are
    returned raises an error at an id or a segment that the model does not know.
    """
    max_seq_length = max_seq_length or records.max_seq_length
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
        max_predictions_per_seq=max_predictions_per_seq or records.max_predictions_per_seq,
        vocabulary_size=vocabulary_size,
    )
    if isinstance(model, TibertPretraining) and records.sop is False:
        raise InputError(
            "The records hold no pairs of segments whose order could be learned. Received: sop=True, and records made "
            f"with sop=False in {os.path.dirname(records.paths[0])!r}. Make records with --sop, or train without."
        )
    if records.tokenizer is None:
        # No manifest tells the vocabulary, but a larger one shows at once.
        x, labels, _ = next(records.numpy_batches(64))
        largest = max(x["token_ids"].max(), labels.max())
        if largest >= vocabulary_size:
            raise InputError(
                f"The records are of a larger vocabulary. Received: token id {largest} in {records.paths[0]!r}, "
                f"vocabulary size {vocabulary_size} for the model. Give the model or tokenizer of the records."
            )
    # A GPU looks up ids beyond a table without complaint.
    num_ids, num_segments = min(records.num_ids, vocabulary_size), model.backbone.num_segments
    return dataclasses.replace(records, num_ids=num_ids, num_segments=num_segments)


@contextmanager
def reporting_damaged_records(*sources: Records | None, sop: bool = False) -> Iterator[None]:
    """Report which file is damaged, and at which example; TensorFlow's own errors do not.

    With `sop`, the labels of the sentence order are read too.
    """
    if keras.backend.backend() != "tensorflow":
        # Only our own reader reads records there.
        yield
        return
    try:
        yield
    # Drawing masks in Python fails with an unknown error.
    except (tf.errors.DataLossError, tf.errors.InvalidArgumentError, tf.errors.UnknownError):
        for source in filter(None, sources):
            for path in source.paths:
                # It may have grown since it was found.
                whole = dataclasses.replace(source, paths=[path], num_examples=count_examples(path))
                deque(whole.numpy_batches(64, sop=sop), maxlen=0)
        raise


# === Comparison with transformers, by which the original project validated its conversions ===
def require_transformers() -> None:
    """Check that torch and transformers are installed; raises `InputError` if not."""
    try:
        import torch  # noqa: F401
        import transformers  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"An evaluation against huggingface takes torch and transformers. Received: {error}. "
            "Run `pip install torch transformers`."
        ) from error


def hugging_face_loss(model: str | os.PathLike[str], records: Records, *, batch_size: int = 64) -> float:
    """Export a preset or a run's champion, load it as transformers' `AutoModelForMaskedLM`, and measure its loss there.

    Returns the cross-entropy of the masked tokens, in nats, which should equal the `loss` of `evaluate`.
    """
    require_transformers()
    import torch
    from transformers import AutoModelForMaskedLM

    from tibert_keras.formats.hugging_face import write_hugging_face
    from tibert_keras.formats.portable import read_keras

    portable = read_keras(os.fspath(model))
    if not isinstance(portable.model, TibertMaskedLM):
        raise InputError(f"The model predicts no masked tokens. Received: {os.fspath(model)!r}. Give a whole one.")
    records = check_records(records, portable.model)
    with tempfile.TemporaryDirectory() as folder:
        write_hugging_face(portable, Path(folder) / "model")
        theirs = AutoModelForMaskedLM.from_pretrained(Path(folder) / "model").eval()
    total, weight = 0.0, 0.0
    with torch.inference_mode():
        for x, labels, weights in records.numpy_batches(batch_size):
            total += float((weights * _cross_entropy(theirs, x, labels)).sum(dtype="float64"))
            weight += float(weights.sum())
    if not weight:
        raise InputError(f"No token is masked in the records. Received: {records.paths[0]!r}. Give others.")
    return total / weight


def _cross_entropy(model: Any, x: dict[str, np.ndarray], labels: np.ndarray) -> np.ndarray:
    """The loss of each prediction `[batch, predictions]`."""
    import torch

    tensors = {name: torch.tensor(array, dtype=torch.long) for name, array in x.items()}
    hidden = model.albert(
        input_ids=tensors["token_ids"], attention_mask=tensors["padding_mask"], token_type_ids=tensors["segment_ids"]
    ).last_hidden_state
    # At all positions, not only the masked ones, the logits of a batch would take a gigabyte.
    masked = torch.take_along_dim(hidden, tensors["mask_positions"][..., None], dim=1)
    logits = model.predictions(masked).transpose(1, 2)
    return torch.nn.functional.cross_entropy(logits, torch.tensor(labels, dtype=torch.long), reduction="none").numpy()


def check_same_loss(ours: float, theirs: float, *, model: str) -> None:
    """Check that two losses of a model are equal within `LOSS_TOLERANCE`."""
    # Rejects NaN too.
    if not abs(ours - theirs) <= LOSS_TOLERANCE:
        raise InputError(
            f"transformers does not reproduce the loss. Received: {ours:.6f} here, {theirs:.6f} there, for {model!r}; "
            f"they may differ by {LOSS_TOLERANCE:.0e}. Use neither for the other."
        )
