"""Finds models of any format, converts them into another, and proves that both sides compute the same."""

import logging
import os
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from tibert_keras.errors import InputError
from tibert_keras.formats.google_names import find_google_checkpoint
from tibert_keras.formats.hugging_face_weights import CONFIG_JSON, read_config_file
from tibert_keras.locks import only_writer
from tibert_keras.models.tibert_presets import find_by_name
from tibert_keras.registration import is_handle
from tibert_keras.runs.checkpoints import Checkpoints, split_checkpoint
from tibert_keras.runs.folder import CHAMPION_PRESET, find_preset
from tibert_keras.storage import atomic_output, exists, join, list_folder

# Named in quotes below, and not by postponed annotations: to resolve those jsonargparse would import Keras.
if TYPE_CHECKING:
    from tibert_keras.formats.portable import PortableModel

Format = Literal["google", "huggingface", "keras"]

# The file that is written last, by which readers tell that a remote folder is complete.
_LAST_FILES = {"google": "albert_config.json", "huggingface": "config.json", "keras": "task.json"}

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ConvertConfig:
    """Converts a model.

    Args:
        from_: Format of the input: `google` (TensorFlow 1 checkpoints of Google's ALBERT), `huggingface` (folders of
            transformers) or `keras` (presets and runs of this package).
        input: What to convert. `google`: a folder with albert_config.json and model.ckpt-N, or the path up to
            `model.ckpt-N`. `huggingface`: a folder with config.json and model.safetensors or pytorch_model.bin (which
            needs torch), whole or in parts with their index.
            `keras`: a preset; a run, for its champion; or RUN/checkpoints/STEP, with the state of its training.
        to: Format of the output.
        output: A new or empty folder. With `google` weights, moments and step go to `model.ckpt-N`.
        albert_config_file: Configuration of a Google checkpoint, with `check` on either side; by default the one in
            its folder.
        spm_model_file: SentencePiece model of a foreign input; by default the only `.model` file beside a Google
            checkpoint, or the `spiece.model` of a folder of transformers.
        precision: How a preset stores its weights: `float32`, or `float16` for half the size. It loads as float32
            either way; the differences are then those of rounding.
        check: Write nothing; compare an input and an output that both exist.
    """

    from_: Format
    input: str
    to: Format
    output: str
    albert_config_file: str | None = None
    spm_model_file: str | None = None
    precision: Literal["float32", "float16"] = "float32"
    check: bool = False

    def __post_init__(self) -> None:
        for name, value in (("from", self.from_), ("to", self.to)):
            if value not in (formats := get_args(Format)):
                raise InputError(f"No such format. Received: {name}={value!r}. Give one of {', '.join(formats)}.")
        if self.precision != "float32" and self.to != "keras":
            raise InputError(
                "Only a preset stores its weights in another precision. "
                f"Received: precision={self.precision!r}, to={self.to!r}. Leave precision out."
            )
        # With `check`, the configuration may belong to either side.
        configured = (self.from_, self.to) if self.check else (self.from_,)
        if (self.albert_config_file and "google" not in configured) or (self.spm_model_file and self.from_ == "keras"):
            raise InputError(
                "albert_config_file goes with a checkpoint of Google's, spm_model_file with a foreign model. Received: "
                f"from={self.from_!r}, to={self.to!r}, albert_config_file={self.albert_config_file!r}, "
                f"spm_model_file={self.spm_model_file!r}. Leave them out."
            )


def convert(config: ConvertConfig) -> dict[str, float]:
    """Convert a model, read the result back, and compare the two. With `check`, only compare.

    A foreign model runs in plain NumPy on the variables of its files, without the tables that the conversion reads.
    Ours runs in Keras. Returns the differences, as `prove`.
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
        differences = prove(source, target, tolerance)
        if config.to == "google":
            check_training(portable, target.read())
        return differences


def find_model(path: str | os.PathLike[str]) -> tuple[Format, str]:
    """Find the model that a path names, by the files there: its format, and the path for the reader of that format.

    It is a preset's folder, name or handle (`hf://user/model`); a run, for its champion or, before there is one, its
    last checkpoint; `RUN/checkpoints/STEP`; a folder of transformers; or a checkpoint of Google's (`model.ckpt-N`) or
    its folder.
    """
    place = find_by_name(path).rstrip("/")
    if is_handle(place):
        return "keras", place
    run_dir, step = split_checkpoint(place) or (place, None)
    steps = Checkpoints(run_dir).steps
    if step is not None and step in steps:
        return "keras", place
    for folder in (place, join(place, CHAMPION_PRESET)):
        if exists(join(folder, "task.json")):
            return "keras", folder
    if step is None and steps:
        return "keras", f"{Checkpoints(run_dir).folder}/{steps[-1]}"
    if exists(join(place, CONFIG_JSON)):
        # A preset of an encoder alone has a file of this name too.
        return "huggingface" if "model_type" in read_config_file(place) else "keras", place
    if exists(f"{place}.index") or any(name.endswith(".index") for name in list_folder(place)):
        return "google", find_google_checkpoint(place)
    raise InputError(
        f"No model is there. Received: {os.fspath(path)!r}. Give a preset, a run, RUN/checkpoints/STEP, a folder of "
        "transformers, or a checkpoint of Google's such as model.ckpt-800000."
    )


def _check_exists(format_: Format, path: str) -> None:
    """Refuse a path that holds no model of a format, before Keras is imported."""
    if format_ == "google":
        find_google_checkpoint(path)
    elif format_ == "huggingface":
        read_config_file(path)
    # An encoder alone has no task.json.
    elif split_checkpoint(path) is None and not exists(join(path, "config.json")):
        find_preset(path)


def _write(config: ConvertConfig, portable: "PortableModel", folder: Path) -> None:
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
