"""Runs a signature of a SavedModel for several requests at once, with the same answers as for each alone."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tibert_keras.errors import InputError
from tibert_keras.serving.batching import BatchItem
from tibert_keras.serving.protocol import RequestError, TensorSpec
from tibert_keras.tokenizers.bounds import check_text

Arrays = dict[str, np.ndarray]
# The output of our models that marks padding: 1 where there is a token.
_PADDING_MASK = "padding_mask"
# The inputs of our models' signature that takes ids. Its one output has a number for each piece.
_MASKED_LM = {"token_ids", _PADDING_MASK, "segment_ids", "mask_positions"}


class _Allowance:
    """The bytes that the answer to a request may still have."""

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
    """A function of a loaded SavedModel."""

    def __init__(self, function: Any) -> None:
        self._function = function
        self._tokenizes = _uses(function, "Sentencepiece")
        self._segments = _rows_of(function, "segment_embedding/")
        self.inputs = _specs(function.structured_input_signature[1])
        self.outputs = _specs(function.structured_outputs)
        # Whether rows of different requests can be computed together.
        self.is_by_row = self._has_rows()

    def sample(self) -> Arrays:
        """Make inputs of three rows that most signatures accept."""
        arrays = {}
        for name, spec in self.inputs.items():
            shape = [3, *(2 if size < 0 else size for size in spec.shape[1:])]
            arrays[name] = np.full(shape, b"a b" if spec.dtype == object else 0, spec.dtype)
        return arrays

    def try_out(self, arrays: Arrays) -> None:
        """Run it once, to warm it up and to check that its outputs have as many rows as its inputs.

        The first axis of a foreign model's outputs may be something else, such as the words of all texts. Then, or if
        the inputs are refused, each request will be computed by itself.
        """
        by_row, self.is_by_row = self.is_by_row, False
        outputs = self._run(arrays)
        rows = {len(array) for array in arrays.values()} if by_row else set()
        self.is_by_row = by_row and rows == {len(output) for output in outputs.values()}

    def items(self, arrays: Arrays, *, max_bytes: float = math.inf) -> list[BatchItem]:
        """Split the inputs of one request into rows, if possible, to be computed together with those of others."""
        self._check(arrays)
        allowance = _Allowance(max_bytes)
        if not self.is_by_row:
            return [BatchItem((self, None), self._run_each, (arrays, allowance), size=size_of(arrays))]
        counts = {len(array) for array in arrays.values()}
        if len(counts) > 1 or 0 in counts:
            raise RequestError(400, "The inputs must have equally many rows, at least one.")
        rows = [{name: array[index] for name, array in arrays.items()} for index in range(counts.pop())]
        items = []
        for row in rows:
            shapes = tuple(np.shape(value) for value in row.values())
            longest = max((len(value) for value in row.values() if isinstance(value, bytes)), default=0)
            items.append(BatchItem((self, shapes), self._run_rows, (row, allowance), longest, size_of(row)))
        return items

    def _check(self, arrays: Arrays) -> None:
        """Refuse what our SavedModels refuse, for those of older versions, and foreign ones with a tokenizer."""
        for array in arrays.values():
            if array.dtype == object and self._tokenizes:
                for text in array.flat:
                    _check_text(text)
        if arrays.keys() == _MASKED_LM:
            tokens = arrays["token_ids"].shape[-1]
            if arrays["mask_positions"].shape[-1] > tokens:
                raise RequestError(400, "The model refuses the input: There are more mask_positions than token_ids.")
            _check_range(arrays["mask_positions"], tokens, "mask_positions must be places in token_ids.")
            pieces = min(output.shape[-1] for output in self.outputs.values())
            sizes = {"padding_mask": 2, "segment_ids": self._segments, "token_ids": pieces}
            for name, size in sizes.items():
                _check_range(arrays[name], size, f"{name} must be from 0 to {size - 1}.")

    def join(self, answers: Sequence[Arrays]) -> Arrays:
        """Combine the answers to the items of one request into its outputs."""
        name, spec = next(iter(self.outputs.items()))
        # Decided by the answers, since `is_by_row` may have changed meanwhile.
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
            self.is_by_row = False
            raise RequestError(503, "The model's outputs are not by row, as it seemed. Ask again.")
        return [
            allowance.take(self._cut({name: output[index, ...] for name, output in outputs.items()}))
            for index, (_, allowance) in enumerate(payloads)
        ]

    def _has_rows(self) -> bool:
        """Whether the first axis of all tensors is the batch, and any padding can be recognized."""
        specs = [*self.inputs.values(), *self.outputs.values()]
        if not all(spec.shape[:1] == (-1,) for spec in specs):
            return False
        ragged = any(-1 in spec.shape[1:] for spec in self.outputs.values())
        of_strings = any(spec.dtype == object for spec in self.inputs.values())
        return not (ragged and of_strings) or bool(self._markers())

    def _markers(self) -> list[str]:
        """Outputs that mark the padding along the second axis."""
        return [
            name
            for name, spec in self.outputs.items()
            if len(spec.shape) > 1 and spec.shape[1] == -1 and (name == _PADDING_MASK or spec.dtype == object)
        ]

    def _cut(self, row: Arrays) -> Arrays:
        """Cut off the padding up to the longest row of the batch: empty strings, and the values beside them."""
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


def _uses(function: Any, kind: str) -> bool:
    """Whether an op of a kind is in the graph of a function, or in those that it calls."""
    if not hasattr(function, "graph"):
        return False
    graph = function.graph.as_graph_def()
    nodes = [*graph.node, *(node for called in graph.library.function for node in called.node_def)]
    return any(node.op.startswith(kind) for node in nodes)


def _rows_of(function: Any, prefix: str) -> int:
    """The rows of the variable of a function with a name that begins so; -1 if there is none."""
    found = (each.shape[0] for each in getattr(function, "variables", ()) if each.name.startswith(prefix))
    return next(found, -1)


def _check_text(text: bytes) -> None:
    try:
        check_text(text.decode(errors="replace"))
    except InputError as error:
        raise RequestError(400, str(error)) from error


def _check_range(values: np.ndarray, size: int, reason: str) -> None:
    # A size is negative if it is not known.
    if size >= 0 and ((values < 0) | (values >= size)).any():
        raise RequestError(400, f"The model refuses the input: {reason}")


def size_of(arrays: Arrays) -> int:
    """The number of bytes in arrays; of strings, in the strings themselves."""
    return sum(
        sum(map(len, array.flat)) if array.dtype == object else array.nbytes
        for array in map(np.asarray, arrays.values())
    )


def _stack(rows: list[np.ndarray]) -> np.ndarray:
    """Stack arrays of different sizes, padded with zeros or empty strings."""
    shape = np.max([row.shape for row in rows], axis=0, initial=0).astype(int)
    stacked = np.full((len(rows), *shape), b"" if rows[0].dtype == object else 0, dtype=rows[0].dtype)
    for index, row in enumerate(rows):
        # Without the dots, NumPy would store a single string wrapped in its array.
        place: tuple[Any, ...] = (index, ..., *(slice(size) for size in row.shape))
        stacked[place] = row
    return stacked


def _reason(error: tf.errors.OpError) -> str:
    """The part of the message about the input, without that about the graph."""
    message = re.sub(r"(?s)^Graph execution error:.*?<stack traces unavailable>\n", "", error.message)
    line = message.partition("\n")[0]
    assertion = re.match(r"assertion failed: \[(.*?)\]", line)
    # Do not reveal the server's files to clients.
    return assertion[1] if assertion else "it does not fit the signature." if "/" in line else line
