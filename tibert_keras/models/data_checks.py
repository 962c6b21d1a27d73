"""Checks ids, labels and weights before training. Keras would fail in a graph, and a GPU would train on them."""

import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from tibert_keras.errors import InputError
from tibert_keras.lazy import tf
from tibert_keras.models.training_data import is_dataset, is_stream
from tibert_keras.optimizers.losses import MaskedLanguageModelLoss, SentenceOrderLoss

_SPARSE = (MaskedLanguageModelLoss, SentenceOrderLoss, keras.losses.SparseCategoricalCrossentropy)
_CLASSES, _WEIGHTS = "The model has no such class", "A weight is a number from 0"

Shape = tuple[int | None, ...] | None


def check_data(model: Any, data: Mapping[str, Any], *, targets: bool = True) -> None:
    """Check the data of `fit()` or `predict()` as `check_batch`; of a `tf.data.Dataset` only its shapes.

    The batches of a generator or a `PyDataset` are checked when they come, those of torch's `DataLoader` are not.
    """
    parts = (data["x"], data["y"], data["sample_weight"])
    if is_dataset(parts[0]):
        parts = keras.utils.unpack_x_y_sample_weight(parts[0].element_spec)
    elif is_stream(parts[0]):
        return
    check_batch(model, *parts, targets=targets)


def check_batch(model: Any, x: Any, y: Any = None, sample_weight: Any = None, *, targets: bool = True) -> None:
    """Check a batch of ids, and its labels and weights where the model's loss compares with the numbers of classes.

    It may be one of arrays, or the specifications of a dataset, which tell only shapes; `targets` tells whether to
    check labels and weights. An `InputError` is raised for inputs that are missing, do not fit the others or hold
    numbers that the model does not know, for labels that are not one class for each output, and for weights that are
    negative or not as many.
    """
    by_name, in_order = isinstance(model.input, Mapping), isinstance(x, list | tuple) and len(x) == len(model.input)
    # Anything else may be a container of Keras's.
    if not by_name or in_order or not (isinstance(x, Mapping | list | tuple) or hasattr(x, "shape")):
        return
    _check_inputs(model, x)
    # The positions that have labels.
    positions = _shape(x.get("mask_positions", x["token_ids"]))
    for _, output, labels, weights in _targets(model, y, sample_weight) if targets else ():
        _check_shapes(output.shape, positions, labels, weights)
    for what, values, limit in _limits(model, x, y, sample_weight, targets=targets):
        _check_numbers(what, values, limit)


def _targets(model: Any, y: Any, sample_weight: Any) -> Iterator[tuple[Any, Any, Any, Any]]:
    """Yield loss, output, labels and weights of each task whose labels are the numbers of classes."""
    outputs, loss = model.output, getattr(model, "loss", None)
    if not isinstance(outputs, Mapping):
        tasks = [(loss, outputs, y, sample_weight)]
    elif not isinstance(loss, Mapping):
        tasks = []
    else:
        names = [name for name in outputs if loss.get(name) is not None]
        for part, what in ((y, "labels"), (sample_weight, "weights")):
            if part is not None and not (isinstance(part, Mapping) and part.keys() >= set(names)):
                raise InputError(
                    f"Each task has its {what}. Received: {_described(part)}. Give a dict of {', '.join(names)}."
                )
        tasks = [(loss[name], outputs[name], *(part and part[name] for part in (y, sample_weight))) for name in names]
    for task in tasks:
        # With `ignore_class` a label may be no number of a class.
        ignores = getattr(task[0], "ignore_class", None) is not None
        if not ignores and (isinstance(task[0], _SPARSE) or task[0] == "sparse_categorical_crossentropy"):
            yield task


def with_checked_numbers(model: Any, dataset: Any, *, targets: bool) -> Any:
    """Return a `tf.data.Dataset`, in which a batch fails if `check_batch` would refuse its numbers."""
    if not isinstance(keras.utils.unpack_x_y_sample_weight(dataset.element_spec)[0], Mapping):
        return dataset

    @tf.autograph.experimental.do_not_convert
    def check(*batch: Any) -> Any:
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
        checks = []
        for what, values, limit in _limits(model, x, y, sample_weight, targets=targets):
            if limit == math.inf or values.dtype not in (tf.int32, tf.int64):
                values = tf.cast(values, tf.float64)
            right = (values >= 0) & (values < limit)
            if limit < math.inf and values.dtype.is_floating:
                right &= values == tf.floor(values)
            parts = [f"{what}. Received:", tf.boolean_mask(values, ~right)[:1], _advice(limit)]
            checks.append(tf.debugging.Assert(tf.reduce_all(right), parts))
        with tf.control_dependencies(checks):
            batch = tf.nest.map_structure(tf.identity, batch)
        return batch if len(batch) > 1 else batch[0]

    return dataset.map(check, num_parallel_calls=tf.data.AUTOTUNE)


@contextmanager
def reporting_input_errors() -> Iterator[None]:
    """Raise the `InputError`s of TensorFlow's graphs, which wraps them in errors of many lines, as they are."""
    try:
        yield
    except Exception as error:
        if type(error).__name__ != "InvalidArgumentError":
            raise
        if found := re.search(r"InputError: (.*Received: .*)", str(error)):
            raise InputError(found[1]) from error
        if found := re.search(r"assertion failed: \[(.* Received:)\] \[\[?(.*?)\]?\](?: \[(.*?)\])?", str(error)):
            raise InputError(f"{found[1]} {found[2]}. {found[3] or ''}".rstrip()) from error
        raise


def as_weights(values: Any) -> np.ndarray:
    """Return weights that a user has given as a float32 array; anything but numbers is an `InputError`."""
    try:
        return np.asarray(values, "float32")
    except (ValueError, TypeError) as error:
        raise InputError(f"Weights are numbers. Received: {values!r:.80}. Give one for each example.") from error


def _check_inputs(model: Any, x: Any) -> None:
    names = list(model.input)
    if not isinstance(x, Mapping) or x.keys() != set(names):
        raise InputError(f"The model takes ids by name. Received: {_described(x)}. Give a dict of {', '.join(names)}.")
    shapes = {name: _shape(x[name]) for name in names}
    wanted = shapes["token_ids"]
    for name, shape in shapes.items():
        # There may be any number of predictions.
        fitting = wanted and (wanted[:1] + (None,) if name == "mask_positions" else wanted)
        if shape is not None and len(shape) != 2:
            raise InputError(
                f"The inputs come in batches, [batch, sequence]. Received: {name} of shape {shape}. "
                "Give arrays of two axes, or dataset.batch(32)."
            )
        if shape is not None and fitting is not None and not _fits(shape, fitting):
            raise InputError(
                f"The inputs of a batch have one shape, [batch, sequence]. Received: {name} of shape {shape}, "
                f"token_ids of shape {wanted}. Give as many of each."
            )
    most = model.backbone.max_sequence_length
    if wanted is not None and wanted[1] is not None and wanted[1] > most:
        raise InputError(
            f"The sequences are longer than the model has positions. Received: {wanted[1]} tokens, "
            f"max_sequence_length={most}. Cut them."
        )


def _limits(model: Any, x: Any, y: Any, sample_weight: Any, *, targets: bool) -> list[tuple[str, Any, float]]:
    """Return what is wrong if numbers of a batch are not below a limit, the numbers, and the limit."""
    sizes = {
        "token_ids": model.backbone.vocabulary_size,
        "segment_ids": model.backbone.num_segments,
        "mask_positions": (_shape(x["token_ids"]) or (None, None))[1],
    }
    limits = [(f"The model has no such number among its {name}", x[name], size) for name, size in sizes.items()
              if size is not None and name in x]  # fmt: skip
    for loss, output, labels, weights in _targets(model, y, sample_weight) if targets else ():
        # Records without an order of sentences have other numbers, with weights of 0.
        if not isinstance(loss, SentenceOrderLoss):
            limits.append((_CLASSES, labels, output.shape[-1]))
        if weights is not None:
            limits.append((_WEIGHTS, weights, math.inf))
    return limits


def _check_shapes(outputs: Shape, inputs: Shape, y: Any, weights: Any) -> None:
    if y is None:
        raise InputError("The loss compares with labels. Received: y=None. Give one for each example.")
    if inputs is None or outputs is None:
        return
    wanted = inputs[: len(outputs) - 1]
    if not _fits(_shape(y), wanted):
        raise InputError(
            f"A label is the number of a class. Received: labels of shape {_shape(y)} for examples of shape {wanted}. "
            "Give one number each; of one-hot labels y.argmax(-1)."
        )
    if weights is not None and not _fits(_shape(weights), wanted, broadcast=True):
        raise InputError(
            f"Each label needs a weight. Received: weights of shape {_shape(weights)} for labels of shape {wanted}. "
            "Give as many of both."
        )


def _shape(values: Any) -> Shape:
    try:
        shape = values.shape if hasattr(values, "shape") else np.shape(values)
        is_ragged = hasattr(values, "ragged_rank")
    except ValueError:
        is_ragged = True
    if is_ragged:
        raise InputError(
            f"The rows of a batch have one length. Received: a {type(values).__name__} of rows of several lengths. "
            "Pad them, and set padding_mask to 0 there."
        )
    return None if getattr(shape, "rank", 0) is None else tuple(shape)


def _fits(shape: Shape, wanted: tuple[int | None, ...], *, broadcast: bool = False) -> bool:
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


def _check_numbers(what: str, values: Any, limit: float) -> None:
    if isinstance(values, list):
        values = np.asarray(values)
    dtype = getattr(values, "dtype", None)
    if getattr(dtype, "kind", None) in ("U", "S", "O") or "string" in str(dtype):
        shown = repr(str(values.flat[0])) if isinstance(values, np.ndarray) else "strings"
        raise InputError(f"Ids, and labels and weights beside them, are numbers. Received: {shown}. Give numbers.")
    if not hasattr(values, "__array__"):
        return
    numbers = values if isinstance(values, np.ndarray) else keras.ops.convert_to_numpy(values)
    right = (numbers >= 0) & (numbers < limit)
    if numbers.dtype.kind == "f" and limit < math.inf:
        right &= numbers == np.floor(numbers)
    if not right.all():
        raise InputError(f"{what}. Received: {numbers[~right][0]}. {_advice(limit)}")


def _advice(limit: float) -> str:
    return "Give others." if limit == math.inf else f"Give numbers from 0 to {limit - 1}."


def _described(values: Any) -> str:
    """Describe a value that was given in place of a dict."""
    if isinstance(values, Mapping):
        return f"a dict of {', '.join(map(str, values))}"
    return f"{type(values).__name__} of shape {_shape(values)}" if hasattr(values, "shape") else type(values).__name__
