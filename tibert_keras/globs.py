"""Finds files by pattern, and checks their names."""

import glob
import os
import re
from collections.abc import Iterator

from tibert_keras.errors import InputError

# Any number of folders.
_ANY_DEPTH = re.compile(r"(?:^|(?<=/))\*\*(?:/|$)")


def find_matches(pattern: str) -> Iterator[str]:
    """Yield the paths that match a pattern, as `glob.glob`, entering each folder once even if links lead there too."""
    before, *after = _ANY_DEPTH.split(pattern, maxsplit=1)
    if not after:
        yield from glob.glob(pattern)
        return
    for start in glob.glob(before) if before else [os.curdir]:
        for folder in _folders(start):
            inside = os.path.join(folder, "")
            inside = inside if before else inside.removeprefix("./")
            yield from find_matches(glob.escape(inside) + (after[0] or "*"))


def _folders(start: str) -> Iterator[str]:
    seen: set[str] = set()
    for folder, names, _ in os.walk(start, followlinks=True):
        # A link to a folder above would lead here again without end.
        if (real := os.path.realpath(folder)) in seen:
            names.clear()
            continue
        seen.add(real)
        names[:] = sorted(name for name in names if not name.startswith("."))
        yield folder


def check_name(path: str) -> None:
    """Refuse a name that is not UTF-8: JSON files and TensorFlow cannot hold it."""
    try:
        path.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(
            f"A name or text is not UTF-8. Received: {path.encode(errors='backslashreplace')!r}. Rename or convert it."
        ) from error


def check_outputs(input_file: str | None, **outputs: str | None) -> None:
    """Refuse outputs that are folders, and files of which one would replace another, before the work begins."""
    seen: dict[str, str] = {}
    for name, path in {"input_file": input_file, **outputs}.items():
        if path is None:
            continue
        if name in outputs and os.path.isdir(path):
            raise InputError(f"{name} is a folder. Received: {name}={path!r}. Give the path of a file.")
        if (other := seen.setdefault(os.path.realpath(path), name)) != name:
            raise InputError(f"One file would replace another. Received: {path!r} as {other} and {name}. Give two.")
