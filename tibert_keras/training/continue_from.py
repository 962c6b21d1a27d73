"""Continues in a new run, even with other tasks and records, the training of another run or of Google's code."""

import os
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from tibert_keras.errors import InputError
from tibert_keras.formats.google_names import STEP, from_google, global_step, read_google_checkpoint, variable_shapes
from tibert_keras.formats.renaming import split_slot
from tibert_keras.models.tibert_masked_lm import TibertMaskedLM
from tibert_keras.runs.checkpoints import Checkpoints, assign_values, check_values, moment_name, variables_by_name
from tibert_keras.runs.folder import INITIAL_PRESET, TOKENIZER_ASSET
from tibert_keras.storage import exists, join, read_bytes, read_json
from tibert_keras.training.config import PretrainConfig, find_continue_from
from tibert_keras.training.init_checkpoint import report_taken_over

_INITIAL_CONFIG = f"{INITIAL_PRESET}/config.json"
# What the shapes of variables do not tell, under the names of our configuration and of Google's.
_NOT_IN_SHAPES = {
    False: ("num_layers", "num_groups", "num_inner_repetitions", "num_heads", "identity_projection"),
    True: ("num_hidden_layers", "num_hidden_groups", "inner_group_num", "num_attention_heads"),
}

# The parts of a checkpoint that a new run takes over; random generators and metrics are its own.
_STATE = ("model/", "optimizer/")


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
        _check_tokenizer(model, checkpoint.run_dir)
    shared = {name: value for name, value in _training_state(model).items() if name in checkpoint.values}
    check_values(shared, checkpoint.values, place=checkpoint.place)
    _check_architecture(model, checkpoint)


def restore_continue_from(model: TibertMaskedLM, config: PretrainConfig, *, writes: bool = True) -> int:
    """Restore from `continue_from` what a model shares with it: weights, the optimizer's moments, the global step.

    Variables that only the checkpoint has, such as the head of a task that was dropped, are left out; those that only
    the model has keep their initial values. The log tells their numbers, and `taken_over.json` in the run's folder
    all names. Random generators keep the seeds of the new run.

    Returns:
        The global step.
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


def _check_tokenizer(model: TibertMaskedLM, run_dir: str) -> None:
    """Check that token ids mean the same in both runs, if the tokenizers of both are known."""
    path = join(run_dir, INITIAL_PRESET, TOKENIZER_ASSET)
    if model.preprocessor is None or not exists(path):
        return
    if read_bytes(path) != model.preprocessor.tokenizer.proto:
        raise InputError(
            f"The checkpoint is of another tokenizer than the records. Received: continue_from={run_dir!r}. "
            "Make records with the spiece.model of that run's records."
        )


def _check_architecture(model: TibertMaskedLM, checkpoint: StateOfTraining) -> None:
    """Check sizes that no shape shows, such as the number of layers in a group, which share their weights."""
    google = checkpoint.run_dir is None
    place = checkpoint.run_dir or checkpoint.place
    path = join(os.path.dirname(place) or ".", "albert_config.json") if google else join(place, _INITIAL_CONFIG)
    if not exists(path):
        return
    theirs = read_json(path, what="the configuration of a model", advice="Give another checkpoint.")
    ours = model.backbone.to_albert_config() if google else model.backbone.get_config()
    for key in _NOT_IN_SHAPES[google]:
        # Runs that began before there was an `identity_projection` train the projection.
        value = (theirs if google else {"identity_projection": False, **theirs["config"]}).get(key)
        if value != ours[key]:
            raise InputError(
                "The checkpoint is of another model. "
                f"Received: {key}={value} in {place!r}, {ours[key]} now. Give its architecture."
            )
