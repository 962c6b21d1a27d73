"""Finds a model of any format by its path, without Keras or TensorFlow."""

from __future__ import annotations

import os
from typing import NamedTuple

from tibert_keras.errors import InputError
from tibert_keras.formats.convert import Format
from tibert_keras.formats.google_names import find_google_checkpoint, is_google_checkpoint
from tibert_keras.formats.hugging_face_weights import CONFIG_FILE, read_config_file
from tibert_keras.models.tibert_presets import find_by_name
from tibert_keras.registration import is_handle
from tibert_keras.runs.checkpoints import Checkpoints, split_checkpoint
from tibert_keras.runs.folder import CHAMPION_PRESET
from tibert_keras.storage import exists, join, list_folder


class FoundModel(NamedTuple):
    """The format of a model, and the path under which that format's reader finds it."""

    format: Format
    path: str


def find_model(path: str | os.PathLike[str]) -> FoundModel:
    """Find the model that a path names, by the files there.

    Args:
        path: A preset, the name of one with weights, or a handle such as `hf://user/model`; a run, of which the
            champion is taken or, before there is one, the last checkpoint; `RUN/checkpoints/STEP`; a folder of
            transformers; or a checkpoint of Google's, `model.ckpt-N` or its folder.
    """
    place = find_by_name(path).rstrip("/")
    if is_handle(place):
        return FoundModel("keras", place)
    run_dir, step = split_checkpoint(place) or (place, None)
    steps = Checkpoints(run_dir).steps
    if step is not None and step in steps:
        return FoundModel("keras", place)
    for folder in (place, join(place, CHAMPION_PRESET)):
        if exists(join(folder, "task.json")):
            return FoundModel("keras", folder)
    if step is None and steps:
        return FoundModel("keras", f"{Checkpoints(run_dir).folder}/{steps[-1]}")
    if exists(join(place, CONFIG_FILE)):
        # A preset of an encoder alone has a file of this name too.
        return FoundModel("huggingface" if "model_type" in read_config_file(place) else "keras", place)
    if is_google_checkpoint(place) or any(name.endswith(".index") for name in list_folder(place)):
        return FoundModel("google", find_google_checkpoint(place))
    raise InputError(
        f"No model is there. Received: {os.fspath(path)!r}. Give a preset, a run, RUN/checkpoints/STEP, a folder of "
        "transformers, or a checkpoint of Google's such as model.ckpt-800000."
    )
