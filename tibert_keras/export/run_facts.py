"""What a run recorded of itself, gathered for its card. What was not recorded, or is gone, is `None` or empty."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass, field
from typing import Any

from tibert_keras.data.manifest import MANIFEST_FILE, Manifest
from tibert_keras.errors import InputError
from tibert_keras.storage import exists, expand_glob, join, read_json, sha256
from tibert_keras.training.champion import CHAMPION_FILE, INITIAL_PRESET, TOKENIZER_ASSET
from tibert_keras.training.checkpoints import Checkpoints
from tibert_keras.training.config import read_config
from tibert_keras.training.environment import read_environment
from tibert_keras.training.history import History

_ADVICE = "Choose the folder of another run."


@dataclass(frozen=True, kw_only=True)
class RecordFolder:
    """A folder of records that a run reads.

    Attributes:
        path: The folder.
        files: Names of those of its files that the run reads.
        manifest: Its manifest, or `None` if it has none, as folders of Google's records.
        changed: Whether the manifest is another than the one that the run read last; `None` if the run did not note it.
    """

    path: str
    files: list[str]
    manifest: Manifest | None
    changed: bool | None

    @property
    def used(self) -> Manifest | None:
        """The manifest with the entries of the files alone that the run reads."""
        if self.manifest is None:
            return None
        parts = {"files": self.manifest.files, "sources": self.manifest.sources}
        only = {part: {name: known[name] for name in self.files if name in known} for part, known in parts.items()}
        return dataclasses.replace(self.manifest, **only)


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
        champion: What `champion.json` says.
        backbone: The configuration of its encoder.
        parameter_count: Parameters of the model as it was begun.
        tokenizer_sha256: Of its SentencePiece model.
        records: By option (`input_file`, `validation_file`) the folders of records that are still there.
    """

    run_dir: str
    config: dict[str, Any]
    step: int = 0
    rows: list[dict[str, float]] = field(default_factory=list)
    num_examples: int | None = None
    environment: list[dict[str, Any]] = field(default_factory=list)
    champion: dict[str, Any] | None = None
    backbone: dict[str, Any] | None = None
    parameter_count: int | None = None
    tokenizer_sha256: str | None = None
    records: dict[str, list[RecordFolder]] = field(default_factory=dict)


def gather_facts(run_dir: str | os.PathLike[str]) -> RunFacts:
    """Read what a run recorded, and the manifests of its records where these are still there.

    Raises:
        InputError: If the folder holds no run, or a file in it is damaged.
    """
    run_dir = os.fspath(run_dir).rstrip("/") or "/"
    config = read_config(run_dir)
    environment = read_environment(run_dir)
    noted = environment[-1].get("manifests", {}) if environment else None
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
        champion=_json(join(run_dir, CHAMPION_FILE)),
        backbone=(_json(join(initial, "config.json")) or {}).get("config"),
        parameter_count=(_json(join(initial, "metadata.json")) or {}).get("parameter_count"),
        tokenizer_sha256=sha256(vocabulary) if exists(vocabulary) else None,
        records={
            option: _folders(config[option], noted)
            for option in ("input_file", "validation_file")
            if config.get(option)
        },
    )


def _json(path: str) -> dict[str, Any] | None:
    return read_json(path, what="a file of a run", advice=_ADVICE) if exists(path) else None


def _folders(pattern: str, noted: dict[str, str] | None) -> list[RecordFolder]:
    try:
        paths = expand_glob(pattern)
    except InputError:
        # They may be long gone, or elsewhere.
        return []
    names: dict[str, list[str]] = {}
    for path in paths:
        folder, name = os.path.split(path)
        names.setdefault(folder or ".", []).append(name)
    return [_folder(folder, files, noted) for folder, files in names.items()]


def _folder(folder: str, files: list[str], noted: dict[str, str] | None) -> RecordFolder:
    manifest, path = Manifest.read(folder), join(folder, MANIFEST_FILE)
    changed = None if noted is None or manifest is None else noted.get(path) != sha256(path)
    return RecordFolder(path=folder, files=files, manifest=manifest, changed=changed)
