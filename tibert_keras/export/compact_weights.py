"""Weights in fewer bits, for SavedModels that are small; what is computed with them stays float32."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf

from tibert_keras.data import Records
from tibert_keras.errors import InputError
from tibert_keras.models import TibertMaskedLM
from tibert_keras.training import evaluate

Precision = Literal["float32", "float16", "dynamic_range"]

_SMALLEST = 1024


class CompactWeights(tf.Module):
    """A model's weights in float16, or the large ones as int8 with scales, and the way back.

    `dynamic_range` is symmetric, as in TensorFlow Lite: the largest magnitude that belongs to an output of a layer, or
    to a row of an embedding, becomes 127. Vectors and small matrices stay float32.

    Args:
        model: A model on the TensorFlow backend. It is left as it is.
        precision: `"float16"` or `"dynamic_range"`.

    Example:
    ```python
    compact = CompactWeights(model, "float16")
    with compact.in_place():
        model(inputs)  # with the rounded weights
    ```
    """

    def __init__(self, model: keras.Model, precision: Precision) -> None:
        super().__init__()
        # Untracked: its own weights are not to be saved beside the compact ones.
        self._model = self._no_dependency(model)
        self._originals = self._no_dependency(tuple(model.variables))
        stored = [_compress(variable, precision) for variable in self._originals]
        self.values = [tf.Variable(value, trainable=False) for value, _ in stored]
        self.scales = [
            tf.constant(1.0) if scale is None else tf.Variable(scale, trainable=False) for _, scale in stored
        ]

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Let the model compute with these weights, within a graph too."""
        with keras.StatelessScope(state_mapping=list(zip(self._originals, self._restore(), strict=True))):
            yield

    def _restore(self) -> list[tf.Tensor]:
        return [tf.cast(value, tf.float32) * scale for value, scale in zip(self.values, self.scales, strict=True)]

    def score(self, records: Records) -> dict[str, Any]:
        """Measure the model with these weights, as `evaluate` does."""
        weights = [keras.ops.convert_to_numpy(variable) for variable in self._originals]
        try:
            self._assign(self._restore())
            return evaluate(self._model, records)
        finally:
            self._assign(weights)

    def _assign(self, values: Sequence[Any]) -> None:
        for variable, value in zip(self._originals, values, strict=True):
            variable.assign(value)


def compare_precision(model: TibertMaskedLM, precision: Precision, records: Records) -> str:
    """Measure on held-out records what a precision costs.

    Args:
        model: A masked language model.
        precision: That of the weights.
        records: Masked examples that the model was not trained on.

    Returns:
        A line for each of accuracy and loss (nats a masked token): in float32, in `precision`, and the difference.

    Raises:
        InputError: If the model is another.
    """
    if not isinstance(model, TibertMaskedLM):
        raise InputError(
            "What a precision costs is measured with a masked language model. "
            f"Received: {type(model).__name__}. Leave precision and input_file out."
        )
    full, compact = evaluate(model, records), CompactWeights(model, precision).score(records)
    return "\n".join(
        f"{name}: {full[name]:.4f} in float32, {compact[name]:.4f} in {precision}, {compact[name] - full[name]:+.4f}"
        for name in ("accuracy", "loss")
    )


def _compress(variable: Any, precision: Precision) -> tuple[np.ndarray, np.ndarray | None]:
    value = keras.ops.convert_to_numpy(variable).astype("float32")
    if precision == "float16":
        return value.astype("float16"), None
    if value.ndim < 2 or value.size < _SMALLEST:
        return value, None
    kept = 0 if variable.path.endswith("embeddings") else value.ndim - 1
    axes = tuple(axis for axis in range(value.ndim) if axis != kept)
    scale = np.maximum(np.abs(value).max(axis=axes, keepdims=True), 1e-12) / 127
    return np.round(value / scale).astype("int8"), scale.astype("float32")
