"""The champion: the best checkpoint of one run or several, as a preset, and its scores on held-out records."""

import json
import logging
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from tibert_keras.errors import InputError
from tibert_keras.json_types import known_fields, read_typed_json
from tibert_keras.locks import only_writer
from tibert_keras.runs.folder import CHAMPION_FILE, CHAMPION_PRESET, INITIAL_PRESET
from tibert_keras.runs.history import criterion_value
from tibert_keras.runs.run import Run
from tibert_keras.storage import atomic_output, exists, join, read_json, write_text

# Seconds: to write a champion takes less.
_WAIT = 60.0
EVALUATION_FILE = "evaluation.json"
# The rows of the table, and how the names of their scores begin and what counts them.
_ROWS = (
    ("all masked tokens", "", "masked_tokens"),
    ("tokens that [MASK] hides", "hidden_", "hidden_tokens"),
    ("the same, by counting n-grams", "baseline_", "hidden_tokens"),
    ("syllables that [MASK] hides", "syllable_", "hidden_syllables"),
    ("the same, by counting n-grams", "baseline_syllable_", "hidden_syllables"),
)

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Champion:
    """The chosen checkpoint, as `champion.json` describes it.

    Attributes:
        run_dir: The run it belongs to.
        step: Its global step.
        criterion: `loss`, the training loss over the window before a checkpoint, or `val_loss`. In a run with two
            tasks, that of the masked tokens alone.
        value: The lowest value of the criterion.
        candidates: The number of checkpoints it was chosen from.
        preset: The folder that `TibertMaskedLM.from_preset` loads.
        data: The run's `init_checkpoint`, `continue_from`, `input_file` with its `num_examples`, and `validation_file`.
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

    The preset is a masked language model, even if the run learned the sentence order too. The criterion is `loss`, the
    lowest training loss over the window before a checkpoint, as in the original, or `val_loss`, the lowest validation
    loss; `auto` is `val_loss` if all runs have one, else `loss`.
    """
    if criterion not in (criteria := ("auto", "loss", "val_loss")):
        raise InputError(f"No such criterion. Received: criterion={criterion!r}. Give one of {', '.join(criteria)}.")
    runs = [Run(run_dir) for run_dir in run_dirs]
    if criterion == "auto":
        criterion = "val_loss" if all(run.history.criterion == "val_loss" for run in runs) else "loss"
    saved = [(run, set(run.checkpoints.steps)) for run in runs]
    candidates = [
        (criterion_value(row, criterion), int(row["step"]), run.folder, index)
        for index, (run, steps) in enumerate(saved)
        for row in run.history.rows
        if row["step"] in steps and criterion in row
    ]
    if not candidates:
        folders = [run.folder for run in runs]
        raise InputError(f"No checkpoint with a {criterion} is there. Received: run_dir={folders}. Train first.")
    value, step, _, index = min(candidates)
    run = runs[index]
    champion = Champion(
        run_dir=run.folder,
        step=step,
        criterion=criterion,
        value=value,
        candidates=len(candidates),
        preset=join(run.folder, CHAMPION_PRESET),
        data={
            **{name: run.config.get(name) for name in ("init_checkpoint", "continue_from", "input_file")},
            "num_examples": run.checkpoints.state(step).get("num_examples"),
            "validation_file": run.config.get("validation_file"),
        },
    )
    # The run itself may be writing, which does not matter.
    with only_writer(champion.preset, wait=_WAIT):
        _write_preset(run, step)
        write_text(join(run.folder, CHAMPION_FILE), json.dumps(asdict(champion), indent=2))
    return champion


def _write_preset(run: Run, step: int) -> None:
    # Keras is imported only once there is a champion.
    from tibert_keras.models.tibert_masked_lm import TibertMaskedLM

    initial = join(run.folder, INITIAL_PRESET)
    model = TibertMaskedLM.from_preset(initial, load_weights=False, compile=False, dtype="float32")
    run.checkpoints.restore(model, step)
    model = model.masked_lm()
    # Keras compiles a preset when it loads it, and then looks for an optimizer, if an empty one.
    model.compile()
    try:
        with atomic_output(join(run.folder, CHAMPION_PRESET), last="task.json") as folder:
            model.save_to_preset(os.fspath(folder))
    # Keras loads an option of any type, and fails only now if it is a wrong one.
    except (AttributeError, LookupError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"The preset cannot be written again: {type(error).__name__}: {reason}. Received: {initial!r}. "
            "Copy the whole run anew from where it comes from."
        ) from error


def read_champion(run_dir: str | os.PathLike[str]) -> Champion:
    """Read the `champion.json` that `choose_champion` wrote to a run's folder."""
    path, advice = join(run_dir, CHAMPION_FILE), "Choose the champion again."
    return known_fields(Champion, read_typed_json(path, Champion, what="a champion", advice=advice))


# === Scores, as `tibert evaluate` leaves them for the card ===


def write_evaluation(run_dir: str | os.PathLike[str], scores: dict[str, float], **files: str | None) -> None:
    """Note the scores of a run's champion in `evaluation.json`, in place of older ones.

    Nothing is noted in a folder without a champion, such as that of a preset, or where nothing may be written.
    """
    if not exists(join(run_dir, CHAMPION_FILE)):
        return
    content = {"step": read_champion(run_dir).step, **files, "scores": scores}
    try:
        write_text(join(run_dir, EVALUATION_FILE), json.dumps(content, indent=2))
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
