"""Gives a new run the weights of another model: of a preset, a run, a checkpoint, of Google's code or transformers."""

import json
import logging
import os
import re
import tempfile
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

from tibert_keras.errors import InputError
from tibert_keras.formats.convert import find_model
from tibert_keras.formats.google_checkpoint import CONFIG_FILE, find_google_files, read_google
from tibert_keras.formats.hugging_face import read_hugging_face
from tibert_keras.formats.portable import PortableModel, read_keras
from tibert_keras.models.tibert_backbone import TibertBackbone
from tibert_keras.storage import atomic_output, exists, join

# Lists the names of all variables in the new run's folder. They are too many for the log.
NAMES_FILE = "taken_over.json"
# What the shapes of weights do not tell.
_NOT_IN_SHAPES = ("num_layers", "num_groups", "num_inner_repetitions", "num_heads", "identity_projection")
_GROUP = re.compile(r"^group_\d+_")

_LOG = logging.getLogger(__name__)


def read_any(path: str, *, architecture: Mapping[str, Any] | None = None) -> PortableModel:
    """Read a model of any format, with its tokenizer if it has one.

    Args:
        path: As in `find_model`.
        architecture: Content of an `albert_config.json`, for a checkpoint of Google's that has none beside it.
    """
    format_, place = find_model(path)
    if format_ == "keras":
        return read_keras(place)
    if format_ == "huggingface":
        return read_hugging_face(place)
    beside = join(os.path.dirname(place) or ".", CONFIG_FILE)
    if exists(beside) or architecture is None:
        return read_google(find_google_files(place))
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, CONFIG_FILE)
        config.write_text(json.dumps(architecture), encoding="utf-8")
        return read_google(find_google_files(place, albert_config_file=os.fspath(config)))


def take_weights(
    model: Any, origin: PortableModel, *, place: str, init_from_group0: bool = False
) -> dict[str, set[str]]:
    """Give a model the weights that it shares with another. The rest keep their initial values."""
    _check_tokenizer(model, origin, place)
    ours = {weight.path: weight for weight in model.weights}
    theirs = origin.weights
    source = {path: path for path in ours if path in theirs}
    if init_from_group0:
        first = {path: _GROUP.sub("group_0_", path) for path in ours if path not in theirs}
        source |= {path: other for path, other in first.items() if other in theirs}
    for path, other in source.items():
        if theirs[other].shape != tuple(ours[path].shape):
            raise InputError(
                f"The weights are of another model. Received: {other} of shape {theirs[other].shape} in {place!r}, "
                f"{tuple(ours[path].shape)} now. Give its architecture; `resize_vocabulary` changes the vocabulary's."
            )
    _warn_of_differences(model.backbone, origin.backbone, place)
    for path, other in source.items():
        ours[path].assign(theirs[other])
    return {
        "taken_over": {f"model/{path}" for path in source},
        "new_here": {f"model/{path}" for path in ours.keys() - source.keys()},
        "left_there": {f"model/{path}" for path in theirs.keys() - set(source.values())},
    }


def report_taken_over(names: Mapping[str, Set[str]], *, place: str, step: int, output_dir: str | None) -> None:
    """Log how many variables were taken over, and write all names to `taken_over.json`."""
    _log_number(f"Taken over from {place}", names["taken_over"])
    _log_number("New here, with initial values", names["new_here"])
    _log_number("Left there", names["left_there"])
    if output_dir is None:
        return
    path = join(output_dir, NAMES_FILE)
    content = {"checkpoint": place, "step": step, **{part: sorted(known) for part, known in names.items()}}
    with atomic_output(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2), encoding="utf-8")
    _LOG.info("The names of all of them are in %s.", path)


def _log_number(what: str, names: Set[str]) -> None:
    weights = sum(name.startswith("model/") for name in names)
    _LOG.info("%s: %d variables of the model, %d of the optimizer.", what, weights, len(names) - weights)


def _check_tokenizer(model: Any, origin: PortableModel, place: str) -> None:
    if model.preprocessor is None or origin.tokenizer is None:
        return
    if model.preprocessor.tokenizer.proto != origin.tokenizer.proto:
        raise InputError(
            f"The weights belong to another tokenizer than the records. Received: {place!r}. "
            "Make records with its spiece.model."
        )


def _warn_of_differences(ours: TibertBackbone, theirs: TibertBackbone, place: str) -> None:
    here, there = ours.get_config(), theirs.get_config()
    differences = [f"{key}={there[key]} there, {here[key]} here" for key in _NOT_IN_SHAPES if here[key] != there[key]]
    if differences:
        _LOG.warning("The architecture of %s is another: %s.", place, "; ".join(differences))
