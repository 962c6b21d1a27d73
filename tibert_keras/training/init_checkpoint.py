"""Begins a run with the weights of another model, or where another run or Google's code has left off."""

import json
import logging
import re
from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from tibert_keras.errors import InputError
from tibert_keras.formats.convert import find_model
from tibert_keras.formats.google_checkpoint import ALBERT_CONFIG, find_google_files, read_google
from tibert_keras.formats.google_names import STEP, from_google, global_step, read_google_checkpoint, variable_shapes
from tibert_keras.formats.hugging_face import read_hugging_face
from tibert_keras.formats.portable import PortableModel, read_keras
from tibert_keras.formats.renaming import split_slot
from tibert_keras.models.tibert_backbone import TibertBackbone
from tibert_keras.models.tibert_masked_lm import TibertMaskedLM
from tibert_keras.runs.checkpoints import Checkpoints, assign_values, check_values, moment_name, variables_by_name
from tibert_keras.runs.folder import INITIAL_PRESET, TOKENIZER_ASSET
from tibert_keras.storage import exists, folder_of, join, read_bytes, read_json, write_text
from tibert_keras.training.config import PretrainConfig, find_continue_from

# Lists the names of all variables in the new run's folder. They are too many for the log.
NAMES_FILE = "taken_over.json"
# What the shapes of weights do not tell, under our names and under Google's.
_NOT_IN_SHAPES = ("num_layers", "num_groups", "num_inner_repetitions", "num_heads", "identity_projection")
_NOT_IN_GOOGLES = ("num_hidden_layers", "num_hidden_groups", "inner_group_num", "num_attention_heads")
_GROUP = re.compile(r"^group_\d+_")
# The parts of a checkpoint that a new run takes over; random generators and metrics are its own.
_STATE = ("model/", "optimizer/")

_LOG = logging.getLogger(__name__)


def read_any(path: str, *, architecture: Mapping[str, Any] | None = None) -> PortableModel:
    """Read a model of any format that `find_model` knows, with its tokenizer if it has one.

    The architecture is the content of an `albert_config.json`, for a checkpoint of Google's that has none beside it.
    """
    format_, place = find_model(path)
    if format_ == "keras":
        return read_keras(place)
    if format_ == "huggingface":
        return read_hugging_face(place)
    files = find_google_files(place)
    return read_google(files, architecture=None if exists(files.config) else architecture)


def take_weights(
    model: Any, origin: PortableModel, *, place: str, init_from_group0: bool = False
) -> dict[str, set[str]]:
    """Give a model the weights that it shares with another. The rest keep their initial values."""
    _check_tokenizer(model, origin.tokenizer and origin.tokenizer.proto, repr(place))
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
    if not isinstance(origin.model, TibertMaskedLM):
        kind = type(origin.model).__name__
        _LOG.warning("%s is a %s: its encoder is taken over, and the head for masked tokens begins anew.", place, kind)
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
    what = {"taken_over": f"Taken over from {place}", "new_here": "New here, with initial values"}
    for part, known in names.items():
        weights = sum(name.startswith("model/") for name in known)
        others, shown = len(known) - weights, what.get(part, "Left there")
        _LOG.info("%s: %d variables of the model, %d of the optimizer.", shown, weights, others)
    if output_dir is None:
        return
    path = join(output_dir, NAMES_FILE)
    content = {"checkpoint": place, "step": step, **{part: sorted(known) for part, known in names.items()}}
    write_text(path, json.dumps(content, indent=2))
    _LOG.info("The names of all of them are in %s.", path)


def _check_tokenizer(model: Any, proto: bytes | None, received: str) -> None:
    """Check that token ids mean the same in both, if the tokenizers of both are known."""
    ours = model.preprocessor and model.preprocessor.tokenizer.proto
    if None not in (ours, proto) and ours != proto:
        raise InputError(
            f"The weights are of another tokenizer than the records. Received: {received}. "
            "Make records with its spiece.model."
        )


def _warn_of_differences(ours: TibertBackbone, theirs: TibertBackbone, place: str) -> None:
    here, there = ours.get_config(), theirs.get_config()
    differences = [f"{key}={there[key]} there, {here[key]} here" for key in _NOT_IN_SHAPES if here[key] != there[key]]
    if differences:
        _LOG.warning("The architecture of %s is another: %s.", place, "; ".join(differences))


# === continue_from: the optimizer's moments and the global step too ===


@dataclass(frozen=True, kw_only=True)
class StateOfTraining:
    """A checkpoint to begin with, of a run or of Google's code."""

    place: str
    step: int
    values: dict[str, np.ndarray]
    run_dir: str | None = None


def check_continue_from(model: TibertMaskedLM, config: PretrainConfig) -> None:
    """Check that a model can be restored from `continue_from`, before anything is written."""
    checkpoint = read_continue_from(model, config)
    if checkpoint.step >= config.num_train_steps:
        raise InputError(
            "The checkpoint is at the last step or later. Received: "
            f"continue_from={config.continue_from!r} of step {checkpoint.step}, "
            f"num_train_steps={config.num_train_steps}. Give a later last step."
        )
    if f"optimizer/{config.optimizer}/iteration" not in checkpoint.values:
        raise InputError(
            f"The checkpoint is of another optimizer. Received: optimizer={config.optimizer!r}, "
            f"continue_from={config.continue_from!r}. Give its optimizer."
        )
    if checkpoint.run_dir is not None:
        path = join(checkpoint.run_dir, INITIAL_PRESET, TOKENIZER_ASSET)
        proto = read_bytes(path) if exists(path) else None
        _check_tokenizer(model, proto, f"continue_from={checkpoint.run_dir!r}")
    shared = {name: value for name, value in _training_state(model).items() if name in checkpoint.values}
    check_values(shared, checkpoint.values, place=checkpoint.place)
    _check_architecture(model, checkpoint)


def restore_continue_from(model: TibertMaskedLM, config: PretrainConfig, *, writes: bool = True) -> int:
    """Restore from `continue_from` what a model shares with it, and return its global step.

    These are the weights, the optimizer's moments and the step. Variables that only the checkpoint has, such as the
    head of a task that was dropped, are left out; those that only the model has keep their initial values. The log
    tells their numbers, and `taken_over.json` in the run's folder all names. Random generators keep the seeds of the
    new run.
    """
    checkpoint = read_continue_from(model, config)
    variables = _training_state(model)
    mine, theirs = variables.keys(), checkpoint.values.keys()
    assign_values({name: variables[name] for name in mine & theirs}, checkpoint.values, place=checkpoint.place)
    names = {"taken_over": mine & theirs, "new_here": mine - theirs, "left_there": theirs - mine}
    report_taken_over(
        names, place=checkpoint.place, step=checkpoint.step, output_dir=config.output_dir if writes else None
    )
    return checkpoint.step


def _training_state(model: keras.Model) -> dict[str, Any]:
    return {name: value for name, value in variables_by_name(model).items() if name.startswith(_STATE)}


def read_continue_from(model: keras.Model, config: PretrainConfig) -> StateOfTraining:
    """Read `continue_from`, with names and shapes as in a model if it is Google's."""
    path = str(config.continue_from)
    found = find_continue_from(path)
    if found is None:
        return _read_google(path.rstrip("/"), model, config.optimizer)
    run_dir, step = found
    checkpoints = Checkpoints(run_dir)
    step = (checkpoints.last_whole() or 0) if step is None else step
    values = {name: value for name, value in checkpoints.read(step).items() if name.startswith(_STATE)}
    return StateOfTraining(place=checkpoints.path(step), step=step, values=values, run_dir=run_dir)


def _read_google(prefix: str, model: keras.Model, optimizer: str) -> StateOfTraining:
    """Read a checkpoint of Google's for an optimizer; its LAMB and AdamW give their moments the same names."""
    if optimizer == "muon":
        raise InputError(
            "Google's checkpoints hold no momentum of Muon. Received: optimizer='muon', "
            f"continue_from={prefix!r}. Give optimizer=lamb or adamw, or init_checkpoint for the weights alone."
        )
    variables = read_google_checkpoint(prefix)
    step = global_step(variables)
    if step is None:
        raise InputError(
            f"The checkpoint has no {STEP} to continue from. Received: continue_from={prefix!r}. "
            "Give one that was written in training."
        )
    values = {f"optimizer/{optimizer}/iteration": np.asarray(step)}
    for name, array in from_google(variables, variable_shapes(model)).items():
        path, slot = split_slot(name)
        values[moment_name(optimizer, path, slot[1:]) if slot else f"model/{path}"] = array
    return StateOfTraining(place=prefix, step=step, values=values)


def _check_architecture(model: TibertMaskedLM, checkpoint: StateOfTraining) -> None:
    """Check sizes that no shape shows, such as the number of layers in a group, which share their weights."""
    google = checkpoint.run_dir is None
    place = checkpoint.run_dir or checkpoint.place
    path = join(folder_of(place), ALBERT_CONFIG) if google else join(place, INITIAL_PRESET, "config.json")
    if not exists(path):
        return
    theirs = read_json(path, what="the configuration of a model", advice="Give another checkpoint.")
    ours = model.backbone.to_albert_config() if google else model.backbone.get_config()
    for key in _NOT_IN_GOOGLES if google else _NOT_IN_SHAPES:
        # Runs that began before there was an `identity_projection` train the projection.
        value = (theirs if google else {"identity_projection": False, **theirs["config"]}).get(key)
        if value != ours[key]:
            raise InputError(
                "The checkpoint is of another model. "
                f"Received: {key}={value} in {place!r}, {ours[key]} now. Give its architecture."
            )
