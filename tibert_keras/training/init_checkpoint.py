"""The beginning of a run from a checkpoint of another, here or of Google's code, with other tasks and records too."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable

from tibert_keras.errors import InputError
from tibert_keras.formats.google_names import is_google_checkpoint
from tibert_keras.models.tibert_masked_lm import TibertMaskedLM
from tibert_keras.runs.champion import INITIAL_PRESET, TOKENIZER_ASSET
from tibert_keras.runs.checkpoints import Checkpoints, split_checkpoint, variables_by_name
from tibert_keras.storage import atomic_output, exists, join, read_bytes, read_json
from tibert_keras.training.config import PretrainConfig
from tibert_keras.training.google_run import GoogleCheckpoint

_INITIAL_CONFIG = f"{INITIAL_PRESET}/config.json"
# What no shape of a variable tells, as our configuration names it and as Google's does.
_NOT_IN_SHAPES = {
    False: ("num_layers", "num_groups", "num_inner_repetitions", "num_heads", "identity_projection"),
    True: ("num_hidden_layers", "num_hidden_groups", "inner_group_num", "num_attention_heads"),
}

# In the folder of the run that begins, with the names of all variables: in the log they would only fill it.
TAKEN_OVER_FILE = "init_checkpoint.json"

_LOG = logging.getLogger(__name__)


def check_init_checkpoint(model: TibertMaskedLM, config: PretrainConfig) -> None:
    """Check that a model can take over from `init_checkpoint`, before anything is written.

    Raises:
        InputError: If there is no whole checkpoint before the last step, or it is of another model, tokenizer or
            optimizer.
    """
    checkpoints, step, run_dir = _find(config, model)
    if step >= config.num_train_steps:
        raise InputError(
            "The checkpoint is at the last step or later. Received: "
            f"init_checkpoint={config.init_checkpoint!r} of step {step}, num_train_steps={config.num_train_steps}. "
            "Give a later last step."
        )
    checkpoints.check(step)
    names = set(checkpoints.names(step))
    if f"optimizer/{config.optimizer}/iteration" not in names:
        raise InputError(
            f"The checkpoint is of another optimizer. Received: optimizer={config.optimizer!r}, "
            f"init_checkpoint={config.init_checkpoint!r}. Give its optimizer."
        )
    if run_dir is not None:
        _check_tokenizer(model, run_dir)
    variables = variables_by_name(model)
    checkpoints.values({name: variables[name] for name in _training_state(variables) & names}, step)
    _check_architecture(model, checkpoints.folder if run_dir is None else run_dir, google=run_dir is None)


def take_over(model: TibertMaskedLM, config: PretrainConfig, *, writes: bool = True) -> int:
    """Take over from `init_checkpoint` what a model shares with it: weights, the optimizer's moments, the global step.

    What is the checkpoint's alone, such as the head of a task that was dropped, is left; what is the model's alone
    keeps its initial value. The log tells their numbers, and `init_checkpoint.json` in the run's folder the names of
    all. Seeds of random generators are the new run's own.

    Args:
        model: A compiled model whose optimizer is built.
        config: The options.
        writes: Whether to write the names, as one of several workers does.

    Returns:
        The global step.

    Raises:
        InputError: If there is no whole checkpoint, or it is of another model.
    """
    checkpoints, step, run_dir = _find(config, model)
    checkpoints.check(step)
    variables = variables_by_name(model)
    mine, theirs = _training_state(variables), _training_state(checkpoints.names(step))
    checkpoints.assign({name: variables[name] for name in mine & theirs}, step)
    place = checkpoints.folder if run_dir is None else f"{checkpoints.folder}/{step}"
    names = {"taken_over": mine & theirs, "new_here": mine - theirs, "left_there": theirs - mine}
    _log_number(f"Taken over from {place}", names["taken_over"])
    _log_number("New here, with initial values", names["new_here"])
    _log_number("Left there", names["left_there"])
    if writes:
        path = join(config.output_dir, TAKEN_OVER_FILE)
        content = {"checkpoint": place, "step": step, **{part: sorted(known) for part, known in names.items()}}
        with atomic_output(path) as temporary:
            temporary.write_text(json.dumps(content, indent=2), encoding="utf-8")
        _LOG.info("The names of all of them are in %s.", path)
    return step


def _training_state(names: Iterable[str]) -> set[str]:
    return {name for name in names if name.startswith(("model/", "optimizer/"))}


def _find(config: PretrainConfig, model: TibertMaskedLM) -> tuple[Checkpoints | GoogleCheckpoint, int, str | None]:
    """The checkpoint, its step and, if it is one of ours, its run's folder."""
    path = str(config.init_checkpoint).rstrip("/")
    if (parts := split_checkpoint(path)) is not None:
        run_dir, step = parts
        if step in Checkpoints(run_dir).steps:
            return Checkpoints(run_dir), step, run_dir
    elif (last := Checkpoints(path).last_whole()) is not None:
        return Checkpoints(path), last, path
    elif is_google_checkpoint(path):
        google = GoogleCheckpoint(path, model, config.optimizer)
        return google, google.step, None
    raise InputError(
        f"No checkpoint is there. Received: init_checkpoint={config.init_checkpoint!r}. "
        "Give the folder of a run, RUN/checkpoints/STEP, or a checkpoint of Google's such as model.ckpt-800000."
    )


def _check_tokenizer(model: TibertMaskedLM, run_dir: str) -> None:
    """Check that token ids mean the same in both runs, if both know their tokenizer."""
    path = join(run_dir, INITIAL_PRESET, TOKENIZER_ASSET)
    if model.preprocessor is None or not exists(path):
        return
    if read_bytes(path) != model.preprocessor.tokenizer.proto:
        raise InputError(
            f"The checkpoint is of another tokenizer than the records. Received: init_checkpoint={run_dir!r}. "
            "Make records with the spiece.model of that run's records."
        )


def _check_architecture(model: TibertMaskedLM, place: str, *, google: bool) -> None:
    """Check what no shape tells: layers of one group share their weights, whatever their number."""
    folder, name = (os.path.dirname(place) or ".", "albert_config.json") if google else (place, _INITIAL_CONFIG)
    if not exists(join(folder, name)):
        return
    theirs = read_json(join(folder, name), what="the configuration of a model", advice="Give another checkpoint.")
    ours = model.backbone.to_albert_config() if google else model.backbone.get_config()
    for key in _NOT_IN_SHAPES[google]:
        # Runs that were begun before there was an `identity_projection` train the mapping.
        value = (theirs if google else {"identity_projection": False, **theirs["config"]}).get(key)
        if value != ours[key]:
            raise InputError(
                "The checkpoint is of another model. "
                f"Received: {key}={value} in {place!r}, {ours[key]} now. Give its architecture."
            )


def _log_number(what: str, names: set[str]) -> None:
    weights = sum(name.startswith("model/") for name in names)
    _LOG.info("%s: %d variables of the model, %d of the optimizer.", what, weights, len(names) - weights)
