"""Reads and writes folders of Google's ALBERT: `albert_config.json`, `model.ckpt-N` and the SentencePiece model."""

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tibert_keras.formats.google_names import (
    STEP,
    find_google_checkpoint,
    from_google,
    global_step,
    read_google_checkpoint,
    split_layers,
    to_google,
    variable_shapes,
)
from tibert_keras.formats.hugging_face_tokenizer import (
    TOKENIZER_CONFIG_FILE,
    make_tokenizer,
    read_tokenizer_config,
    tokenizer_options,
)
from tibert_keras.formats.portable import PortableModel, clean_albert_config, make_portable
from tibert_keras.lazy import tf
from tibert_keras.models.tibert_backbone import TibertBackbone
from tibert_keras.models.tibert_pretraining import TibertPretraining
from tibert_keras.records.build import TOKENIZER_FILE
from tibert_keras.storage import explaining_tensorflow, folder_of, join, list_folder, read_json

ALBERT_CONFIG = "albert_config.json"

_LOG = logging.getLogger(__name__)


class GoogleFiles(NamedTuple):
    """The paths of the files of a Google model."""

    prefix: str
    config: str
    tokenizer: str | None


def find_google_files(
    path: str, *, albert_config_file: str | None = None, spm_model_file: str | None = None
) -> GoogleFiles:
    """Find the checkpoint, its configuration and its tokenizer."""
    prefix = find_google_checkpoint(path)
    folder = folder_of(prefix)
    models = [join(folder, name) for name in list_folder(folder) if name.endswith(".model")]
    return GoogleFiles(
        prefix=prefix,
        config=albert_config_file or join(folder, ALBERT_CONFIG),
        tokenizer=spm_model_file or (models[0] if len(models) == 1 else None),
    )


def read_google(files: GoogleFiles, *, architecture: Mapping[str, Any] | None = None) -> PortableModel:
    """Read a model of Google's with the heads, moments and step that its checkpoint has.

    The architecture is the content of an `albert_config.json`, in place of the file's.
    """
    variables, config = read_variables(files, architecture=architecture)
    full = TibertPretraining(TibertBackbone.from_albert_config(config, dtype="float32"))
    if files.tokenizer is None:
        _LOG.warning(
            "No .model file, or more than one, is beside %r: the model takes only ids. Give spm_model_file if you "
            "have it.",
            files.prefix,
        )
        tokenizer = None
    else:
        options = read_tokenizer_config(folder_of(files.tokenizer))
        tokenizer = make_tokenizer(files.tokenizer, options)
    return make_portable(
        full, from_google(variables, variable_shapes(full)), step=global_step(variables), tokenizer=tokenizer
    )


def read_variables(
    files: GoogleFiles, *, architecture: Mapping[str, Any] | None = None
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read variables and configuration, with a group for each layer where `split_layers` makes one."""
    if architecture is None:
        advice = "Give the model's `albert_config_file`."
        architecture = read_json(files.config, what="an ALBERT configuration", advice=advice)
    return split_layers(read_google_checkpoint(files.prefix), clean_albert_config(architecture))


def write_google(portable: PortableModel, folder: Path) -> None:
    """Write a model from which Google's code can go on training: weights, moments and global step, 0 if unknown."""
    variables = to_google({**portable.weights, **portable.moments})
    step = portable.step or 0
    folder.mkdir()
    write_google_checkpoint(folder / f"model.ckpt-{step}", {**variables, STEP: np.asarray(step, "int64")})
    config = json.dumps(portable.backbone.to_albert_config(), indent=2)
    (folder / ALBERT_CONFIG).write_text(config + "\n", encoding="utf-8")
    if portable.tokenizer is not None:
        (folder / TOKENIZER_FILE).write_bytes(portable.tokenizer.proto)
        options = json.dumps(tokenizer_options(portable.tokenizer), indent=2)
        (folder / TOKENIZER_CONFIG_FILE).write_text(options + "\n", encoding="utf-8")


def write_google_checkpoint(prefix: Path, variables: dict[str, np.ndarray]) -> None:
    """Write variables as TensorFlow 1's `Saver` does, with the file `checkpoint` that names the last one."""
    names = sorted(variables)
    with explaining_tensorflow(prefix):
        tf.raw_ops.SaveV2(
            prefix=os.fspath(prefix),
            tensor_names=names,
            shape_and_slices=[""] * len(names),
            tensors=[tf.constant(variables[name]) for name in names],
        )
    lines = [f'{key}: "{prefix.name}"\n' for key in ("model_checkpoint_path", "all_model_checkpoint_paths")]
    (prefix.parent / "checkpoint").write_text("".join(lines), encoding="utf-8")
