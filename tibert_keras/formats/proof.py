"""Compares a model with its conversion, on a fixed batch that runs through both."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import keras
import numpy as np

from tibert_keras.errors import InputError
from tibert_keras.formats import google_checkpoint, hugging_face
from tibert_keras.formats.google_names import standard_names
from tibert_keras.formats.hugging_face_weights import read_weights
from tibert_keras.formats.numpy_albert import GOOGLE_NAMES, HUGGING_FACE_NAMES, Batch, plain_outputs
from tibert_keras.formats.portable import PortableModel, read_keras
from tibert_keras.models.tibert_classifier import TibertClassifier

# Both sides run in float64, where rounding costs less than 1e-6. JAX's attention rounds to float32 all the same, which
# costs up to 1e-4 in a well-trained model. The smallest mistake, GELU without its approximation, costs 1e-4 with random
# weights, and more with trained ones.
# Rounding the weights to float16, at 5e-4 of each, costs 1e-2 to 1e-1 in the log-probabilities of pieces that a trained
# model thinks impossible, and nothing in those that count.
TOLERANCES = {"float32": 1e-3 if keras.backend.backend() == "jax" else 1e-5, "float16": 0.5}
_SIZES = (
    "vocab_size", "embedding_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_hidden_groups",
    "inner_group_num", "num_attention_heads", "max_position_embeddings", "type_vocab_size",
)  # fmt: skip


class Side(NamedTuple):
    """One side of a conversion: the files of a model in some format."""

    format: str
    path: str
    albert_config_file: str | None = None
    spm_model_file: str | None = None

    def read(self) -> PortableModel:
        """Read the model for writing it in another format."""
        if self.format == "google":
            return google_checkpoint.read_google(self._google_files())
        if self.format == "huggingface":
            return hugging_face.read_hugging_face(self.path, spm_model_file=self.spm_model_file)
        return read_keras(self.path)

    def load(self) -> tuple[dict[str, Any], Callable[[Batch], dict[str, np.ndarray]]]:
        """Load the model as its own format has it, in float64: its sizes, and what computes its outputs."""
        if self.format == "keras":
            portable = read_keras(self.path, dtype="float64")
            return portable.backbone.to_albert_config(), partial(keras_outputs, portable)
        if self.format == "google":
            variables, sizes = google_checkpoint.read_variables(self._google_files())
            variables, names = standard_names(variables), GOOGLE_NAMES
            classifies = None
        else:
            sizes = hugging_face.read_albert_config(self.path)
            variables, names = hugging_face.standard_weights(read_weights(self.path)), HUGGING_FACE_NAMES
            classifies = hugging_face.head_input(self.path, variables)
        variables = {name: np.asarray(array, "float64") for name, array in variables.items()}
        return sizes, partial(plain_outputs, variables, sizes, names, classifies=classifies)

    def _google_files(self) -> google_checkpoint.GoogleFiles:
        return google_checkpoint.find_google_files(
            self.path, albert_config_file=self.albert_config_file, spm_model_file=self.spm_model_file
        )


def fixed_batch(sizes: dict[str, Any]) -> Batch:
    """Make the batch of a proof: four sequences of up to 64 tokens, with all segments; one is half padding."""
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
    """Run our model. The outputs have the names and shapes of `plain_outputs`."""
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


def prove(source: Side, target: Side, tolerance: float) -> dict[str, float]:
    """Run the same batch through both sides, and return the largest absolute difference of each output of the source.

    These are `sequence_output`, `pooled_output`, and the log-probabilities `masked_lm`, `sentence_order` and `classes`.
    """
    with _double_precision():
        expected, actual = _outputs(source, target)
    if missing := [name for name in expected if name not in actual]:
        raise InputError(
            f"The output lacks a part of the input. Received: no {', '.join(missing)} in {target.path!r}, which "
            f"{source.path!r} has. Give a model and its conversion."
        )
    differences = {name: float(np.abs(array - actual[name]).max()) for name, array in expected.items()}
    for name, value in differences.items():
        # Rejects NaN too.
        if not value <= tolerance:
            raise InputError(
                f"The two do not compute the same. Received: {name} differs by up to {value:.1e}, more than "
                f"{tolerance:.0e}, between {source.path!r} and {target.path!r}. Use neither for the other."
            )
    return differences


def _outputs(source: Side, target: Side) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    (sizes, run), (other_sizes, other_run) = source.load(), target.load()
    if other := [name for name in _SIZES if sizes[name] != other_sizes[name]]:
        values = ", ".join(f"{name}={sizes[name]} and {other_sizes[name]}" for name in other)
        raise InputError(
            f"The two are of different architectures. Received: {values}. Give a model and its conversion."
        )
    batch = fixed_batch(sizes)
    try:
        return run(batch), other_run(batch)
    except (KeyError, IndexError, ValueError) as error:
        raise InputError(
            f"A model cannot be run: {type(error).__name__}: {error}. Received: {source.path!r} and "
            f"{target.path!r}. Give whole models, each with the configuration that belongs to it."
        ) from error


@contextmanager
def _double_precision() -> Iterator[None]:
    """Let JAX compute in float64, which it does only if told."""
    if keras.backend.backend() != "jax":
        yield
        return
    import jax

    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    try:
        yield
    finally:
        jax.config.update("jax_enable_x64", before)


def check_training(before: PortableModel, after: PortableModel) -> None:
    """Check that moments and step, which no output depends on, were written unchanged."""
    names = sorted({*before.moments, *after.moments})
    if before.backbone.embedding_dim == before.backbone.hidden_dim:
        # Google has no variables for the projection then, which is the identity.
        names = [name for name in names if not name.startswith("embedding_projection/")]
    other = [n for n in names if not np.array_equal(before.moments.get(n, ()), after.moments.get(n, ()))]
    other += ["the global step"] if after.step != (before.step or 0) else []
    if other:
        raise InputError(
            f"The state of the training differs from the one written. Received: another value of {other[0]}, one of "
            f"{len(other)}. Convert it anew."
        )
