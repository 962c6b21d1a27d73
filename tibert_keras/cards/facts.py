"""What a run recorded of itself, gathered for its card. What was not recorded, or is gone, is `None` or empty."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

from tibert_keras.errors import InputError
from tibert_keras.records.manifest import MANIFEST_FILE, Manifest
from tibert_keras.runs.champion import Champion, read_champion
from tibert_keras.runs.checkpoints import Checkpoints
from tibert_keras.runs.environment import hash_records, read_environment
from tibert_keras.runs.folder import CHAMPION_FILE, INITIAL_PRESET, TOKENIZER_ASSET, read_config
from tibert_keras.runs.history import History
from tibert_keras.storage import exists, expand_glob, join, read_json, sha256

_ADVICE = "Choose the folder of another run."


@dataclass(frozen=True, kw_only=True)
class RecordFolder:
    """A folder of records that a run reads.

    Attributes:
        path: The folder.
        files: Names of those of its files that the run reads.
        manifest: Its manifest, or `None` if it has none, as folders of Google's records.
        sha256: The hash that `hash_records` gives for it.
        changed: Whether that is another than when the run read it last; `None` if the run did not note it.
    """

    path: str
    files: list[str]
    manifest: Manifest | None
    sha256: str
    changed: bool | None

    @property
    def used(self) -> Manifest | None:
        """The manifest with the entries of the files alone that the run reads."""
        return self.manifest and self.manifest.only(*self.files)


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What the files of a run tell.

    Attributes:
        run_dir: Its folder.
        config: Its options.
        step: Step of its last checkpoint; 0 without one.
        rows: Its history.
        num_examples: Examples of its training records, as it counted them.
        environment: What it ran with, from which step on.
        champion: Its champion, if one has been chosen.
        backbone: The configuration of its encoder.
        parameter_count: Parameters of its encoder.
        tokenizer_sha256: Of its SentencePiece model.
        records: By option (`input_file`, `validation_file`) the folders of records that are still there.
        lost_records: The hashes that it noted of records that are not there any more, as `hash_records` gives them.
    """

    run_dir: str
    config: dict[str, Any]
    step: int = 0
    rows: list[dict[str, float]] = field(default_factory=list)
    num_examples: int | None = None
    environment: list[dict[str, Any]] = field(default_factory=list)
    champion: Champion | None = None
    backbone: dict[str, Any] | None = None
    parameter_count: int | None = None
    tokenizer_sha256: str | None = None
    records: dict[str, list[RecordFolder]] = field(default_factory=dict)
    lost_records: dict[str, str] = field(default_factory=dict)


def gather_facts(run_dir: str | os.PathLike[str]) -> RunFacts:
    """Read what a run recorded, and the manifests of its records where these are still there.

    Raises:
        InputError: If the folder holds no run, or a file in it is damaged.
    """
    run_dir = os.fspath(run_dir).rstrip("/") or "/"
    config = read_config(run_dir)
    environment = read_environment(run_dir)
    noted = environment[-1]["manifests"] if environment else {}
    paths = {option: _paths(config[option]) for option in ("input_file", "validation_file") if config.get(option)}
    # Of a folder's files together, as the run noted it: those of training and validation may lie in one.
    now = hash_records(path for found in paths.values() for path in found)
    checkpoints = Checkpoints(run_dir)
    step = max(checkpoints.steps, default=0)
    initial = join(run_dir, INITIAL_PRESET)
    vocabulary = join(initial, TOKENIZER_ASSET)
    return RunFacts(
        run_dir=run_dir,
        config=config,
        step=step,
        rows=History(run_dir).rows,
        num_examples=checkpoints.state(step).get("num_examples") if step else None,
        environment=environment,
        champion=read_champion(run_dir) if exists(join(run_dir, CHAMPION_FILE)) else None,
        backbone=(_json(join(initial, "config.json")) or {}).get("config"),
        parameter_count=(_json(join(initial, "metadata.json")) or {}).get("parameter_count"),
        tokenizer_sha256=sha256(vocabulary) if exists(vocabulary) else None,
        records={option: _folders(found, now, noted) for option, found in paths.items()},
        lost_records={name: digest for name, digest in noted.items() if not now.keys() & _names(_folder_of(name))},
    )


def _json(path: str) -> dict[str, Any] | None:
    return read_json(path, what="a file of a run", advice=_ADVICE) if exists(path) else None


def _paths(pattern: str) -> list[str]:
    try:
        return expand_glob(pattern)
    except InputError:
        # They may be long gone, or elsewhere.
        return []


def _names(folder: str) -> set[str]:
    """Under which names `hash_records` may have a folder."""
    return {folder, join(folder, MANIFEST_FILE)}


def _folder_of(name: str) -> str:
    return os.path.dirname(name) if os.path.basename(name) == MANIFEST_FILE else name


def _folders(paths: list[str], now: dict[str, str], noted: dict[str, str]) -> list[RecordFolder]:
    names: dict[str, list[str]] = {}
    for path in paths:
        folder, name = os.path.split(path)
        names.setdefault(folder or ".", []).append(name)
    return [_folder(folder, files, now, noted) for folder, files in names.items()]


def _folder(folder: str, files: list[str], now: dict[str, str], noted: dict[str, str]) -> RecordFolder:
    (digest,) = (now[name] for name in _names(folder) if name in now)
    before = [noted[name] for name in _names(folder) if name in noted]
    changed = digest not in before if before else None
    return RecordFolder(path=folder, files=files, manifest=Manifest.read(folder), sha256=digest, changed=changed)
