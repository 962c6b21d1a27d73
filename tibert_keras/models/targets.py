"""Checks labels and weights before training. Keras would fail in a graph, and a GPU would train on them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from tibert_keras.errors import InputError
from tibert_keras.models.training_data import holds_ids, is_dataset
from tibert_keras.optimizers.losses import MaskedLanguageModelLoss

_SPARSE = (MaskedLanguageModelLoss, keras.losses.SparseCategoricalCrossentropy)


def check_targets(model: Any, data: Mapping[str, Any]) -> None:
    """Check the labels and weights of examples, if the model's loss compares with the numbers of classes.

    Args:
        model: A model of one output.
        data: Arrays as `x`, `y` and `sample_weight`, or as `x` a `tf.data.Dataset`, of which only shapes are checked.

    Raises:
        InputError: If the labels are missing, or not one number of a class for each output; or there are not as many
            weights, or they are not numbers from 0.
    """
    x, y, weights = (data[name] for name in ("x", "y", "sample_weight"))
    if is_dataset(x):
        x, y, weights = keras.utils.unpack_x_y_sample_weight(x.element_spec)
    loss = getattr(model, "loss", None)
    is_sparse = isinstance(loss, _SPARSE) or loss == "sparse_categorical_crossentropy"
    if not holds_ids(x) or not is_sparse or isinstance(model.output, Mapping):
        return
    if y is None:
        raise InputError("The loss compares with labels. Received: y=None. Give one for each example.")
    inputs, outputs = _shape(x.get("mask_positions", x["token_ids"])), model.output.shape
    if inputs is None:
        return
    wanted = inputs[: len(outputs) - 1]
    if not _fits(_shape(y), wanted):
        raise InputError(
            f"A label is the number of a class. Received: labels of shape {_shape(y)} for examples of shape {wanted}. "
            "Give one number each; of one-hot labels y.argmax(-1)."
        )
    _check_numbers(y, outputs[-1])
    if weights is None:
        return
    if not _fits(_shape(weights), wanted, broadcast=True):
        raise InputError(
            f"Each label needs a weight. Received: weights of shape {_shape(weights)} for labels of shape {wanted}. "
            "Give as many of both."
        )
    if isinstance(weights, np.ndarray) and not ((weights >= 0) & (weights < np.inf)).all():
        raise InputError(f"A weight is a number from 0. Received: {weights.min()} to {weights.max()}. Give others.")


def as_weights(values: Any) -> np.ndarray:
    """Return weights that a user has given as a float32 array.

    Raises:
        InputError: If they are not numbers, or nested lists of different lengths.
    """
    try:
        return np.asarray(values, "float32")
    except (ValueError, TypeError) as error:
        raise InputError(f"Weights are numbers. Received: {values!r:.80}. Give one for each example.") from error


def _shape(values: Any) -> tuple[int | None, ...] | None:
    shape = values.shape if hasattr(values, "shape") else np.shape(values)
    return None if getattr(shape, "rank", 0) is None else tuple(shape)


def _fits(shape: tuple[int | None, ...] | None, wanted: tuple[int | None, ...], *, broadcast: bool = False) -> bool:
    """Compare shapes, of which a dataset does not tell all."""
    if shape is None:
        return True
    if len(wanted) == 1 and shape[1:] == (1,):
        # Keras takes columns too.
        shape = shape[:1]
    return len(shape) == len(wanted) and all(
        given is None or size is None or given == size or (broadcast and axis > 0 and given == 1)
        for axis, (given, size) in enumerate(zip(shape, wanted, strict=True))
    )


def _check_numbers(y: Any, classes: int) -> None:
    if not hasattr(y, "__array__"):
        return
    labels = y if isinstance(y, np.ndarray) else keras.ops.convert_to_numpy(y)
    if labels.dtype.kind not in "biuf":
        raise InputError(
            f"Labels beside ids are numbers. Received: {str(labels.flat[0])!r}. Give those of the classes."
        )
    right = (labels >= 0) & (labels < classes)
    if labels.dtype.kind == "f":
        right &= labels == np.floor(labels)
    if not right.all():
        raise InputError(
            f"The model has no such class. Received: {labels[~right][0]}. Give numbers from 0 to {classes - 1}."
        )
