"""From one format to another, with the proof that both sides compute the same."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import keras
import numpy as np

from tibert_keras.errors import InputError
from tibert_keras.formats import google_checkpoint, hugging_face
from tibert_keras.formats.google_names import standard_names
from tibert_keras.formats.hugging_face_weights import read_weights
from tibert_keras.formats.keras_preset import read_keras, write_keras
from tibert_keras.formats.numpy_albert import GOOGLE_NAMES, HUGGING_FACE_NAMES, Batch, plain_outputs
from tibert_keras.formats.portable import PortableModel
from tibert_keras.models.tibert_classifier import TibertClassifier
from tibert_keras.storage import atomic_output, list_folder

Format = Literal["google", "huggingface", "keras"]

# Float32 rounds to about 1e-6; the smallest mistake, GELU without its approximation, costs 1e-4.
TOLERANCE = 1e-4
_SIZES = (
    "vocab_size", "embedding_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_hidden_groups",
    "inner_group_num", "num_attention_heads", "max_position_embeddings", "type_vocab_size",
)  # fmt: skip

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ConvertConfig:
    """Converts a model.

    Args:
        from_: Format of the input: `google` (TensorFlow 1 checkpoints of Google's ALBERT), `huggingface` (folders of
            transformers) or `keras` (presets and runs of this package).
        input: What to convert. `google`: a folder with albert_config.json and model.ckpt-N, or the path up to
            `model.ckpt-N`. `huggingface`: a folder with config.json and model.safetensors or pytorch_model.bin,
            whole or in parts with their index.
            `keras`: a preset; a run, for its champion; or RUN/checkpoints/STEP, with the state of its training.
        to: Format of the output.
        output: A new or empty folder. With `google` weights, moments and step go to `model.ckpt-N`.
        albert_config_file: Configuration of a checkpoint of Google's, with `check` on either side; by default the one
            in its folder.
        spm_model_file: SentencePiece model of a foreign input; by default the only `.model` file beside a checkpoint
            of Google's, and the `spiece.model` of a folder of transformers.
        check: Write nothing, and compare an input and an output that are there.

    Raises:
        InputError: If there is no such format, or an option goes with another one.

    Example:
    ```python
    config = ConvertConfig(from_="keras", input="run", to="huggingface", output="for_transformers")
    ```
    """

    from_: Format
    input: str
    to: Format
    output: str
    albert_config_file: str | None = None
    spm_model_file: str | None = None
    check: bool = False

    def __post_init__(self) -> None:
        for name, value in (("from", self.from_), ("to", self.to)):
            if value not in (formats := get_args(Format)):
                raise InputError(f"No such format. Received: {name}={value!r}. Give one of {', '.join(formats)}.")
        # Of a comparison either side may be a checkpoint with its configuration elsewhere.
        configured = (self.from_, self.to) if self.check else (self.from_,)
        if (self.albert_config_file and "google" not in configured) or (self.spm_model_file and self.from_ == "keras"):
            raise InputError(
                "albert_config_file goes with a checkpoint of Google's, spm_model_file with a foreign model. Received: "
                f"from={self.from_!r}, to={self.to!r}, albert_config_file={self.albert_config_file!r}, "
                f"spm_model_file={self.spm_model_file!r}. Leave them out."
            )


class Proof(NamedTuple):
    """How far two sides are from each other on a fixed batch.

    Attributes:
        differences: The largest absolute difference of each output that the input has: `sequence_output`,
            `pooled_output`, and the log-probabilities `masked_lm`, `sentence_order` and, of a classifier, `classes`.

    Example:
    ```python
    Proof({"sequence_output": 9.5e-07, "masked_lm": 2.1e-06}).largest  # 2.1e-06
    ```
    """

    differences: dict[str, float]

    @property
    def largest(self) -> float:
        """The largest of the differences."""
        return max(self.differences.values())


def convert(config: ConvertConfig) -> Proof:
    """Convert a model, read back what was written, and compare the two; or, with `check`, only compare.

    A foreign side runs in plain NumPy, on the variables as they lie in its files and without the tables that the
    conversion reads; ours runs in Keras.

    Args:
        config: What to convert.

    Returns:
        The differences.

    Raises:
        InputError: If an input cannot be used, the target holds something, or the two differ by more than `TOLERANCE`.
            Nothing is written then.

    Example:
    ```python
    convert(ConvertConfig(from_="google", input="model.ckpt-800000", to="huggingface", output="tibert")).largest
    ```
    """
    source = _Side(config.from_, config.input, config.albert_config_file, config.spm_model_file)
    if config.check:
        return _prove(source.load(), _Side(config.to, config.output, config.albert_config_file).load())
    if list_folder(config.output) or Path(config.output).is_file():
        raise InputError(f"The output is not an empty folder. Received: output={config.output!r}. Choose another.")
    portable = source.read()
    # By these readers tell that a remote folder is whole.
    last = {"google": google_checkpoint.CONFIG_FILE, "huggingface": hugging_face.CONFIG_FILE, "keras": "task.json"}
    with atomic_output(config.output, last=last[config.to]) as folder:
        _write(config.to, portable, folder)
        target = _Side(config.to, os.fspath(folder))
        proof = _prove(source.load(portable), target.load())
        if config.to == "google":
            _check_training(portable, target.read())
        return proof


def _write(to: Format, portable: PortableModel, folder: Path) -> None:
    if to == "google":
        google_checkpoint.write_google(portable, folder)
        return
    if portable.moments:
        _LOG.info(
            "Dropped %d moments of the optimizer and the step, because %s holds no state of a training. "
            "`tibert pretrain --init_checkpoint` takes them from the input itself.",
            len(portable.moments),
            to,
        )
    (hugging_face.write_hugging_face if to == "huggingface" else write_keras)(portable, folder)


class _Loaded(NamedTuple):
    """A model's path and sizes, and what runs it for a proof."""

    path: str
    sizes: dict[str, Any]
    run: Callable[[Batch], dict[str, np.ndarray]]


class _Side(NamedTuple):
    """A model in a format."""

    format: Format
    path: str
    albert_config_file: str | None = None
    spm_model_file: str | None = None

    def read(self) -> PortableModel:
        """The model, to go to another format."""
        if self.format == "google":
            return google_checkpoint.read_google(self._google_files())
        if self.format == "huggingface":
            return hugging_face.read_hugging_face(self.path, spm_model_file=self.spm_model_file)
        return read_keras(self.path)

    def load(self, portable: PortableModel | None = None) -> _Loaded:
        """The model as its own format has it; one of ours is not read again."""
        if self.format == "keras":
            portable = portable or read_keras(self.path)
            return _Loaded(self.path, portable.backbone.to_albert_config(), partial(keras_outputs, portable))
        if self.format == "google":
            variables, sizes = google_checkpoint.read_variables(self._google_files())
            variables, names = standard_names(variables), GOOGLE_NAMES
            classifies = None
        else:
            sizes = hugging_face.read_config(self.path)
            variables, names = hugging_face.standard_weights(read_weights(self.path)), HUGGING_FACE_NAMES
            classifies = hugging_face.head_input(self.path, variables)
        return _Loaded(self.path, sizes, partial(plain_outputs, variables, sizes, names, classifies=classifies))

    def _google_files(self) -> google_checkpoint.GoogleFiles:
        return google_checkpoint.find_google_files(
            self.path, albert_config_file=self.albert_config_file, spm_model_file=self.spm_model_file
        )


# === The proof ===


def fixed_batch(sizes: dict[str, Any]) -> Batch:
    """Make the batch of a proof: four sequences of up to 64 tokens, of all segments, one of them half padding.

    Args:
        sizes: The model's, under the names of `albert_config.json`.
    """
    rng = np.random.default_rng(0)
    length = min(64, sizes["max_position_embeddings"])
    padding_mask = np.ones((4, length), "int32")
    padding_mask[1, length // 2 :] = 0
    return Batch(
        token_ids=rng.integers(0, sizes["vocab_size"], (4, length), dtype="int32"),
        segment_ids=rng.integers(0, sizes["type_vocab_size"], (4, length), dtype="int32"),
        padding_mask=padding_mask,
        mask_positions=rng.integers(0, length // 2, (4, 8), dtype="int32"),
    )


def keras_outputs(portable: PortableModel, batch: Batch) -> dict[str, np.ndarray]:
    """Run our model; the outputs are those of `plain_outputs`."""
    inputs = batch._asdict()
    positions = inputs.pop("mask_positions")
    outputs = portable.backbone(inputs)
    model: Any = portable.model
    if isinstance(portable.model, TibertClassifier):
        outputs |= {"classes": keras.ops.log_softmax(model(inputs))}
    elif model is not portable.backbone:
        logits = model({**inputs, "mask_positions": positions})
        logits = logits if isinstance(logits, dict) else {"masked_lm": logits}
        outputs |= {name: keras.ops.log_softmax(array) for name, array in logits.items()}
    return {name: keras.ops.convert_to_numpy(array) for name, array in outputs.items()}


def _prove(source: _Loaded, target: _Loaded) -> Proof:
    if other := [name for name in _SIZES if source.sizes[name] != target.sizes[name]]:
        values = ", ".join(f"{name}={source.sizes[name]} and {target.sizes[name]}" for name in other)
        raise InputError(
            f"The two are of different architectures. Received: {values}. Give a model and its conversion."
        )
    batch = fixed_batch(source.sizes)
    try:
        expected, actual = source.run(batch), target.run(batch)
    except (KeyError, IndexError, ValueError) as error:
        raise InputError(
            f"A model cannot be run: {type(error).__name__}: {error}. Received: {source.path!r} and {target.path!r}. "
            "Give whole models, each with the configuration that belongs to it."
        ) from error
    if missing := [name for name in expected if name not in actual]:
        raise InputError(
            f"The output lacks a part of the input. Received: no {', '.join(missing)} in {target.path!r}, which "
            f"{source.path!r} has. Give a model and its conversion."
        )
    proof = Proof({name: float(np.abs(array - actual[name]).max()) for name, array in expected.items()})
    for name, value in proof.differences.items():
        # An order that no NaN passes.
        if not value <= TOLERANCE:
            raise InputError(
                f"The two do not compute the same. Received: {name} differs by up to {value:.1e}, more than "
                f"{TOLERANCE:.0e}, between {source.path!r} and {target.path!r}. Use neither for the other."
            )
    return proof


def _check_training(before: PortableModel, after: PortableModel) -> None:
    """Check that the state of a training, which no output shows, was written as it was."""
    names = sorted({*before.moments, *after.moments})
    if before.backbone.embedding_dim == before.backbone.hidden_dim:
        # It is the identity there, which Google has no variables for.
        names = [name for name in names if not name.startswith("embedding_projection/")]
    other = [n for n in names if not np.array_equal(before.moments.get(n, ()), after.moments.get(n, ()))]
    other += ["the global step"] if after.step != (before.step or 0) else []
    if other:
        raise InputError(
            f"The state of the training is not what was written. Received: another value of {other[0]}, one of "
            f"{len(other)}. Convert it anew."
        )
