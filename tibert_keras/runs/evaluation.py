"""The scores of a run's champion on held-out records, as `tibert evaluate` leaves them for the card."""

import json
import logging
import os
from typing import Any

from tibert_keras.errors import InputError
from tibert_keras.runs.champion import read_champion
from tibert_keras.runs.folder import CHAMPION_FILE
from tibert_keras.storage import atomic_output, exists, join, read_json

_LOG = logging.getLogger(__name__)

EVALUATION_FILE = "evaluation.json"

# The rows of the table, and how the names of their scores begin and what counts them.
_ROWS = (
    ("all masked tokens", "", "masked_tokens"),
    ("tokens that [MASK] hides", "hidden_", "hidden_tokens"),
    ("the same, by counting n-grams", "baseline_", "hidden_tokens"),
    ("syllables that [MASK] hides", "syllable_", "hidden_syllables"),
    ("the same, by counting n-grams", "baseline_syllable_", "hidden_syllables"),
)


def write_evaluation(run_dir: str | os.PathLike[str], scores: dict[str, float], **files: str | None) -> None:
    """Note the scores of a run's champion in `evaluation.json`, in place of older ones.

    Nothing is noted in a folder without a champion, such as that of a preset, or where nothing may be written.
    """
    if not exists(join(run_dir, CHAMPION_FILE)):
        return
    content = {"step": read_champion(run_dir).step, **files, "scores": scores}
    try:
        with atomic_output(join(run_dir, EVALUATION_FILE)) as path:
            path.write_text(json.dumps(content, indent=2), encoding="utf-8")
    except OSError as error:
        _LOG.warning("The scores are not noted for the run's card: %s", error)


def read_evaluation(run_dir: str | os.PathLike[str], step: int) -> dict[str, Any] | None:
    """Read what `write_evaluation` noted about the champion of this step; `None` if that is nothing."""
    path, advice = join(run_dir, EVALUATION_FILE), "Evaluate the run again."
    if not exists(path):
        return None
    evaluation = read_json(path, what="an evaluation", advice=advice)
    if evaluation.get("step") != step:
        return None
    try:
        evaluation_rows(evaluation["scores"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"Not an evaluation: {error!r}. Received: {path!r}. {advice}") from error
    return evaluation


def evaluation_rows(scores: dict[str, float]) -> list[list[str]]:
    """Arrange scores as a table with a header; kinds of tokens that were not scored have no row."""
    rows = [["", "number", "loss", "first", "in five"]]
    for name, prefix, count in _ROWS:
        if f"{prefix}accuracy" in scores:
            loss = scores.get(f"{prefix}loss")
            shares = [f"{scores[f'{prefix}{share}']:.1%}" for share in ("accuracy", "top_5_accuracy")]
            rows.append([name, f"{scores[count]:,}", "-" if loss is None else f"{loss:.3f}", *shares])
    return rows
