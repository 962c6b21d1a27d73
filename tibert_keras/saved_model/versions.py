"""A model's versions: SavedModels in folders with numbers for names, as TensorFlow Serving has them."""

from __future__ import annotations

import os
import re

from tibert_keras.storage import exists, join, list_folder

# The file by which a SavedModel is told.
SAVED_MODEL = "saved_model.pb"


def is_saved_model(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder is a SavedModel, as far as one can see from outside."""
    return exists(join(folder, SAVED_MODEL))


def list_versions(folder: str | os.PathLike[str]) -> dict[int, str]:
    """List the versions in a folder, the oldest first: their numbers and paths, of those not yet whole too."""
    numbers = sorted(int(name) for name in list_folder(folder) if re.fullmatch("[1-9][0-9]{0,17}", name))
    return {number: join(folder, str(number)) for number in numbers}


def next_version(folder: str | os.PathLike[str]) -> str:
    """Give the path of a model's next version, as TensorFlow Serving numbers them: `NAME/1`, `NAME/2`, ...

    Args:
        folder: The folder of the model's name, which need not be there.
    """
    return join(folder, str(max(list_versions(folder), default=0) + 1))


def find_saved_model(folder: str | os.PathLike[str]) -> str | None:
    """Find a SavedModel: a folder that is one, or the newest version in a folder of versions.

    Returns:
        Its path, or `None`.
    """
    newest = reversed(list_versions(folder).values())
    return next((path for path in (os.fspath(folder), *newest) if is_saved_model(path)), None)
