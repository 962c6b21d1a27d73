"""Reads YAML files that somebody else may have written."""

import os
from typing import Any

import yaml

from tibert_keras.errors import InputError
from tibert_keras.storage import read_bytes

# Nothing that is read here comes near: options of a verb, and the index and the layers of a volume.
_MOST_BYTES = 1 << 28
_DEEPEST = 50

# LibYAML is about ten times as fast, but not every wheel includes it.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_yaml(path: str | os.PathLike[str], *, what: str, advice: str) -> dict[str, Any]:
    """Read a YAML file that holds an object."""
    try:
        value = load_yaml(read_bytes(path))
    except InputError as error:
        raise InputError(f"{error} {advice}") from error
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise InputError(f"Not {what}: {reason}. Received: {os.fspath(path)!r}. {advice}") from error
    if not isinstance(value, dict):
        raise InputError(f"Not {what}: it is not a YAML object. Received: {os.fspath(path)!r}. {advice}")
    return value


def load_yaml(content: bytes, *, aliases: bool = False) -> Any:
    """Load YAML within bounds on its size and depth."""
    if len(content) > _MOST_BYTES:
        raise ValueError(f"it has {len(content):,} bytes")
    depth = 0
    try:
        for event in yaml.parse(content, Loader=_LOADER):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > _DEEPEST:
                raise ValueError("it is nested too deeply")
            if isinstance(event, yaml.AliasEvent) and not aliases:
                raise ValueError("it repeats a part by an alias")
        return yaml.load(content, Loader=_LOADER)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
