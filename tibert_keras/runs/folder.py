"""The files in the folder of a run: their names, its options, and the presets it holds."""

import dataclasses
import os
from collections.abc import Collection
from typing import Any, Literal, get_args

import yaml

from tibert_keras.errors import InputError, refuse_changes
from tibert_keras.models.tibert_presets import MASKED_LM, TAGGER, check_task, find_by_name
from tibert_keras.registration import is_handle
from tibert_keras.storage import exists, join, list_folder, write_text
from tibert_keras.yaml_files import read_yaml

CONFIG_FILE = "config.yaml"
CHAMPION_FILE = "champion.json"
# The scores of a fine-tuning and of each of its seeds.
SCORES_FILE = "scores.json"
LOG_FOLDER = "logs"
CHAMPION_PRESET = "champion"
# The model before the first step as a preset: its architecture and tokenizer outlive the files they came from.
INITIAL_PRESET = "initial"
# Where KerasHub puts the SentencePiece model of a preset.
TOKENIZER_ASSET = "assets/tokenizer/vocabulary.spm"

Kind = Literal["pretrain", "finetune tokens", "finetune text"]


def write_config(config: Any) -> None:
    """Write the `kind` and the options of a run, a dataclass, to `config.yaml` in its `output_dir`."""
    content = {"kind": config.kind, **dataclasses.asdict(config)}
    write_text(join(config.output_dir, CONFIG_FILE), yaml.safe_dump(content, sort_keys=False))


def read_config(run_dir: str) -> dict[str, Any]:
    """Read the options of a run as they were written; a run of an older version may lack some."""
    config = _read(run_dir)
    config.pop("kind", None)
    return config


def read_kind(run_dir: str) -> Kind:
    """Read which verb made a run."""
    config = _read(run_dir)
    if "kind" not in config:
        # Older runs have no kind, but options that only one kind has.
        if "validation_share" in config:
            return "finetune text"
        return "finetune tokens" if config.keys() & {"min_tag_count", "num_seeds"} else "pretrain"
    if config["kind"] not in get_args(Kind):
        raise InputError(
            f"Not the configuration of a run. Received: {join(run_dir, CONFIG_FILE)!r} with kind={config['kind']!r}. "
            "Choose another folder."
        )
    return config["kind"]


def _read(run_dir: str) -> dict[str, Any]:
    path = join(run_dir, CONFIG_FILE)
    if not exists(path):
        raise InputError(
            f"The folder holds no run: it has no {CONFIG_FILE}. Received: {run_dir!r}. "
            "Give an output_dir of `tibert pretrain` or `tibert finetune`."
        )
    return read_yaml(path, what="the configuration of a run", advice="Choose another folder.")


def check_folder(config: Any, changeable: Collection[str]) -> None:
    """Check that the output folder is empty, or holds a run of the same kind and options, except changeable ones."""
    folder = config.output_dir
    if exists(join(folder, CONFIG_FILE)):
        refuse_changes({"kind": read_kind(folder)}, {"kind": config.kind}, folder=folder)
        current = dataclasses.asdict(config)
        # An option that is newer than the run had its default value.
        defaults = {field.name: field.default for field in dataclasses.fields(config)}
        previous = {**defaults, **read_config(folder)}
        fixed = [name for name in current if name not in changeable]
        refuse_changes({name: previous[name] for name in fixed}, {name: current[name] for name in fixed}, folder=folder)
    elif list_folder(folder):
        raise InputError(
            f"The output folder is not empty and holds no run. Received: output_dir={folder!r}. Choose another."
        )


def find_preset(model: str | os.PathLike[str], *, task: str | None = None) -> str:
    """Return the folder of a preset, given that folder, a run with a champion, or the name of one with weights.

    A preset may be that of KerasHub's or transformers' ALBERT, and a handle such as `hf://user/model`. With `task`, it
    must be of that class, as for `check_task`.
    """
    given, model = model, find_by_name(model)
    if is_handle(model):
        return model
    champion = join(model, CHAMPION_PRESET)
    # The last is an encoder alone, or a model of transformers.
    for folder, name in ((model, "task.json"), (champion, "task.json"), (model, "config.json")):
        if exists(join(folder, name)):
            if task is not None:
                check_task(folder, task, model=given)
            return folder
    raise InputError(
        f"Neither a preset nor a run with a champion. Received: {model!r}. Give a folder that holds task.json, a run "
        f"after `tibert champion`, or the name of a model of the package: {MASKED_LM} or {TAGGER}."
    )
