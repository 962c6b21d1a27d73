"""PyTorch's `.bin` files as NumPy arrays: without PyTorch, and without running what the file may carry."""

from __future__ import annotations

import io
import math
import operator
import os
import pickle
import zipfile
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tibert_keras.errors import InputError

# PyTorch's names of element types. bfloat16 is the upper half of a float32, and is widened to that.
_TYPES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "BoolStorage": "?",
}
_ADVICE = "Ask its author for a model.safetensors, which cannot carry any."


class _Carries(pickle.UnpicklingError):
    """The file asks for something else than tensors."""


def read_torch_file(path: str | os.PathLike[str], content: bytes) -> dict[str, np.ndarray]:
    """Read the tensors of a `.bin` file as `torch.save` writes a state dict, in a ZIP archive.

    The pickle in it may name functions to call. Only the two that make tensors are known here, and done with NumPy;
    whatever else it asks for is refused before anything of it runs.

    Args:
        path: The file's path, for messages.
        content: What it holds.

    Returns:
        The tensors by name.

    Raises:
        InputError: If the file is damaged, or carries code.
    """
    try:
        return _load(zipfile.ZipFile(io.BytesIO(content)), len(content))
    except _Carries as error:
        raise InputError(f"The file carries code: {error}. Received: {os.fspath(path)!r}. {_ADVICE}") from error
    except Exception as error:  # a damaged pickle may raise any
        raise InputError(
            f"Not a whole file of PyTorch's, 1.6 or later: {' '.join(str(error).split())}. "
            f"Received: {os.fspath(path)!r}. Give it anew, or as model.safetensors."
        ) from error


def _load(archive: zipfile.ZipFile, length: int) -> dict[str, np.ndarray]:
    pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise ValueError(f"there are {len(pickles)} data.pkl in it")
    # PyTorch compresses nothing: what unpacks to more than there is would fill the memory.
    if sum(entry.file_size for entry in archive.infolist()) > length:
        raise ValueError("it says to hold more than its length")
    folder = pickles[0].removesuffix("data.pkl")
    if f"{folder}byteorder" in archive.namelist() and archive.read(f"{folder}byteorder") != b"little":
        raise ValueError("its numbers are not little-endian")
    state = _Unpickler(archive.read(pickles[0]), lambda key: archive.read(f"{folder}data/{key}")).load()
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(tensor, np.ndarray) for name, tensor in state.items()
    ):
        raise ValueError("it holds something else than tensors by name")
    return dict(state)


class _Unpickler(pickle.Unpickler):
    """Reads a pickle in which only tensors are made."""

    def __init__(self, content: bytes, read: Callable[[str], bytes]) -> None:
        super().__init__(io.BytesIO(content))
        self._read = read
        self._storages: dict[tuple[str, str], _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Give what stands for a name in the pickle, or refuse it."""
        if module == "torch" and name in _TYPES:
            return _TYPES[name]
        known = {
            ("collections", "OrderedDict"): _Dictionary,
            ("torch._utils", "_rebuild_tensor_v2"): _Tensor(),
            ("torch._utils", "_rebuild_parameter"): _Parameter(),
        }
        if (module, name) not in known:
            raise _Carries(f"it calls {f'{module}.{name}'!r}")
        return known[module, name]

    def persistent_load(self, pid: Any) -> _Storage:
        """Give the elements that lie outside of the pickle."""
        kind, dtype, key, _, size = pid
        if kind != "storage" or dtype not in _TYPES.values():
            raise ValueError(f"{kind!r} is no storage of tensors")
        known = (dtype, str(key))
        # Each is read once, however many tensors share it.
        if known not in self._storages:
            self._storages[known] = _Storage(elements(self._read(str(key)), dtype))
        count = len(self._storages[known].elements)
        if count < size:
            raise ValueError(f"a tensor has {count} of {size} elements")
        return self._storages[known]


def elements(content: bytes, dtype: str) -> np.ndarray:
    """Take bytes as elements of a type of NumPy's, or as `"bfloat16"`, which become float32."""
    if dtype == "bfloat16":
        return (np.frombuffer(content, "<u2").astype("<u4") << 16).view("<f4")
    return np.frombuffer(content, dtype)


# What a pickle gets in its hands. It may set attributes, so nothing here has any.


class _Storage(NamedTuple):
    """The elements of tensors, one after another. That it is no array itself keeps a tensor from passing for one."""

    elements: np.ndarray


class _Dictionary(dict[Any, Any]):
    """In place of an `OrderedDict`, without what PyTorch notes at it, which would stand before its methods."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        """Leave the notes out."""


class _Tensor:
    """In place of `_rebuild_tensor_v2`: cuts a tensor out of its storage, and refuses what reaches out of it."""

    __slots__ = ()

    def __call__(self, storage: _Storage, offset: Any, size: Any, stride: Any, *_: Any) -> np.ndarray:
        if not isinstance(storage, _Storage):
            raise TypeError("a tensor has no storage")
        elements = storage.elements
        # NumPy's integers, as a tensor may hold, would wrap around in the sums below.
        offset, size, stride = operator.index(offset), [*map(operator.index, size)], [*map(operator.index, stride)]
        if len(size) != len(stride) or min([offset, *size, *stride]) < 0:
            raise ValueError("a tensor has no shape")
        last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
        if 0 not in size and last >= len(elements):
            raise ValueError(f"a tensor ends at element {last} of {len(elements)}")
        if math.prod(size) > len(elements):
            raise ValueError(f"a tensor of shape {tuple(size)} repeats the {len(elements)} elements that there are")
        strides = [step * elements.itemsize for step in stride]
        return np.lib.stride_tricks.as_strided(elements[offset:], size, strides, writeable=False)


class _Parameter:
    """In place of `_rebuild_parameter`: the tensor itself."""

    __slots__ = ()

    def __call__(self, tensor: np.ndarray, *_: Any) -> np.ndarray:
        return tensor
