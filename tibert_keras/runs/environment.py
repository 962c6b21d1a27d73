"""The environment of a run: the versions of the code and the hashes of its records, noted at each start."""

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypedDict

from tibert_keras.errors import InputError
from tibert_keras.integrity import MANIFEST_FILE
from tibert_keras.json_types import read_typed_json
from tibert_keras.records.manifest import Manifest
from tibert_keras.storage import exists, folder_of, join, sha256, size, write_text

ENVIRONMENT_FILE = "environment.json"
_PACKAGES = ("tibert-keras", "keras", "keras-nlp", "tensorflow", "tensorflow-text", "jax", "sentencepiece")


class _Phase(TypedDict):
    from_step: int
    versions: dict[str, Any]
    manifests: dict[str, Any]


class _Environment(TypedDict):
    phases: list[_Phase]


def note_environment(run_dir: str, step: int, record_files: Iterable[str]) -> None:
    """Note the environment of a run from a step on, unless it is unchanged."""
    phases = read_environment(run_dir)
    now = {**environment(), "manifests": hash_records(record_files)}
    if phases and {**phases[-1], "from_step": None} == {"from_step": None, **now}:
        return
    content = {"phases": [*phases, {"from_step": step, **now}]}
    write_text(join(run_dir, ENVIRONMENT_FILE), json.dumps(content, indent=2))


def read_environment(run_dir: str) -> list[dict[str, Any]]:
    """Read the environment of a run from each step on at which it changed; none of versions that did not note it."""
    path = join(run_dir, ENVIRONMENT_FILE)
    if not exists(path):
        return []
    return read_typed_json(path, _Environment, what="the environment of a run", advice="Remove it.")["phases"]


def environment() -> dict[str, Any]:
    """The `versions` of the packages, Keras's `backend`, and the git `commit` of this package.

    The commit is `None` if the package is not in a checkout, and ends in `-dirty` if files were changed since.
    """
    import keras

    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {"versions": versions, "backend": keras.backend.backend(), "commit": _commit()}


def _commit() -> str | None:
    folder = Path(__file__).parent
    # An installed package may lie in the checkout of another project, which does not track its files.
    tracked = _git(folder, "ls-files", "--error-unmatch", Path(__file__).name)
    return tracked and _git(folder, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


def _git(folder: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def _hash_manifest(folder: str) -> str:
    try:
        manifest = Manifest.read(folder)
    except InputError:
        manifest = None
    # It may be a file of another program.
    return manifest.digest() if manifest is not None else sha256(join(folder, MANIFEST_FILE))


def hash_records(record_files: Iterable[str]) -> dict[str, str]:
    """Hash records without reading them, to recognize them later.

    A folder's hash is its `Manifest.digest`, keyed by the path of the manifest. Without a manifest it is the SHA-256 of
    lines with the names and sizes of its files, keyed by the path of the folder.
    """
    folders: dict[str, list[str]] = {}
    for file in sorted(record_files):
        folders.setdefault(folder_of(file), []).append(file)
    hashes = {}
    for folder, files in folders.items():
        if exists(manifest := join(folder, MANIFEST_FILE)):
            hashes[manifest] = _hash_manifest(folder)
        else:
            lines = "".join(f"{os.path.basename(file)} {size(file)}\n" for file in files)
            hashes[folder] = hashlib.sha256(lines.encode()).hexdigest()
    return hashes
