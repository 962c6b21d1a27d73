"""The weights in a folder of transformers as NumPy arrays: of safetensors or PyTorch's, in one file or several."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tibert_keras.errors import InputError
from tibert_keras.formats.renaming import in_float32
from tibert_keras.formats.torch_files import elements, read_torch_file
from tibert_keras.storage import exists, join, read_bytes, read_json

WEIGHTS_FILE = "model.safetensors"
TORCH_FILE = "pytorch_model.bin"

# The format's names of element types, as `elements` takes them.
_TYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "bfloat16",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "<i1",
    "U8": "<u1",
    "BOOL": "?",
}
_ADVICE = "Give a folder that `save_pretrained` of transformers wrote."

Arrays = dict[str, np.ndarray]


def read_weights(path: str) -> Arrays:
    """Read a folder's `model.safetensors` or else its `pytorch_model.bin`; either may be cut in several files.

    Args:
        path: The folder.

    Returns:
        The variables by the names that they have there; floats as float32.

    Raises:
        InputError: If neither is there, a file is missing or damaged, or one carries code.
    """
    for name, read in ((WEIGHTS_FILE, _read_safetensors), (TORCH_FILE, _read_torch)):
        if exists(join(path, name)):
            return in_float32(read(join(path, name)))
        # transformers puts large models in several files, and this beside them.
        if exists(join(path, f"{name}.index.json")):
            return in_float32(_read_parts(path, f"{name}.index.json", read))
    raise InputError(f"The folder has neither {WEIGHTS_FILE} nor {TORCH_FILE}. Received: {path!r}. {_ADVICE}")


def _read_parts(folder: str, name: str, read: Callable[[str], Arrays]) -> Arrays:
    """Read the files that an index names, each of which must hold what the index says, and nothing else."""
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


def _read_torch(path: str) -> Arrays:
    return read_torch_file(path, read_bytes(path))


def _read_safetensors(path: str) -> Arrays:
    from safetensors import SafetensorError, deserialize

    content = read_bytes(path)
    try:
        # Not `safetensors.numpy`, which has no bfloat16.
        return {
            name: elements(tensor["data"], _TYPES[tensor["dtype"]]).reshape(tensor["shape"])
            for name, tensor in deserialize(content)
        }
    # A type that is not known here, such as those of 8 bits, is a missing key.
    except (SafetensorError, KeyError) as error:
        raise InputError(
            f"Not a whole safetensors file of numbers that NumPy knows: {' '.join(str(error).split())}. "
            f"Received: {path!r}. Give it anew, as float32, float16 or bfloat16."
        ) from error
