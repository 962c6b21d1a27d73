"""Our own side of a conversion: presets, champions of runs, and checkpoints with the state of the training."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from tibert_keras.errors import InputError
from tibert_keras.formats.portable import PortableModel
from tibert_keras.formats.renaming import SLOTS
from tibert_keras.models.tibert_backbone import TibertBackbone
from tibert_keras.models.tibert_masked_lm import TibertMaskedLM
from tibert_keras.models.tibert_text_classifier import TibertTextClassifier
from tibert_keras.models.tibert_token_classifier import TibertTokenClassifier
from tibert_keras.models.tibert_tokenizer import TibertTokenizer
from tibert_keras.runs.checkpoints import VARIABLES_FILE, Checkpoints, moment_name, split_checkpoint
from tibert_keras.runs.folder import INITIAL_PRESET, find_preset, read_config
from tibert_keras.storage import exists, join, open_binary, read_json

Task = TibertMaskedLM | TibertTokenClassifier | TibertTextClassifier


def load_task(model: str | os.PathLike[str], **kwargs: Any) -> Task:
    """Load a preset or a run's champion as what it is: a classifier of tokens or texts, or a masked language model.

    Args:
        model: Its folder.
        **kwargs: Arguments of `from_preset`.

    Raises:
        InputError: If it is neither a preset nor a run with a champion.
    """
    preset = find_preset(model)
    config = read_json(join(preset, "task.json"), what="a preset", advice="Give one that `save_to_preset` wrote.")
    classes: tuple[type[Task], ...] = (TibertTokenClassifier, TibertTextClassifier)
    names = {f"tibert_keras>{task.__name__}": task for task in classes}
    return names.get(config.get("registered_name", ""), TibertMaskedLM).from_preset(preset, **kwargs)


def read_keras(path: str) -> PortableModel:
    """Read a preset, a run's champion, or a checkpoint of a run, `RUN/checkpoints/STEP`, with moments and step.

    Args:
        path: Its folder.

    Returns:
        The model, in float32.

    Raises:
        InputError: If it is none of them, or damaged.
    """
    path = path.rstrip("/")
    if (parts := split_checkpoint(path)) is not None:
        return _read_checkpoint(*parts)
    with _naming(path):
        if exists(join(path, "config.json")) and not exists(join(path, "task.json")):
            # An encoder alone, with or without its tokenizer.
            model = TibertBackbone.from_preset(path, dtype="float32")
            tokenizer = TibertTokenizer.from_preset(path) if exists(join(path, "tokenizer.json")) else None
            return PortableModel(model=model, tokenizer=tokenizer)
        return _portable(load_task(path, dtype="float32"))


@contextmanager
def _naming(path: str) -> Iterator[None]:
    """Put in words what Keras raises while it loads a preset, which may be anything."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"The preset cannot be loaded: {type(error).__name__}: {reason}. Received: {path!r}. "
            "Give a folder that `save_to_preset` wrote, or a run."
        ) from error


def _portable(model: Task) -> PortableModel:
    return PortableModel(model=model, tokenizer=model.preprocessor and model.preprocessor.tokenizer)


def _read_checkpoint(run_dir: str, step: int) -> PortableModel:
    checkpoints = Checkpoints(run_dir)
    if step not in checkpoints.steps:
        raise InputError(
            f"No checkpoint is there. Received: '{checkpoints.folder}/{step}'. Give one of {checkpoints.steps}."
        )
    initial = join(run_dir, INITIAL_PRESET)
    with _naming(initial):
        model = TibertMaskedLM.from_preset(initial, load_weights=False, compile=False, dtype="float32")
    checkpoints.restore(model, step)
    optimizer = read_config(run_dir)["optimizer"]
    moments = {}
    with open_binary(join(checkpoints.folder, str(step), VARIABLES_FILE)) as file, np.load(file) as saved:
        for weight in model.weights:
            for slot in SLOTS:
                name = moment_name(optimizer, weight.path, slot)
                if name in saved:
                    moments[f"{weight.path}/{slot}"] = saved[name]
    portable = _portable(model)
    return PortableModel(model=portable.model, moments=moments, step=step, tokenizer=portable.tokenizer)


def write_keras(portable: PortableModel, folder: Path) -> None:
    """Write a model as a preset."""
    portable.model.save_to_preset(os.fspath(folder))
    if portable.model is portable.backbone and portable.tokenizer is not None:
        portable.tokenizer.save_to_preset(os.fspath(folder))
