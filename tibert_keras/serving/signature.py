"""A signature of a SavedModel, run for several requests at once, each of which gets what it would have got alone."""

from __future__ import annotations

import math
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


class _Allowance:
    """How many bytes the answer to a request may still have."""

    def __init__(self, size: float) -> None:
        self._size = self._left = size

    def take(self, answer: Arrays) -> _Answer:
        self._left -= size_of(answer)
        if self._left >= 0:
            return answer
        return RequestError(400, f"The answer has more than {self._size} bytes. Ask for less at a time.")


_Answer = Arrays | RequestError
_Payload = tuple[Arrays, _Allowance]


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

    def sample(self) -> Arrays:
        """Inputs of three rows, such as most signatures take."""
        return {
            name: np.full([3, *(2 if size < 0 else size for size in spec.shape[1:])], b"a b", object)
            if spec.dtype == object
            else np.zeros([3, *(2 if size < 0 else size for size in spec.shape[1:])], spec.dtype)
            for name, spec in self.inputs.items()
        }

    def try_out(self, arrays: Arrays) -> None:
        """Run it once, for nobody, and see whether its outputs have as many rows as its inputs.

        Those of a foreign model may begin with an axis of any size that is another thing, as all words of all texts.
        If so, or if it refuses the inputs, each request will be computed by itself.

        Raises:
            RequestError: If it refuses the inputs.
        """
        by_row, self._is_by_row = self._is_by_row, False
        outputs = self._run(arrays)
        rows = {len(array) for array in arrays.values()} if by_row else set()
        self._is_by_row = by_row and rows == {len(output) for output in outputs.values()}

    def tasks(self, arrays: Arrays, *, max_bytes: float = math.inf) -> list[Task]:
        """Part the inputs of one request into what can be computed together with others': its rows, if possible.

        Args:
            arrays: The inputs.
            max_bytes: How large the outputs may be, all rows together; what goes beyond has an error for an answer.

        Raises:
            RequestError: If there is no row.
        """
        allowance = _Allowance(max_bytes)
        if not self._is_by_row:
            return [Task((self, None), self._run_each, (arrays, allowance), size=size_of(arrays))]
        counts = {len(array) for array in arrays.values()}
        if len(counts) > 1 or 0 in counts:
            raise RequestError(400, "The inputs must have equally many rows, at least one.")
        rows = [{name: array[index] for name, array in arrays.items()} for index in range(counts.pop())]
        return [
            Task((self, _shapes(row)), self._run_rows, (row, allowance), _length(row), size_of(row)) for row in rows
        ]

    def join(self, answers: Sequence[Arrays]) -> Arrays:
        """Put the answers to the tasks of one request together into its outputs."""
        name, spec = next(iter(self.outputs.items()))
        # It may have turned out only since that there are no rows.
        if answers[0][name].ndim >= len(spec.shape):
            return answers[0]
        return {name: _stack([answer[name] for answer in answers]) for name in answers[0]}

    def _run(self, arrays: Arrays) -> Arrays:
        try:
            outputs = self._function(**{name: tf.constant(array) for name, array in arrays.items()})
        except (tf.errors.InvalidArgumentError, tf.errors.OutOfRangeError) as error:
            raise RequestError(400, f"The model refuses the input: {_reason(error)}") from error
        return {name: np.asarray(output.numpy()) for name, output in outputs.items()}

    def _run_each(self, payloads: Sequence[_Payload]) -> list[_Answer]:
        return [allowance.take(self._run(arrays)) for arrays, allowance in payloads]

    def _run_rows(self, payloads: Sequence[_Payload]) -> list[_Answer]:
        outputs = self._run({name: np.stack([row[name] for row, _ in payloads]) for name in self.inputs})
        if any(len(output) != len(payloads) for output in outputs.values()):
            self._is_by_row = False
            raise RequestError(503, "The model's outputs are not by row, as it seemed. Ask again.")
        return [
            allowance.take(self._cut({name: output[index, ...] for name, output in outputs.items()}))
            for index, (_, allowance) in enumerate(payloads)
        ]

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


def size_of(arrays: Arrays) -> int:
    """How many bytes arrays hold, or the strings in them."""
    return sum(
        sum(map(len, array.flat)) if array.dtype == object else array.nbytes
        for array in map(np.asarray, arrays.values())
    )


def _stack(rows: list[np.ndarray]) -> np.ndarray:
    """Stack arrays of different sizes, padded with zeros or empty strings."""
    shape = np.max([row.shape for row in rows], axis=0, initial=0).astype(int)
    stacked = np.full((len(rows), *shape), b"" if rows[0].dtype == object else 0, dtype=rows[0].dtype)
    for index, row in enumerate(rows):
        # Without the dots a string by itself would go in wrapped up in its array.
        place: tuple[Any, ...] = (index, ..., *(slice(size) for size in row.shape))
        stacked[place] = row
    return stacked


def _reason(error: tf.errors.OpError) -> str:
    """What the message says of the input, without what it says of the graph."""
    message = re.sub(r"(?s)^Graph execution error:.*?<stack traces unavailable>\n", "", error.message)
    line = message.partition("\n")[0]
    assertion = re.match(r"assertion failed: \[(.*?)\]", line)
    # No file of ours is the client's business.
    return assertion[1] if assertion else "it does not fit the signature." if "/" in line else line
