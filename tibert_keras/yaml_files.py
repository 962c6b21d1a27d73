"""Reads YAML files that somebody else may have written."""

import os
from typing import Any

import yaml

from tibert_keras.storage import read_object

# Nothing that is read here comes near: options of a verb, and the index and the layers of a volume.
_MOST_BYTES = 1 << 28
_DEEPEST = 50

# LibYAML is about ten times as fast, but not every wheel includes it.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_yaml(path: str | os.PathLike[str], *, what: str, advice: str) -> dict[str, Any]:
    """Read a YAML file that holds an object."""
    return read_object(path, load_yaml, "YAML", what=what, advice=advice)


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
