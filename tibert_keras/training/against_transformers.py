"""Evaluation of a model by transformers, on the same records: the original's own way to validate a conversion."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from tibert_keras.errors import InputError
from tibert_keras.formats.hugging_face import write_hugging_face
from tibert_keras.formats.portable import read_keras
from tibert_keras.models.tibert_masked_lm import TibertMaskedLM
from tibert_keras.records.pipeline import Records
from tibert_keras.training.sources import check_records, naming_damage

# Float32 rounds the mean of many losses to about 1e-6.
LOSS_TOLERANCE = 1e-3


def require_transformers() -> None:
    """Raise `InputError` if torch or transformers is not installed."""
    try:
        import torch  # noqa: F401
        import transformers  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"An evaluation against huggingface takes torch and transformers. Received: {error}. "
            "Run `pip install torch transformers`."
        ) from error


def hugging_face_loss(model: str | os.PathLike[str], records: Records, *, batch_size: int = 64) -> float:
    """Export a model, load it as transformers' `AutoModelForMaskedLM`, and measure its loss there.

    Args:
        model: A preset, or a run with a champion.
        records: Held-out records of the model's vocabulary.
        batch_size: Examples a step.

    Returns:
        Cross-entropy of the masked tokens, in nats, as `training.evaluate` has it.

    Raises:
        InputError: If torch or transformers is not installed, the model cannot be read or predicts no masked
            tokens, or the records are of another vocabulary, damaged, or without masked tokens.

    Example:
    ```python
    hugging_face_loss("run", Records.find("records/validation_*.tf_record"))
    ```
    """
    require_transformers()
    import torch
    from transformers import AutoModelForMaskedLM

    portable = read_keras(os.fspath(model))
    if not isinstance(portable.model, TibertMaskedLM):
        raise InputError(f"The model predicts no masked tokens. Received: {os.fspath(model)!r}. Give a whole one.")
    check_records(
        records,
        portable.model,
        max_seq_length=records.max_seq_length,
        max_predictions_per_seq=records.max_predictions_per_seq,
    )
    with tempfile.TemporaryDirectory() as folder:
        write_hugging_face(portable, Path(folder) / "model")
        theirs = AutoModelForMaskedLM.from_pretrained(Path(folder) / "model").eval()
    total, weight = 0.0, 0.0
    with torch.inference_mode(), naming_damage(records):
        for x, labels, weights in records.evaluation_batches(batch_size).as_numpy_iterator():
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
        input_ids=tensors["token_ids"],
        attention_mask=tensors["padding_mask"],
        token_type_ids=tensors["segment_ids"],
    ).last_hidden_state
    # The head at the masked places alone: at all of them its logits would take a gigabyte a batch.
    masked = torch.take_along_dim(hidden, tensors["mask_positions"][..., None], dim=1)
    logits = model.predictions(masked).transpose(1, 2)
    return torch.nn.functional.cross_entropy(logits, torch.tensor(labels, dtype=torch.long), reduction="none").numpy()


def check_loss(ours: float, theirs: float, *, model: str) -> None:
    """Check that two losses of a model are equal within `LOSS_TOLERANCE`.

    Raises:
        InputError: If they are not, with both values.
    """
    # An order that no NaN passes.
    if not abs(ours - theirs) <= LOSS_TOLERANCE:
        raise InputError(
            f"transformers does not reproduce the loss. Received: {ours:.6f} here, {theirs:.6f} there, for {model!r}; "
            f"they may differ by {LOSS_TOLERANCE:.0e}. Use neither for the other."
        )
