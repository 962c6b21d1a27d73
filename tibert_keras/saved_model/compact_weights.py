"""Weights in fewer bits, for SavedModels that are small; what is computed with them stays float32."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf

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
        # Not all variables: the states of dropout's seeds are large integers, which are to stay as they are.
        self._originals = self._no_dependency(tuple(model.weights))
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

    @contextmanager
    def assigned(self) -> Iterator[None]:
        """Give the model these weights, and its own back: what Keras compiles, as `predict`, sees no others."""
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
    if value.ndim < 2 or value.size < _SMALLEST:
        return value, None
    kept = 0 if variable.path.endswith("embeddings") else value.ndim - 1
    axes = tuple(axis for axis in range(value.ndim) if axis != kept)
    scale = np.maximum(np.abs(value).max(axis=axes, keepdims=True), 1e-12) / 127
    return np.round(value / scale).astype("int8"), scale.astype("float32")
