"""Composes the shell commands that reproduce a run, from its files."""

import dataclasses
import json
import os
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from tibert_keras.corpus.build import CorpusConfig
from tibert_keras.records.build import TOKENIZER_FILE
from tibert_keras.records.config import RecordsConfig
from tibert_keras.records.manifest import Manifest
from tibert_keras.storage import folder_of, join
from tibert_keras.tokenizers.training import TokenizerConfig
from tibert_keras.training.config import PretrainConfig


def reproduction_steps(
    config: Mapping[str, Any], manifests: Iterable[tuple[str, Manifest | None]]
) -> tuple[list[str], list[str]]:
    """Return the commands that reproduce a pretraining run from the files of the editions, and the unrecorded facts.

    If the folder of the texts is unrecorded, a command before those for the records sets the shell variable `TEXTS`.
    """
    missing, before, records = [], [], []
    for path, manifest in manifests:
        if manifest is None or (made := records_command(path, manifest)) is None:
            missing.append(f"From which texts `{path}` was made")
            continue
        if any(corpus_of(source, manifest) is None for source in manifest.sources.values()):
            missing.append(f"How the texts of `{path}` were made of an edition")
        if (tokenizer := tokenizer_command(manifest)) is None:
            missing.append(f"How the tokenizer of `{path}` was trained")
        before += [*corpus_commands(manifest), tokenizer or ""]
        records.append(made)
    if any("$TEXTS" in each for each in records):
        records.insert(0, "TEXTS=FOLDER_OF_THE_TEXTS")
    # Training and validation may share a corpus and a tokenizer. Corpora come before tokenizers.
    before = sorted(filter(None, dict.fromkeys(before)), key=lambda each: not each.startswith("tibert corpus"))
    return [*before, *records, verb_command("pretrain", PretrainConfig, config)], missing


def corpus_of(source: Mapping[str, Any], manifest: Manifest) -> str | None:
    """Find the corpus folder of a text; `None` if it was not recorded or the text has changed."""
    folder = source.get("folder")
    if folder is None or folder not in (corpora := manifest.made_from.get("corpora", {})):
        return None
    # Older corpora did not record their input.
    known = corpora[folder]["input_file"] is not None
    return str(folder) if known and corpora[folder]["files"].get(source["file"]) == source["sha256"] else None


def corpus_commands(manifest: Manifest) -> list[str]:
    """Compose the `tibert corpus` of each corpus that provided texts of records."""
    corpora = manifest.made_from.get("corpora", {})
    folders = {corpus_of(source, manifest) for source in manifest.sources.values()} - {None}
    return [
        verb_command(
            "corpus", CorpusConfig, {"input_file": made["input_file"], "output_dir": folder, **made["options"]}
        )
        for folder, made in sorted(corpora.items())
        if folder in folders
    ]


def tokenizer_command(manifest: Manifest) -> str | None:
    """Compose the `tibert tokenizer` of the tokenizer of records; `None` if it was not recorded."""
    made = manifest.made_from.get("tokenizer", {})
    # A model of another name was renamed by hand.
    if not made.get("manifest") or os.path.basename(made["spm_model_file"]) != TOKENIZER_FILE:
        return None
    folder = folder_of(made["spm_model_file"])
    return verb_command("tokenizer", TokenizerConfig, {**made["manifest"], "output_dir": folder})


def records_command(folder: str, manifest: Manifest) -> str | None:
    """Compose the `tibert records` of a folder of records; `None` if its texts were not recorded.

    If only the names of the texts were recorded, the shell variable `TEXTS` stands for their folder. The tokenizer is
    the trained one, or the copy beside the records if its training was not recorded.
    """
    if not manifest.sources:
        return None
    sources = {source["file"]: source.get("folder") for source in manifest.sources.values()}
    # A comma separates two names.
    texts = [
        shlex.quote(join(place, name).replace(",", "?")) if place else f'"$TEXTS"/{shlex.quote(name.replace(",", "?"))}'
        for name, place in sorted(sources.items())
    ]
    model = manifest.made_from["tokenizer"]["spm_model_file"] if tokenizer_command(manifest) else None
    paths = {"output_dir": folder, "spm_model_file": model or join(folder, TOKENIZER_FILE)}
    return verb_command("records", RecordsConfig, {**paths, **manifest.options}, f"--input_file={','.join(texts)}")


def verb_command(verb: str, config_class: type, options: Mapping[str, Any], *flags: str) -> str:
    """Compose a command of `flags` as they are, and of those of the options that differ from their defaults."""
    return " \\\n    ".join([f"tibert {verb}", *flags, *_flags(config_class, options)])


def _flags(config_class: type, options: Mapping[str, Any]) -> list[str]:
    defaults = {
        field.name: field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        for field in dataclasses.fields(config_class)
    }
    given = {name: options[name] for name, default in defaults.items() if name in options and options[name] != default}
    return [
        f"--{name.rstrip('_')}={str(value).lower() if isinstance(value, bool) else shlex.quote(_word(value))}"
        for name, value in given.items()
    ]


def _word(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else str(value)
