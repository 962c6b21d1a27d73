"""TensorFlow Serving's REST protocol: converts JSON to arrays and back.

The bodies are described at https://www.tensorflow.org/tfx/serving/api_rest.
"""

import base64
import binascii
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import orjson
from starlette.responses import Response

# Ends the names of tensors that hold bytes, which JSON can only express as base64.
BYTES_SUFFIX = "_bytes"
DEFAULT_SIGNATURE = "serving_default"
_HEADERS = {401: {"WWW-Authenticate": "Bearer"}, 429: {"Retry-After": "1"}, 503: {"Retry-After": "1"}}


class RequestError(Exception):
    """A request that cannot be answered."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


def answer(value: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Make a response of JSON."""
    return Response(orjson.dumps(value), status, headers, media_type="application/json")


def refuse(error: RequestError) -> Response:
    """Make the response to a request that cannot be answered."""
    return answer({"error": error.reason}, status=error.status, headers=_HEADERS.get(error.status))


class TensorSpec(NamedTuple):
    """The type of a tensor in a signature: NumPy's type, `object` for strings, and the sizes, -1 for any size."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]


class PredictRequest(NamedTuple):
    """The body of a `:predict` request: a signature, and `instances`, a list of rows, or `inputs`, whole tensors."""

    signature_name: str
    by_row: bool
    value: Any

    @property
    def rows(self) -> int | None:
        """The number of instances, if there are any."""
        return len(self.value) if self.by_row else None


def parse_object(body: bytes) -> dict[str, Any]:
    """Parse a JSON object."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RequestError(400, f"JSON Parse error: {error}") from None
    if not isinstance(value, dict):
        raise RequestError(400, "JSON Parse error: the body must be an object, in braces.")
    return value


def parse_texts(fields: Mapping[str, Any]) -> list[str]:
    """Return the `texts` of a request of ours."""
    texts = fields.get("texts")
    if not (isinstance(texts, list) and texts and all(isinstance(text, str) for text in texts)):
        raise RequestError(400, "'texts' must be a list of at least one string.")
    return texts


def whole_number(value: Any) -> int | None:
    """Convert an integer as JSON Schema defines it, which includes 7.0; `None` for anything else."""
    if type(value) is float and value.is_integer():
        return int(value)
    return value if type(value) is int else None


def parse_predict(body: bytes) -> PredictRequest:
    """Parse the body of a `:predict` request."""
    fields = parse_object(body)
    name = fields.get("signature_name", DEFAULT_SIGNATURE)
    if not isinstance(name, str):
        raise RequestError(400, "'signature_name' must be a string.")
    if ("instances" in fields) == ("inputs" in fields):
        raise RequestError(400, "Give either 'instances' (a list, an item a row) or 'inputs' (whole tensors).")
    by_row = "instances" in fields
    if by_row and not (isinstance(fields["instances"], list) and fields["instances"]):
        raise RequestError(400, "'instances' must be a list of at least one instance.")
    return PredictRequest(name or DEFAULT_SIGNATURE, by_row, fields["instances" if by_row else "inputs"])


def to_arrays(request: PredictRequest, specs: Mapping[str, TensorSpec]) -> dict[str, np.ndarray]:
    """Convert the values of a request to the input arrays of a signature."""
    values = _columns(request.value, specs) if request.by_row else _named(request.value, specs)
    if values.keys() != specs.keys():
        raise RequestError(400, f"The inputs must be {sorted(specs)}. Received: {str(sorted(values))[:200]}.")
    arrays = {name: _array(name, values[name], spec) for name, spec in specs.items()}
    if request.by_row and len({len(array) for array in arrays.values()}) > 1:
        raise RequestError(400, "The instances must be alike.")
    return arrays


def to_json(outputs: Mapping[str, np.ndarray], *, rows: int | None) -> bytes:
    """Write the outputs of a signature: as many predictions as the request has rows, or whole tensors."""
    values = {name: _plain(name, array) for name, array in outputs.items()}
    if rows is None:
        content = {"outputs": next(iter(values.values())) if len(values) == 1 else values}
    elif any(array.shape[:1] != (rows,) for array in outputs.values()):
        raise RequestError(
            400, f"The signature's outputs are not {rows} rows, one an instance. Give 'inputs', not 'instances'."
        )
    elif len(values) == 1:
        content = {"predictions": next(iter(values.values()))}
    else:
        table = zip(*values.values(), strict=True)
        content = {"predictions": [dict(zip(values, row, strict=True)) for row in table]}
    return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)


def _named(value: Any, specs: Mapping[str, TensorSpec]) -> dict[str, Any]:
    """The tensors by name; a single input needs no name."""
    if isinstance(value, dict) and (len(specs) != 1 or value.keys() != {"b64"}):
        return value
    if len(specs) != 1:
        raise RequestError(400, f"The inputs must be given by their names, {sorted(specs)}, in an object.")
    return dict.fromkeys(specs, value)


def _columns(instances: list[Any], specs: Mapping[str, TensorSpec]) -> dict[str, list[Any]]:
    rows = [_named(instance, specs) for instance in instances]
    names = rows[0].keys()
    if any(row.keys() != names for row in rows):
        raise RequestError(400, "The instances must all have the same inputs.")
    return {name: [row[name] for row in rows] for name in names}


def _array(name: str, value: Any, spec: TensorSpec) -> np.ndarray:
    try:
        array = np.array(value, dtype=object if spec.dtype == object else None)
    except (ValueError, OverflowError):
        raise RequestError(400, f"The lists of {name!r} must be of equal lengths.") from None
    if spec.dtype == object:
        array = _each(array, lambda item: _bytes(name, item))
    else:
        array = _numbers(name, array, value, spec.dtype)
    fits = array.ndim == len(spec.shape) and all(
        size in (-1, given) for size, given in zip(spec.shape, array.shape, strict=True)
    )
    if not fits:
        raise RequestError(
            400, f"{name!r} must be of shape {list(spec.shape)}, -1 being any size. Received: {list(array.shape)}."
        )
    return array


def _numbers(name: str, array: np.ndarray, value: Any, dtype: np.dtype[Any]) -> np.ndarray:
    """Check the numbers in an array, made of a value in JSON, and convert it to a type."""
    # Empty lists are float64 to NumPy.
    if array.size and dtype.kind in "iu" and array.dtype.kind == "f":
        # NumPy makes all of them floats if one is written as a float.
        numbers = [whole_number(number) for number in np.array(value, dtype=object).flat]
        array = array if None in numbers else np.array(numbers).reshape(array.shape)
    kinds = {"f": "iuf", "b": "b"}.get(dtype.kind, "iu")
    if array.size and array.dtype.kind not in kinds:
        raise RequestError(400, f"{name!r} must be of {dtype.name}. Received: something else among its values.")
    if array.size and dtype.kind in "iu":
        limits = np.iinfo(dtype)
        if int(array.min()) < limits.min or int(array.max()) > limits.max:
            raise RequestError(400, f"{name!r} must be from {limits.min} to {limits.max}.")
    with np.errstate(over="ignore"):  # too large a number becomes infinity
        return array.astype(dtype)


def _bytes(name: str, value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if not (isinstance(value, dict) and value.keys() == {"b64"} and isinstance(value["b64"], str)):
        raise RequestError(400, f"Every value of {name!r} must be a string, and its lists of equal lengths.")
    try:
        decoded = base64.b64decode(value["b64"], validate=True)
    except (binascii.Error, ValueError):
        raise RequestError(400, f"A value of {name!r} is not base64.") from None
    if not name.endswith(BYTES_SUFFIX):
        try:
            decoded.decode()
        except UnicodeDecodeError as error:
            raise RequestError(400, f"A text in {name!r} is not UTF-8: {error.reason} at byte {error.start}.") from None
    return decoded


def _plain(name: str, array: np.ndarray) -> Any:
    """Convert to a value that orjson can write: an array of numbers, or nested lists of strings."""
    if array.dtype == object:
        is_bytes = name.endswith(BYTES_SUFFIX)
        return _each(
            array, lambda item: {"b64": base64.b64encode(item).decode()} if is_bytes else item.decode(errors="replace")
        ).tolist()
    if array.ndim == 0:
        return array.item()
    # orjson supports neither bfloat16 nor non-contiguous arrays.
    return np.ascontiguousarray(array, dtype=array.dtype if array.dtype.kind in "iub" else np.result_type(array, "f4"))


def _each(array: np.ndarray, change: Callable[[Any], Any]) -> np.ndarray:
    """Apply a function to every object of an array; `np.vectorize` fails on empty ones."""
    changed = np.empty(array.size, dtype=object)
    changed[:] = [change(item) for item in array.ravel()]
    return changed.reshape(array.shape)
