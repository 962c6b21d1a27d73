"""Writes figures as pictures."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from tibert_keras.errors import InputError
from tibert_keras.storage import atomic_output

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_picture(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure to a path that ends in `.png`, in place of an older picture."""
    # A typing error must not replace a record file or a folder.
    if not os.fspath(path).endswith(".png") or Path(path).is_dir():
        raise InputError(f"Pictures are PNG files. Received: {os.fspath(path)!r}. Give a name that ends in .png.")
    with atomic_output(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)
