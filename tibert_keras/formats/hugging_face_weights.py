"""Reads the files of a transformers folder: its `config.json`, and the weights as NumPy arrays."""

import io
import pickle
import re
import zipfile
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

from tibert_keras.errors import InputError
from tibert_keras.formats.renaming import in_float32
from tibert_keras.storage import exists, join, read_bytes, read_json

CONFIG_JSON = "config.json"
WEIGHTS_FILE = "model.safetensors"
TORCH_FILE = "pytorch_model.bin"

# The element types of safetensors. Its own NumPy reader has no bfloat16.
_TYPES: dict[str, Any] = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U8": np.uint8,
    "BOOL": np.bool_,
}
_ADVICE = "Give a folder that `save_pretrained` of transformers wrote."

Arrays = dict[str, np.ndarray]


def read_config_file(path: str) -> dict[str, Any]:
    """Read a folder's `config.json` as it is."""
    advice = "Give the folder of an ALBERT."
    return read_json(join(path, CONFIG_JSON), what="a configuration of transformers", advice=advice)


def read_weights(path: str) -> Arrays:
    """Read a folder's `model.safetensors`, or else its `pytorch_model.bin`. Either may be split into several files."""
    for name, read in ((WEIGHTS_FILE, _read_safetensors), (TORCH_FILE, _read_torch)):
        if exists(join(path, name)):
            return in_float32(read(join(path, name)))
        # transformers splits large models and writes this index beside the parts.
        if exists(join(path, f"{name}.index.json")):
            return in_float32(_read_parts(path, f"{name}.index.json", read))
    raise InputError(f"The folder has neither {WEIGHTS_FILE} nor {TORCH_FILE}. Received: {path!r}. {_ADVICE}")


def _read_parts(folder: str, name: str, read: Callable[[str], Arrays]) -> Arrays:
    """Read the files that an index names. Each must hold exactly the variables that the index lists for it."""
    index = join(folder, name)
    places = read_json(index, what="an index of weights", advice=_ADVICE).get("weight_map")
    if not isinstance(places, dict) or not places or not all(isinstance(part, str) for part in places.values()):
        raise InputError(f"Not an index of weights: it has no weight_map. Received: {index!r}. {_ADVICE}")
    arrays: Arrays = {}
    for part in sorted(set(places.values())):
        if part in ("", ".", "..") or "/" in part or "\\" in part:
            raise InputError(f"An index names only files beside it. Received: {part!r} in {index!r}. {_ADVICE}")
        if not exists(join(folder, part)):
            raise InputError(f"A part of the weights is missing. Received: no {join(folder, part)!r}. {_ADVICE}")
        held = read(join(folder, part))
        if other := sorted(held.keys() ^ {tensor for tensor, place in places.items() if place == part}):
            raise InputError(
                "The index and a part of the weights disagree. Received: "
                f"{other[0]}, which is {'not ' * (other[0] not in held)}in {join(folder, part)!r}. {_ADVICE}"
            )
        arrays |= held
    return arrays


def _read_safetensors(path: str) -> Arrays:
    from safetensors import SafetensorError, deserialize

    content = read_bytes(path)
    try:
        return {
            name: np.frombuffer(tensor["data"], _TYPES[tensor["dtype"]]).reshape(tensor["shape"])
            # They come in any order, and messages name the first that is wrong.
            for name, tensor in sorted(deserialize(content))
        }
    # An unsupported element type, such as those of 8 bits, raises a KeyError.
    except (SafetensorError, KeyError) as error:
        raise InputError(
            f"Not a whole safetensors file of numbers that NumPy knows: {' '.join(str(error).split())}. "
            f"Received: {path!r}. Give it anew, as float32, float16 or bfloat16."
        ) from error


def _read_torch(path: str) -> Arrays:
    torch = _import_torch(path)
    content = io.BytesIO(read_bytes(path))
    try:
        # torch does not check the checksums of an archive. Files of before 1.6 are none.
        if zipfile.is_zipfile(content) and (damaged := zipfile.ZipFile(content).testzip()):
            raise ValueError(f"the checksum of {damaged} is wrong")
        content.seek(0)
        state = torch.load(content, map_location="cpu", weights_only=True)
        if not isinstance(state, dict) or not all(
            isinstance(name, str) and isinstance(tensor, torch.Tensor) for name, tensor in state.items()
        ):
            raise ValueError("it holds something else than tensors by name")
        # NumPy has no bfloat16.
        return {
            name: (tensor.float() if tensor.is_floating_point() else tensor).detach().numpy()
            for name, tensor in state.items()
        }
    except Exception as error:  # a damaged pickle may raise any
        raise _refused(path, error) from error


def _import_torch(path: str) -> Any:
    try:
        import torch

        # Before 2.6 a crafted file could run code in spite of `weights_only` (CVE-2025-32434).
        if torch.__version__ >= "2.6":
            return torch
    except ModuleNotFoundError:
        pass
    raise InputError(
        f"PyTorch's files are read with torch 2.6 or later, which is not installed. Received: {path!r}. "
        "Install torch (`pip install torch`), or save the model as safetensors."
    )


def _refused(path: str, error: Exception) -> InputError:
    """Explain why `torch.load` failed. Its own message advises to load the file without protection."""
    if isinstance(error, pickle.UnpicklingError):
        if found := re.search(r"GLOBAL (.+?) (?:was not|whose)", str(error), re.DOTALL):
            return InputError(
                f"The file carries code: it calls {found[1]!r}. Received: {path!r}. "
                "Ask its author for a model.safetensors, which cannot carry any."
            )
        reason = str(error).rpartition("error:")[2].partition("Check the documentation")[0]
    else:
        reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return InputError(
        f"Not a whole file of PyTorch's: {' '.join(reason.split())}. "
        f"Received: {path!r}. Give it anew, or as model.safetensors."
    )
