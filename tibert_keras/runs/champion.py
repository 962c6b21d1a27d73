"""The champion: the best checkpoint of one run or several, as a preset."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from tibert_keras.errors import InputError
from tibert_keras.models.tibert_masked_lm import TibertMaskedLM
from tibert_keras.runs.checkpoints import Checkpoints
from tibert_keras.runs.history import History, score
from tibert_keras.storage import atomic_output, exists, join, read_json
from tibert_keras.training.config import read_config

CHAMPION_PRESET = "champion"
CHAMPION_FILE = "champion.json"
# The untrained model of a run as a preset: architecture and tokenizer, whatever becomes of the files they came from.
INITIAL_PRESET = "initial"
# Where KerasHub puts the SentencePiece model of a preset.
TOKENIZER_ASSET = "assets/tokenizer/vocabulary.spm"

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Champion:
    """The checkpoint that was chosen, as it stands in `champion.json`.

    Attributes:
        run_dir: The run that it is of.
        step: Its global step.
        criterion: What was lowest: `loss`, the training loss over the interval before a checkpoint, or `val_loss`; that
            of the masked tokens alone where the run had two tasks.
        value: How low.
        candidates: How many checkpoints it was chosen from.
        preset: The folder that `TibertMaskedLM.from_preset` loads.
        data: What it was trained on and chosen by: `init_checkpoint`, `input_file`, its `num_examples`, and
            `validation_file`.
    """

    run_dir: str
    step: int
    criterion: str
    value: float
    candidates: int
    preset: str
    data: dict[str, Any]


def choose_champion(
    run_dirs: Sequence[str | os.PathLike[str]], *, criterion: Literal["auto", "loss", "val_loss"] = "auto"
) -> Champion:
    """Choose the best checkpoint among runs, and write it as a preset to `champion/` in its run's folder.

    The preset is a masked language model, also where the run learnt the order of sentences too.

    Args:
        run_dirs: Folders of runs.
        criterion: Choose by `loss`, the lowest training loss over the interval before a checkpoint, as the original
            did, or by `val_loss`, the lowest validation loss; `auto` is the latter where all runs have one.

    Returns:
        The champion.

    Raises:
        InputError: If no checkpoint has the criterion.

    Example:
    ```python
    champion = choose_champion(["runs/a", "runs/b"], criterion="val_loss")
    model = TibertMaskedLM.from_preset(champion.preset)
    ```
    """
    if criterion not in (criteria := ("auto", "loss", "val_loss")):
        raise InputError(f"No such criterion. Received: criterion={criterion!r}. Give one of {', '.join(criteria)}.")
    runs = [os.fspath(run_dir).rstrip("/") for run_dir in run_dirs]
    rows = {run_dir: _rows_with_checkpoint(run_dir) for run_dir in runs}
    if criterion == "auto":
        criterion = "val_loss" if all(History(run_dir).criterion == "val_loss" for run_dir in runs) else "loss"
    candidates = [
        (score(row, criterion), int(row["step"]), run_dir)
        for run_dir in runs
        for row in rows[run_dir]
        if criterion in row
    ]
    if not candidates:
        raise InputError(f"No checkpoint with a {criterion} is there. Received: run_dir={runs}. Train first.")
    value, step, run_dir = min(candidates)

    model = TibertMaskedLM.from_preset(
        join(run_dir, INITIAL_PRESET), load_weights=False, compile=False, dtype="float32"
    )
    checkpoints = Checkpoints(run_dir)
    checkpoints.restore(model, step)
    model = model.masked_lm()
    # As a preset is compiled when it is loaded, so that Keras finds the (empty) optimizer it looks for.
    model.compile()
    with atomic_output(join(run_dir, CHAMPION_PRESET), last="task.json") as folder:
        model.save_to_preset(os.fspath(folder))
    champion = Champion(
        run_dir=run_dir,
        step=step,
        criterion=criterion,
        value=value,
        candidates=len(candidates),
        preset=join(run_dir, CHAMPION_PRESET),
        data=_data(run_dir, checkpoints.state(step)),
    )
    with atomic_output(join(run_dir, CHAMPION_FILE)) as path:
        path.write_text(json.dumps(asdict(champion), indent=2), encoding="utf-8")
    return champion


def _rows_with_checkpoint(run_dir: str) -> list[dict[str, float]]:
    steps = set(Checkpoints(run_dir).steps)
    return [row for row in History(run_dir).rows if row["step"] in steps]


def _data(run_dir: str, state: dict[str, Any]) -> dict[str, Any]:
    config = read_config(run_dir)
    return {
        "init_checkpoint": config.get("init_checkpoint"),
        "input_file": config.get("input_file"),
        "num_examples": state.get("num_examples"),
        "validation_file": config.get("validation_file"),
    }


def read_champion(run_dir: str | os.PathLike[str]) -> Champion:
    """Read what `choose_champion` wrote in a run's folder.

    Raises:
        InputError: If it cannot be read.
    """
    path, advice = join(run_dir, CHAMPION_FILE), "Choose the champion again."
    content = read_json(path, what="a champion", advice=advice)
    try:
        champion = Champion(**content)
        int(champion.step), float(champion.value)
    except (TypeError, ValueError) as error:
        raise InputError(f"Not a champion: {error}. Received: {path!r}. {advice}") from error
    return champion


def find_preset(model: str | os.PathLike[str]) -> str:
    """Return the preset folder that `model` is, or has as its champion if it is a run.

    Raises:
        InputError: If it is neither.
    """
    for folder in [os.fspath(model), join(model, CHAMPION_PRESET)]:
        if exists(join(folder, "task.json")):
            return folder
    raise InputError(
        f"Neither a preset nor a run with a champion. Received: {os.fspath(model)!r}. "
        "Give a folder that holds task.json, or a run after `tibert champion`."
    )
