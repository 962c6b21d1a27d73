"""A signature of a SavedModel, run for several requests at once, each of which gets what it would have got alone."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tibert_keras.serving.batching import Task
from tibert_keras.serving.protocol import RequestError, TensorSpec

Arrays = dict[str, np.ndarray]
# The output of ours that tells padding, 1 where there is a token.
_PADDING_MASK = "padding_mask"


class Signature:
    """A function of a loaded SavedModel.

    Args:
        function: What `tf.saved_model.load` has under `signatures`.

    Attributes:
        inputs: Of what types and shapes the inputs are.
        outputs: The same of the outputs.
    """

    def __init__(self, function: Any) -> None:
        self._function = function
        self.inputs = _specs(function.structured_input_signature[1])
        self.outputs = _specs(function.structured_outputs)
        self._is_by_row = self._has_rows()

    def tasks(self, arrays: Arrays) -> list[Task]:
        """Part the inputs of one request into what can be computed together with others': its rows, if possible.

        Raises:
            RequestError: If there is no row.
        """
        if not self._is_by_row:
            return [Task((self, None), lambda payloads: [self._run(payload) for payload in payloads], arrays)]
        counts = {len(array) for array in arrays.values()}
        if len(counts) > 1 or 0 in counts:
            raise RequestError(400, "The inputs must have equally many rows, at least one.")
        rows = [{name: array[index] for name, array in arrays.items()} for index in range(counts.pop())]
        return [Task((self, _shapes(row)), self._run_rows, row, _length(row)) for row in rows]

    def join(self, answers: Sequence[Arrays]) -> Arrays:
        """Put the answers to the tasks of one request together into its outputs."""
        if not self._is_by_row:
            return answers[0]
        return {name: _stack([answer[name] for answer in answers]) for name in answers[0]}

    def _run(self, arrays: Arrays) -> Arrays:
        try:
            outputs = self._function(**{name: tf.constant(array) for name, array in arrays.items()})
        except (tf.errors.InvalidArgumentError, tf.errors.OutOfRangeError) as error:
            raise RequestError(400, f"The model refuses the input: {_reason(error)}") from error
        return {name: np.asarray(output.numpy()) for name, output in outputs.items()}

    def _run_rows(self, rows: Sequence[Arrays]) -> list[Arrays]:
        outputs = self._run({name: np.stack([row[name] for row in rows]) for name in self.inputs})
        return [self._cut({name: output[index, ...] for name, output in outputs.items()}) for index in range(len(rows))]

    def _has_rows(self) -> bool:
        """Whether the first axis of all tensors is the batch, and padding, if there can be any, can be told."""
        specs = [*self.inputs.values(), *self.outputs.values()]
        if not all(spec.shape[:1] == (-1,) for spec in specs):
            return False
        ragged = any(-1 in spec.shape[1:] for spec in self.outputs.values())
        of_strings = any(spec.dtype == object for spec in self.inputs.values())
        return not (ragged and of_strings) or bool(self._markers())

    def _markers(self) -> list[str]:
        """Outputs that tell what is padding along the second axis."""
        return [
            name
            for name, spec in self.outputs.items()
            if len(spec.shape) > 1 and spec.shape[1] == -1 and (name == _PADDING_MASK or spec.dtype == object)
        ]

    def _cut(self, row: Arrays) -> Arrays:
        """Cut off what is there only because another row of the batch has more: empty strings, and what is beside."""
        markers = self._markers()
        if not markers:
            return row
        real = [row[name] != (0 if name == _PADDING_MASK else b"") for name in markers]
        width = max(int(np.flatnonzero(each.any(axis=tuple(range(1, each.ndim)))).max(initial=-1)) + 1 for each in real)
        return {
            name: array[:width] if len(spec := self.outputs[name].shape) > 1 and spec[1] == -1 else array
            for name, array in row.items()
        }


def _specs(tensors: Mapping[str, Any]) -> dict[str, TensorSpec]:
    return {
        name: TensorSpec(
            np.dtype(tensor.dtype.as_numpy_dtype),
            tuple(-1 if size is None else size for size in tensor.shape) if tensor.shape.rank is not None else (),
        )
        for name, tensor in tensors.items()
    }


def _shapes(row: Arrays) -> Hashable:
    return tuple(np.shape(value) for value in row.values())


def _length(row: Arrays) -> int:
    """The bytes of the longest text."""
    return max((len(value) for value in row.values() if isinstance(value, bytes)), default=0)


def _stack(rows: list[np.ndarray]) -> np.ndarray:
    """Stack arrays of different sizes, padded with zeros or empty strings."""
    shape = np.max([row.shape for row in rows], axis=0, initial=0).astype(int)
    stacked = np.full((len(rows), *shape), b"" if rows[0].dtype == object else 0, dtype=rows[0].dtype)
    for index, row in enumerate(rows):
        # With the dots, as a string by itself would go in wrapped up in its array.
        stacked[(index, ..., *(slice(size) for size in row.shape))] = row
    return stacked


def _reason(error: tf.errors.OpError) -> str:
    """What the message says of the input, without what it says of the graph."""
    message = re.sub(r"(?s)^Graph execution error:.*?<stack traces unavailable>\n", "", error.message)
    line = message.partition("\n")[0]
    assertion = re.match(r"assertion failed: \[(.*?)\]", line)
    # No file of ours is the client's business.
    return assertion[1] if assertion else "it does not fit the signature." if "/" in line else line
