"""Folders of Google's ALBERT: `albert_config.json`, `model.ckpt-N` and the SentencePiece model."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tibert_keras.errors import InputError
from tibert_keras.formats.google_names import (
    STEP,
    from_google,
    global_step,
    is_google_checkpoint,
    part_layers,
    read_google_checkpoint,
    to_google,
    variable_shapes,
)
from tibert_keras.formats.portable import PortableModel, architecture, fill
from tibert_keras.formats.tokenizer_files import (
    TOKENIZER_CONFIG_FILE,
    make_tokenizer,
    options_of,
    read_tokenizer_config,
)
from tibert_keras.models.tibert_backbone import TibertBackbone
from tibert_keras.models.tibert_pretraining import TibertPretraining
from tibert_keras.records.build import TOKENIZER_FILE
from tibert_keras.storage import join, list_folder, read_json

CONFIG_FILE = "albert_config.json"

_LOG = logging.getLogger(__name__)


class GoogleFiles(NamedTuple):
    """Where the parts of a model of Google's are.

    Attributes:
        prefix: The checkpoint, without `.index`.
        config: The `albert_config.json`.
        tokenizer: The SentencePiece model, or `None`.

    Example:
    ```python
    read_google(find_google_files("albert_base")).model.summary()
    ```
    """

    prefix: str
    config: str
    tokenizer: str | None


def find_google_files(
    path: str, *, albert_config_file: str | None = None, spm_model_file: str | None = None
) -> GoogleFiles:
    """Find the checkpoint, its configuration and its tokenizer.

    Args:
        path: The checkpoint, or a folder with one or several, of which the last is taken.
        albert_config_file: The configuration; by default the one in the checkpoint's folder.
        spm_model_file: The tokenizer; by default the only `.model` file in that folder, if there is one.

    Returns:
        The paths.

    Raises:
        InputError: If there is no checkpoint.
    """
    path = path.rstrip("/")
    folder = path
    if is_google_checkpoint(path):
        prefix, folder = path, os.path.dirname(path) or "."
    elif found := [name.removesuffix(".index") for name in list_folder(path) if name.endswith(".index")]:
        prefix = join(path, max(found, key=_step))
    else:
        raise InputError(
            f"No checkpoint of Google's is there. Received: {path!r}. "
            "Give a folder with model.ckpt-N.index, or the path up to `model.ckpt-N`."
        )
    models = [join(folder, name) for name in list_folder(folder) if name.endswith(".model")]
    return GoogleFiles(
        prefix=prefix,
        config=albert_config_file or join(folder, CONFIG_FILE),
        tokenizer=spm_model_file or (models[0] if len(models) == 1 else None),
    )


def _step(name: str) -> tuple[int, str]:
    number = name.rpartition("-")[2]
    # Published ones are called `model.ckpt-best`.
    return (int(number) if number.isdigit() else -1, name)


def read_google(files: GoogleFiles) -> PortableModel:
    """Read a model of Google's, with the state of its training.

    Args:
        files: Its files, of `find_google_files`.

    Returns:
        The model, with the heads, moments and step that the checkpoint has.

    Raises:
        InputError: If a file cannot be read, or the three do not belong together.
    """
    variables, config = read_variables(files)
    full = TibertPretraining(TibertBackbone.from_albert_config(config, dtype="float32"))
    if files.tokenizer is None:
        _LOG.warning(
            "No .model file, or more than one, is beside %r: the model takes only ids. Give spm_model_file if you "
            "have it.",
            files.prefix,
        )
        tokenizer = None
    else:
        options = read_tokenizer_config(os.path.dirname(files.tokenizer) or ".")
        tokenizer = make_tokenizer(files.tokenizer, options)
    return fill(
        full,
        from_google(variables, variable_shapes(full)),
        step=global_step(variables),
        tokenizer=tokenizer,
    )


def read_config(files: GoogleFiles) -> dict[str, Any]:
    """Read the configuration.

    Raises:
        InputError: If it cannot be read, or describes what is not supported.
    """
    advice = "Give the model's `albert_config_file`."
    return architecture(read_json(files.config, what="an ALBERT configuration", advice=advice))


def read_variables(files: GoogleFiles) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read variables and configuration, of a model with layers that share all or nothing.

    Args:
        files: Where they are.

    Returns:
        The variables by Google's names, and the configuration, as `part_layers` gives them.

    Raises:
        InputError: If a file cannot be read, or something in it is not supported.
    """
    config = read_config(files)
    return part_layers(read_google_checkpoint(files.prefix), config)


def write_google(portable: PortableModel, folder: Path) -> None:
    """Write a model so that Google's code goes on with it: weights, moments and global step.

    Args:
        portable: The model; a global step that is not known becomes 0.
        folder: A new folder.

    Raises:
        InputError: If Google's format cannot hold the model.
    """
    variables = to_google({**portable.weights, **portable.moments})
    step = portable.step or 0
    folder.mkdir()
    write_google_checkpoint(folder / f"model.ckpt-{step}", {**variables, STEP: np.asarray(step, "int64")})
    config = json.dumps(portable.backbone.to_albert_config(), indent=2)
    (folder / CONFIG_FILE).write_text(config + "\n", encoding="utf-8")
    if portable.tokenizer is not None:
        (folder / TOKENIZER_FILE).write_bytes(portable.tokenizer.proto)
        options = json.dumps(options_of(portable.tokenizer), indent=2)
        (folder / TOKENIZER_CONFIG_FILE).write_text(options + "\n", encoding="utf-8")


def write_google_checkpoint(prefix: Path, variables: dict[str, np.ndarray]) -> None:
    """Write variables as TensorFlow 1's `Saver` does, with the file `checkpoint` by which it finds the last one."""
    import tensorflow as tf

    names = sorted(variables)
    tf.raw_ops.SaveV2(
        prefix=os.fspath(prefix),
        tensor_names=names,
        shape_and_slices=[""] * len(names),
        tensors=[tf.constant(variables[name]) for name in names],
    )
    lines = [f'{key}: "{prefix.name}"\n' for key in ("model_checkpoint_path", "all_model_checkpoint_paths")]
    (prefix.parent / "checkpoint").write_text("".join(lines), encoding="utf-8")
