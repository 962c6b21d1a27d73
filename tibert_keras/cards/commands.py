"""The commands that made a run, put together from what it recorded, to be pasted into a shell."""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
from collections.abc import Mapping
from typing import Any

from tibert_keras.corpus.build import CorpusConfig
from tibert_keras.finetuning.config import FinetuneTextConfig, FinetuneTokensConfig
from tibert_keras.records.build import TOKENIZER_FILE
from tibert_keras.records.config import RecordsConfig
from tibert_keras.records.manifest import Manifest, folder_of
from tibert_keras.storage import join
from tibert_keras.tokenizers.training import TokenizerConfig
from tibert_keras.training.config import PretrainConfig


def pretrain_command(options: Mapping[str, Any]) -> str:
    """Give the `tibert pretrain` that a run was made with.

    Args:
        options: The run's configuration.
    """
    return _command("tibert pretrain", _flags(PretrainConfig, options))


def finetune_command(options: Mapping[str, Any]) -> str:
    """Give the `tibert finetune` that a run was made with.

    Args:
        options: The run's configuration.
    """
    if "validation_share" in options:
        return _command("tibert finetune text", _flags(FinetuneTextConfig, options))
    return _command("tibert finetune tokens", _flags(FinetuneTokensConfig, options))


def corpus_of(source: Mapping[str, Any], manifest: Manifest) -> str | None:
    """The folder of the corpus that a text of records is from; `None` if that was not recorded, or the text changed.

    Args:
        source: Its entry in the manifest.
        manifest: The manifest of the records.
    """
    folder = source.get("folder")
    if folder is None or folder not in (corpora := manifest.made_from.get("corpora", {})):
        return None
    # An older corpus did not note its input.
    known = corpora[folder]["input_file"] is not None
    return str(folder) if known and corpora[folder]["files"].get(source["file"]) == source["sha256"] else None


def corpus_commands(manifest: Manifest) -> list[str]:
    """Give the `tibert corpus` of each corpus that texts of records are from."""
    corpora = manifest.made_from.get("corpora", {})
    folders = {corpus_of(source, manifest) for source in manifest.sources.values()} - {None}
    return [
        _command(
            "tibert corpus",
            _flags(
                CorpusConfig,
                {"input_file": made["input_file"], "output_dir": folder, **made["options"]},
            ),
        )
        for folder, made in sorted(corpora.items())
        if folder in folders
    ]


def tokenizer_command(manifest: Manifest) -> str | None:
    """Give the `tibert tokenizer` that the tokenizer of records was trained with; `None` if it was not recorded."""
    made = manifest.made_from.get("tokenizer", {})
    # One of another name was renamed by hand.
    if not made.get("manifest") or os.path.basename(made["spm_model_file"]) != TOKENIZER_FILE:
        return None
    folder = folder_of(made["spm_model_file"])
    return _command("tibert tokenizer", _flags(TokenizerConfig, {**made["manifest"], "output_dir": folder}))


def records_command(folder: str, manifest: Manifest | None) -> str | None:
    """Give the `tibert records` that a folder of records was made with; `None` if its texts were not recorded.

    Where their names were, but not their folder, the command has the shell variable `TEXTS` for it. The tokenizer is
    the trained one, or the copy beside the records if nothing is known of how it was trained.
    """
    if manifest is None or not manifest.sources:
        return None
    sources = {source["file"]: source.get("folder") for source in manifest.sources.values()}
    # A comma would part two names.
    texts = [
        shlex.quote(join(place, name).replace(",", "?")) if place else f'"$TEXTS"/{shlex.quote(name.replace(",", "?"))}'
        for name, place in sorted(sources.items())
    ]
    model = manifest.made_from["tokenizer"]["spm_model_file"] if tokenizer_command(manifest) else None
    paths = {"output_dir": folder, "spm_model_file": model or join(folder, TOKENIZER_FILE)}
    flags = _flags(RecordsConfig, {**paths, **manifest.options})
    return _command("tibert records", [f"--input_file={','.join(texts)}", *flags])


def _flags(config_class: type, options: Mapping[str, Any]) -> list[str]:
    """The flags of the options that differ from their defaults."""
    defaults = {
        field.name: field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        for field in dataclasses.fields(config_class)
    }
    given = {name: options[name] for name, default in defaults.items() if name in options and options[name] != default}
    return [
        f"--{name}={str(value).lower() if isinstance(value, bool) else shlex.quote(_word(value))}"
        for name, value in given.items()
    ]


def _word(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else str(value)


def _command(name: str, flags: list[str]) -> str:
    return " \\\n    ".join([name, *flags])
