"""Reads the facts of a run for its card. A fact that was not recorded, or is gone, is `None` or empty."""

import os
from dataclasses import dataclass, field
from typing import Any

from tibert_keras.errors import InputError
from tibert_keras.finetuning.scores import CONFUSION_PICTURE, Scores, read_scores, score_rows
from tibert_keras.integrity import MANIFEST_FILE
from tibert_keras.records.manifest import Manifest
from tibert_keras.runs.champion import Champion, read_champion, read_evaluation
from tibert_keras.runs.checkpoints import Checkpoints
from tibert_keras.runs.environment import hash_records, read_environment
from tibert_keras.runs.folder import (
    CHAMPION_FILE,
    CHAMPION_PRESET,
    INITIAL_PRESET,
    TOKENIZER_ASSET,
    read_config,
    read_kind,
)
from tibert_keras.runs.history import History
from tibert_keras.storage import exists, expand_glob, join, read_json, sha256

_ADVICE = "Choose the folder of another run."


@dataclass(frozen=True, kw_only=True)
class RecordFolder:
    """A folder of records that a run reads.

    Attributes:
        path: The folder.
        files: The names of the files in it that the run reads.
        manifest: Its manifest, or `None` if it has none, as folders of Google's records.
        sha256: Its hash, from `hash_records`.
        changed: Whether the hash differs from the one that the run noted last; `None` if it noted none.
    """

    path: str
    files: list[str]
    manifest: Manifest | None
    sha256: str
    changed: bool | None

    @property
    def used(self) -> Manifest | None:
        """The manifest, reduced to the files that the run reads."""
        return self.manifest and self.manifest.only(*self.files)

    @property
    def file_rows(self) -> list[tuple[Any, ...]]:
        """A row for each file: its name, examples and hash, and the name and hash of its text."""
        if (used := self.used) is None:
            return []
        known = [(name, used.files.get(name, {}), used.sources.get(name, {})) for name in self.files]
        return [
            (name, file.get("examples", "-"), file.get("sha256", "-"), text.get("file", "-"), text.get("sha256", "-"))
            for name, file, text in known
        ]


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """The facts in the files of a pretraining run."""

    run_dir: str
    config: dict[str, Any]
    step: int = 0  # of the last checkpoint
    rows: list[dict[str, float]] = field(default_factory=list)
    num_examples: int | None = None
    # The versions that it ran with, each with the step from which it did.
    environment: list[dict[str, Any]] = field(default_factory=list)
    champion: Champion | None = None
    evaluation: dict[str, Any] | None = None
    backbone: dict[str, Any] | None = None
    parameter_count: int | None = None
    tokenizer_sha256: str | None = None
    # By option: `input_file`, `validation_file`.
    records: dict[str, list[RecordFolder]] = field(default_factory=dict)
    # The hashes that it noted of records that are gone, by the names that `hash_records` gives them.
    lost_records: dict[str, str] = field(default_factory=dict)

    @property
    def folders(self) -> list[RecordFolder]:
        """The folders of records, each once: training and validation may share one."""
        return list({folder.path: folder for role in self.records.values() for folder in role}.values())

    @property
    def has_loss(self) -> bool:
        """Whether there is a loss to draw."""
        return any("loss" in row for row in self.rows)


@dataclass(frozen=True, kw_only=True)
class FinetuningFacts:
    """The facts in the files of a fine-tuning."""

    run_dir: str
    config: dict[str, Any]
    environment: list[dict[str, Any]]
    scores: Scores
    score_rows: list[list[str]]
    parameter_count: int | None
    confusion_picture: str | None
    # Whether it labels tokens, not texts.
    is_tagger: bool

    @property
    def counts(self) -> list[tuple[Any, ...]]:
        """The sizes of the parts of its data: a row for each unit that was counted."""
        data = self.scores.data
        parts = ("train", "validation", "test")
        return [
            (unit, *(data[unit].get(part, "-") for part in parts))
            for unit in ("documents", "words", "texts")
            if unit in data
        ]


def gather_facts(run_dir: str | os.PathLike[str]) -> RunFacts | FinetuningFacts:
    """Read what a run recorded."""
    run_dir = os.fspath(run_dir).rstrip("/") or "/"
    config = read_config(run_dir)
    if (kind := read_kind(run_dir)) == "pretrain":
        return _run_facts(run_dir, config)
    scores = read_scores(run_dir)
    count = _json(join(run_dir, CHAMPION_PRESET, "metadata.json")).get("parameter_count")
    return FinetuningFacts(
        run_dir=run_dir,
        config=config,
        environment=read_environment(run_dir),
        scores=scores,
        score_rows=score_rows(run_dir, scores),
        parameter_count=count if isinstance(count, int) else None,
        confusion_picture=CONFUSION_PICTURE if exists(join(run_dir, CONFUSION_PICTURE)) else None,
        is_tagger=kind == "finetune tokens",
    )


def _run_facts(run_dir: str, config: dict[str, Any]) -> RunFacts:
    environment = read_environment(run_dir)
    noted = environment[-1]["manifests"] if environment else {}
    digests = {_folder_of(name): digest for name, digest in noted.items()}
    paths = {option: _paths(config[option]) for option in ("input_file", "validation_file") if config.get(option)}
    # One hash for all files of a folder, as the run noted it: training and validation may share a folder.
    hashes = hash_records(path for found in paths.values() for path in found)
    now = {_folder_of(name): digest for name, digest in hashes.items()}
    checkpoints = Checkpoints(run_dir)
    step = max(checkpoints.steps, default=0)
    initial = join(run_dir, INITIAL_PRESET)
    champion = read_champion(run_dir) if exists(join(run_dir, CHAMPION_FILE)) else None
    vocabulary = join(initial, TOKENIZER_ASSET)
    return RunFacts(
        run_dir=run_dir,
        config=config,
        step=step,
        rows=History(run_dir).rows,
        num_examples=checkpoints.state(step).get("num_examples") if step else None,
        environment=environment,
        champion=champion,
        evaluation=read_evaluation(run_dir, champion.step) if champion else None,
        backbone=_json(join(initial, "config.json")).get("config"),
        parameter_count=_json(join(initial, "metadata.json")).get("parameter_count"),
        tokenizer_sha256=sha256(vocabulary) if exists(vocabulary) else None,
        records={option: _folders(found, now, digests) for option, found in paths.items()},
        lost_records={name: digest for name, digest in noted.items() if _folder_of(name) not in now},
    )


def _json(path: str) -> dict[str, Any]:
    return read_json(path, what="a file of a run", advice=_ADVICE) if exists(path) else {}


def _paths(pattern: str) -> list[str]:
    try:
        return expand_glob(pattern)
    except InputError:
        # The records may have been removed or moved.
        return []


def _folder_of(name: str) -> str:
    """The folder that `hash_records` names, or of which it names the manifest."""
    return os.path.dirname(name) if os.path.basename(name) == MANIFEST_FILE else name


def _folders(paths: list[str], now: dict[str, str], noted: dict[str, str]) -> list[RecordFolder]:
    names: dict[str, list[str]] = {}
    for path in paths:
        folder, name = os.path.split(path)
        names.setdefault(folder or ".", []).append(name)
    return [
        RecordFolder(
            path=folder,
            files=files,
            manifest=Manifest.read(folder),
            sha256=now[folder],
            changed=noted[folder] != now[folder] if folder in noted else None,
        )
        for folder, files in names.items()
    ]
