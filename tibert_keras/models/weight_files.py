"""Exchanges `.weights.h5` files with KerasHub's classes: Keras names a layer there by its class."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

_OURS, _THEIRS = "layers/tibert_backbone", "layers/albert_backbone"


def name_encoder_twice(path: str | os.PathLike[str]) -> None:
    """Give the encoder in a task's `.weights.h5` file, ours or KerasHub's, both names. The file stays as small."""
    with h5py.File(path, "a") as file:
        for name, other in ((_OURS, _THEIRS), (_THEIRS, _OURS)):
            if name in file and other not in file:
                file[other] = file[name]


@contextmanager
def readable_weights(path: str | os.PathLike[str]) -> Iterator[str]:
    """Yield a file that our classes can load: the file itself, or a temporary copy of one of KerasHub's class."""
    if not os.fspath(path).endswith(".weights.h5") or not Path(path).is_file() or not _is_theirs(path):
        yield os.fspath(path)
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = shutil.copyfile(path, Path(folder) / "model.weights.h5")
        name_encoder_twice(copy)
        yield os.fspath(copy)


def _is_theirs(path: str | os.PathLike[str]) -> bool:
    if not h5py.is_hdf5(path):
        return False
    with h5py.File(path) as file:
        return _THEIRS in file and _OURS not in file
