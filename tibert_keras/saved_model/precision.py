"""Holds a SavedModel's weights in fewer bits, and measures what that costs on held-out data."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf

from tibert_keras.errors import InputError
from tibert_keras.finetuning.text import LabelledText, read_labelled, segments_of
from tibert_keras.models.encoder_layer import has_own_policies
from tibert_keras.models.tibert_task import TibertTask
from tibert_keras.models.tibert_text_classifier import TibertTextClassifier
from tibert_keras.models.tibert_token_classifier import TibertTokenClassifier
from tibert_keras.records.pipeline import Records
from tibert_keras.runs.presets import load_model
from tibert_keras.tagging.metrics import score_tagging
from tibert_keras.tagging.preparation import prepare_documents
from tibert_keras.tagging.reading import read_split, read_tagged, split_documents
from tibert_keras.tagging.words import CONTINUATION, Document

Precision = Literal["float32", "bfloat16", "float16", "dynamic_range"]
HeldOut = Records | Sequence[Document] | Sequence[LabelledText]

# Smaller matrices stay float32 under `dynamic_range`.
_MIN_SIZE = 1024


def in_bfloat16(model: Any) -> Any:
    """Return a copy of a model that holds its weights in bfloat16, and computes in it; itself if it does already."""
    if all(weight.dtype == "bfloat16" for weight in model.weights):
        return model
    return copied(model, dtype="bfloat16")


def copied(model: Any, *, dtype: str | None) -> Any:
    """Return a copy of a model, on one device, of another type, or with the types of its own layers."""
    with tempfile.TemporaryDirectory() as preset:
        model.save_to_preset(preset)
        return load_model(preset, dtype=dtype)


class CompactWeights(tf.Module):
    """A model's weights in float16, or its large matrices in int8 with scales. The model computes in float32.

    `dynamic_range` is symmetric, as in TensorFlow Lite: the largest magnitude of each output of a layer, or of each row
    of an embedding, becomes 127. Vectors and small matrices stay float32.
    """

    def __init__(self, model: keras.Model, precision: Precision) -> None:
        super().__init__()
        # Untracked, so that its own weights are not saved beside the compact ones.
        self._model = self._no_dependency(model)
        # Weights only, not all variables: the states of dropout's seeds are large integers, which must stay exact.
        self._originals = self._no_dependency(tuple(model.weights))
        stored = [_compress(variable, precision) for variable in self._originals]
        self.values = [tf.Variable(value, trainable=False) for value, _ in stored]
        self.scales = [
            tf.constant(1.0) if scale is None else tf.Variable(scale, trainable=False) for _, scale in stored
        ]

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Make the model compute with these weights, within a graph too."""
        with keras.StatelessScope(state_mapping=list(zip(self._originals, self._restore(), strict=True))):
            yield

    def _restore(self) -> list[tf.Tensor]:
        return [tf.cast(value, tf.float32) * scale for value, scale in zip(self.values, self.scales, strict=True)]

    @contextmanager
    def assigned(self) -> Iterator[None]:
        """Assign these weights to the model while the body runs, for compiled functions such as `predict`."""
        weights = [keras.ops.convert_to_numpy(variable) for variable in self._originals]
        try:
            self._assign(self._restore())
            yield
        finally:
            self._assign(weights)

    def _assign(self, values: Sequence[Any]) -> None:
        for variable, value in zip(self._originals, values, strict=True):
            variable.assign(value)


def _compress(variable: Any, precision: Precision) -> tuple[np.ndarray, np.ndarray | None]:
    value = keras.ops.convert_to_numpy(variable).astype("float32")
    if precision == "float16":
        return value.astype("float16"), None
    if value.ndim < 2 or value.size < _MIN_SIZE:
        return value, None
    kept = 0 if variable.path.endswith("embeddings") else value.ndim - 1
    axes = tuple(axis for axis in range(value.ndim) if axis != kept)
    scale = np.maximum(np.abs(value).max(axis=axes, keepdims=True), 1e-12) / 127
    return np.round(value / scale).astype("int8"), scale.astype("float32")


# === What it costs ===


def read_held_out(
    model: TibertTask, pattern: str, *, split_file: str | None = None, universal_tags: bool = False
) -> HeldOut:
    """Read held-out data of the kind that a model was trained on: records, tagged files, or tables of labelled texts.

    `split_file` and `universal_tags` are for a tagger, as in its fine-tuning. Of a split it takes the documents for
    testing, or those for validation if there are none.
    """
    if isinstance(model, TibertTokenClassifier):
        documents = read_tagged(pattern)
        if split_file is not None:
            parts = split_documents(documents, read_split(split_file))
            documents = parts["test"] or parts["validation"]
        kept = [label for label in model.labels if label != CONTINUATION]
        return prepare_documents(documents, universal_tags=universal_tags, keep_tags=kept)
    if split_file is not None or universal_tags:
        raise InputError(
            "Only a tagger is measured on documents with tags. Received: "
            f"{type(model).__name__} with split_file={split_file!r}, universal_tags={universal_tags}. Leave both out."
        )
    return read_labelled(pattern) if isinstance(model, TibertTextClassifier) else Records.find(pattern)


def compare_precision(model: TibertTask, precision: Precision, held_out: HeldOut) -> tuple[str, TibertTask]:
    """Measure what a precision costs on held-out data.

    Returns a line per figure, before, in it, and the difference; and the model to export in it, for `bfloat16` a copy.
    Before means in float32, or as the model is quantized. The figures are accuracy and loss (nats per masked token) for
    a masked language model, joint F1 for a tagger, and accuracy for a text classifier.
    """
    full = _figures(model, held_out)
    own = "its own precision" if has_own_policies(model) else "float32"
    if precision == "bfloat16":
        model = in_bfloat16(model)
        compact = _figures(model, held_out)
    else:
        with CompactWeights(model, precision).assigned():
            compact = _figures(model, held_out)
    report = "\n".join(
        f"{name}: {full[name]:.4f} in {own}, {compact[name]:.4f} in {precision}, {compact[name] - full[name]:+.4f}"
        for name in full
    )
    return report, model


def _figures(model: Any, held_out: Any) -> dict[str, float]:
    # An export that measures nothing needs neither.
    from tibert_keras.finetuning.tokens import tag_documents
    from tibert_keras.training.evaluate import evaluate

    if isinstance(held_out, Records):
        figures = evaluate(model, held_out)
        return {name: figures[name] for name in ("accuracy", "loss")}
    if isinstance(model, TibertTokenClassifier):
        # The words of its training are not known here; the joint F1 does not depend on them.
        figures = score_tagging(held_out, list(tag_documents(model, held_out)), known=()).values
        return {"joint_f1": figures["joint_f1"]}
    return {"accuracy": _accuracy(model, held_out)}


def _accuracy(model: TibertTextClassifier, texts: Sequence[LabelledText]) -> float:
    true = model.preprocessor.label_ids([text.label for text in texts])
    if len(texts[0].segments) != model.preprocessor.num_segments:
        raise InputError(
            "A classifier is measured on as many texts side by side as it was trained on. Received: "
            f"{len(texts[0].segments)} texts a line, not {model.preprocessor.num_segments}. Give other files."
        )
    probabilities = model.predict_probabilities(segments_of(texts))
    return float(np.mean(probabilities.argmax(axis=-1) == true))
