"""PyTorch's `.bin` files as NumPy arrays: without PyTorch, and without running what the file may carry."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

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
        archive = zipfile.ZipFile(io.BytesIO(content))
        (pickled,) = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        folder = pickled.removesuffix("data.pkl")
        state = _Unpickler(archive.read(pickled), lambda key: archive.read(f"{folder}data/{key}")).load()
        if not isinstance(state, Mapping) or not all(isinstance(value, np.ndarray) for value in state.values()):
            raise pickle.UnpicklingError("it holds something else than tensors by name")
    except _Carries as error:
        raise InputError(f"The file carries code: {error}. Received: {os.fspath(path)!r}. {_ADVICE}") from error
    except Exception as error:  # a damaged pickle may raise any
        raise InputError(
            f"Not a whole file of PyTorch's, 1.6 or later: {' '.join(str(error).split())}. "
            f"Received: {os.fspath(path)!r}. Give it anew, or as model.safetensors."
        ) from error
    return dict(state)


class _Unpickler(pickle.Unpickler):
    """Reads a pickle in which only tensors are made."""

    def __init__(self, content: bytes, read: Callable[[str], bytes]) -> None:
        super().__init__(io.BytesIO(content))
        self._read = read

    def find_class(self, module: str, name: str) -> Any:
        """Give what stands for a name in the pickle, or refuse it."""
        if module == "torch" and name in _TYPES:
            return _TYPES[name]
        known = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): _tensor,
            ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
        }
        if (module, name) not in known:
            raise _Carries(f"it calls {module}.{name}")
        return known[module, name]

    def persistent_load(self, pid: Any) -> np.ndarray:
        """Give the elements that lie outside of the pickle."""
        kind, dtype, key, _, size = pid
        if kind != "storage" or dtype not in _TYPES.values():
            raise pickle.UnpicklingError(f"{kind!r} is no storage of tensors")
        content = self._read(str(key))
        if dtype == "bfloat16":
            array = (np.frombuffer(content, "<u2").astype("<u4") << 16).view("<f4")
        else:
            array = np.frombuffer(content, dtype)
        if len(array) < size:
            raise ValueError(f"a tensor has {len(array)} of {size} elements")
        return array


def _tensor(storage: np.ndarray, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> np.ndarray:
    """Cut a tensor out of its storage; what reaches beyond the end is refused."""
    if len(size) != len(stride) or min([offset, *size, *stride]) < 0:
        raise ValueError("a tensor has no shape")
    last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    if 0 not in size and last >= len(storage):
        raise ValueError(f"a tensor ends at element {last} of {len(storage)}")
    strides = [step * storage.itemsize for step in stride]
    return np.lib.stride_tricks.as_strided(storage[offset:], size, strides, writeable=False).copy()
