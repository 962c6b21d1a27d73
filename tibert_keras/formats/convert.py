"""Converts models between formats, and proves that both sides compute the same."""

from __future__ import annotations

import logging
import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tibert_keras.errors import InputError
from tibert_keras.formats.config import ConvertConfig, Format
from tibert_keras.formats.google_names import find_google_checkpoint
from tibert_keras.formats.hugging_face_weights import read_config_file
from tibert_keras.locks import only_writer
from tibert_keras.runs.checkpoints import split_checkpoint
from tibert_keras.runs.folder import find_preset
from tibert_keras.storage import atomic_output, exists, join, list_folder

if TYPE_CHECKING:
    from tibert_keras.formats.portable import PortableModel
    from tibert_keras.formats.proof import Proof

# The file that is written last, by which readers tell that a remote folder is complete.
_LAST_FILES = {"google": "albert_config.json", "huggingface": "config.json", "keras": "task.json"}

_LOG = logging.getLogger(__name__)


def convert(config: ConvertConfig) -> Proof:
    """Convert a model, read the result back, and compare the two. With `check`, only compare.

    A foreign model runs in plain NumPy on the variables of its files, without the tables that the conversion reads.
    Ours runs in Keras.

    Args:
        config: What to convert.

    Returns:
        The differences.

    Raises:
        InputError: If an input cannot be used, the target is not empty, or the two differ by more than `TOLERANCES`
            allow. Then nothing is written.

    Example:
    ```python
    convert(ConvertConfig(from_="google", input="model.ckpt-800000", to="huggingface", output="tibert")).largest
    ```
    """
    _check_exists(config.from_, config.input)
    if config.check:
        _check_exists(config.to, config.output)
    elif list_folder(config.output) or Path(config.output).is_file():
        raise InputError(f"The output is not an empty folder. Received: output={config.output!r}. Choose another.")

    from tibert_keras.formats.proof import TOLERANCES, Side, check_training, prove

    tolerance = TOLERANCES[config.precision]
    source = Side(config.from_, config.input, config.albert_config_file, config.spm_model_file)
    if config.check:
        return prove(source, Side(config.to, config.output, config.albert_config_file), tolerance)
    portable = source.read()
    with only_writer(config.output), atomic_output(config.output, last=_LAST_FILES[config.to]) as folder:
        _write(config, portable, folder)
        target = Side(config.to, os.fspath(folder))
        if config.precision != "float32":
            # The rounding would hide a mistake.
            with tempfile.TemporaryDirectory() as whole:
                _write(replace(config, precision="float32"), portable, Path(whole))
                prove(source, Side(config.to, whole), TOLERANCES["float32"])
        proof = prove(source, target, tolerance)
        if config.to == "google":
            check_training(portable, target.read())
        return proof


def _check_exists(format_: Format, path: str) -> None:
    """Refuse a path that holds no model of a format, before Keras is imported."""
    if format_ == "google":
        find_google_checkpoint(path)
    elif format_ == "huggingface":
        read_config_file(path)
    # An encoder alone has no task.json.
    elif split_checkpoint(path) is None and not exists(join(path, "config.json")):
        find_preset(path)


def _write(config: ConvertConfig, portable: PortableModel, folder: Path) -> None:
    from tibert_keras.formats import google_checkpoint, hugging_face
    from tibert_keras.formats import portable as keras_format

    if config.to == "google":
        google_checkpoint.write_google(portable, folder)
        return
    if portable.moments:
        _LOG.info(
            "Dropped %d moments of the optimizer and the step, because %s holds no state of a training. "
            "`tibert pretrain --continue_from` takes them from the input itself.",
            len(portable.moments),
            config.to,
        )
    if config.to == "huggingface":
        hugging_face.write_hugging_face(portable, folder)
    else:
        keras_format.write_keras(portable, folder, precision=config.precision)
