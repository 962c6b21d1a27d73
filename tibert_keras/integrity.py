"""Lists the files of an output with their sizes and hashes, and checks them when they are read.

A list of files is the entry `files` of a JSON file: `{"NAME": {"bytes": 123, "sha256": "..."}}`. Records have theirs in
their own manifest; presets, checkpoints and SavedModels have a `manifest.json` that holds nothing else.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from tibert_keras.errors import InputError
from tibert_keras.json_types import read_typed_json
from tibert_keras.storage import exists, is_remote, join, sha256, size

MANIFEST_FILE = "manifest.json"
MISSING = "a file is missing"


class ListedFile(TypedDict):
    """The entry of a file in a list."""

    bytes: int
    sha256: str


class _FileList(TypedDict):
    files: dict[str, ListedFile]


def file_entry(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Describe a file: its size as `bytes`, and its `sha256`."""
    return {"bytes": size(path), "sha256": sha256(path)}


def write_manifest(
    folder: str | os.PathLike[str],
    *,
    patterns: Sequence[str] = ("**/*",),
    known: Mapping[str, dict[str, Any]] | None = None,
) -> None:
    """Write `manifest.json` with the entries of the files in a local folder.

    An entry in `known` is kept: a hash made while writing is worth more than one of the file read back.
    """
    root, entries = Path(folder), dict(known or {})
    for path in sorted({path for pattern in patterns for path in root.glob(pattern)}):
        name = path.relative_to(root).as_posix()
        if path.is_file() and name != MANIFEST_FILE and name not in entries:
            entries[name] = file_entry(path)
    (root / MANIFEST_FILE).write_text(json.dumps({"files": entries}, indent=1, ensure_ascii=False), encoding="utf-8")


def check_manifest(folder: str | os.PathLike[str], *, what: str, advice: str) -> bool:
    """Check that a folder holds every file of its `manifest.json` as it was written. Other files do not matter.

    Returns whether there is a manifest: what older versions wrote has none.
    """
    refuse_special_files(folder, what=what)
    path = join(folder, MANIFEST_FILE)
    if not exists(path):
        return False
    for name, entry in read_typed_json(path, _FileList, what="a list of files", advice=advice)["files"].items():
        if os.path.isabs(name) or ".." in name.split("/"):
            raise InputError(f"A list names only files beside it. Received: {name!r} in {path!r}. {advice}")
        if (reason := difference(join(folder, name), entry)) is not None:
            raise InputError(f"{what} cannot be loaded: {reason}. Received: {join(folder, name)!r}. {advice}")
    return True


def check_unchanged(before: Mapping[str, str], after: Mapping[str, str]) -> None:
    """Refuse files whose hashes, by name, are not the same before and after they were read."""
    for name in before.keys() | after.keys():
        if before.get(name) != after.get(name):
            raise InputError(f"The file changed while it was read. Received: {name!r}. Give the command again.")


def difference(path: str | os.PathLike[str], entry: Mapping[str, Any]) -> str | None:
    """Tell in a few words how a file differs from its entry in a list, or return `None` if it does not."""
    if not exists(path):
        return MISSING
    try:
        same = (size(path), sha256(path)) == (entry["bytes"], entry["sha256"])
    except (OSError, InputError):
        return "it is no file that can be read"
    return None if same else "its size or hash is not the one that was written"


def refuse_special_files(folder: str | os.PathLike[str], *, what: str) -> None:
    """Refuse a folder with a pipe or a device in it, which reading may never end, or a link to nowhere."""
    if is_remote(folder):
        return
    for path in sorted(Path(folder).rglob("*")):
        if not (path.is_file() or path.is_dir()):
            name = path.relative_to(folder).as_posix()
            raise InputError(
                f"{what} cannot be loaded: {name} is neither a file nor a folder. Received: {os.fspath(folder)!r}."
            )
