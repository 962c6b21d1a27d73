"""The commands that made a run, put together from what it recorded, to be pasted into a shell."""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Mapping
from typing import Any

from tibert_keras.data import RecordsConfig
from tibert_keras.data.manifest import Manifest
from tibert_keras.data.records import TOKENIZER_FILE
from tibert_keras.storage import join
from tibert_keras.training import FinetuneTextConfig, FinetuneTokensConfig, PretrainConfig


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


def records_command(folder: str, manifest: Manifest | None) -> str | None:
    """Give the `tibert records` that a folder of records was made with; `None` if its texts were not recorded.

    Their names were, but not their folder, for which the command has the shell variable `TEXTS`; the tokenizer is the
    copy beside the records.
    """
    if manifest is None or not manifest.sources:
        return None
    names = sorted({source["file"] for source in manifest.sources.values()})
    # A comma would part two names.
    texts = ",".join(f'"$TEXTS"/{shlex.quote(name.replace(",", "?"))}' for name in names)
    paths = {"output_dir": folder, "spm_model_file": join(folder, TOKENIZER_FILE)}
    return _command("tibert records", [f"--input_file={texts}", *_flags(RecordsConfig, {**paths, **manifest.options})])


def _flags(config_class: type, options: Mapping[str, Any]) -> list[str]:
    """The flags of the options that differ from their defaults."""
    fields = [field for field in dataclasses.fields(config_class) if field.name in options]
    given = {field.name: options[field.name] for field in fields if options[field.name] != field.default}
    return [
        f"--{name}={str(value).lower() if isinstance(value, bool) else shlex.quote(_word(value))}"
        for name, value in given.items()
    ]


def _word(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else str(value)


def _command(name: str, flags: list[str]) -> str:
    return " \\\n    ".join([name, *flags])
