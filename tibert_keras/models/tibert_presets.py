"""Architectures by name, all without weights."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tibert_keras.errors import InputError
from tibert_keras.storage import local_folder

_KERAS_HUB_SCHEMES = {"hf", "kaggle", "modelscope"}

# `vocabulary_size` is not among them: it is the tokenizer's.
backbone_presets: dict[str, dict[str, Any]] = {
    "tibert_nano": {
        "metadata": {"description": "2 layers of 64 units, for tests and the quickstart."},
        "config": {
            "num_layers": 2,
            "num_heads": 4,
            "embedding_dim": 32,
            "hidden_dim": 64,
            "intermediate_dim": 256,
            "max_sequence_length": 512,
        },
    },
    "tibert_tiny": {
        "metadata": {"description": "4 layers of 256 units, for trials on a CPU or a small GPU."},
        "config": {
            "num_layers": 4,
            "num_heads": 4,
            "embedding_dim": 128,
            "hidden_dim": 256,
            "intermediate_dim": 1024,
            "max_sequence_length": 512,
        },
    },
    "tibert_base": {
        "metadata": {"description": "12 layers of 768 units: ALBERT-base-v2, and TibERT-base."},
        "config": {
            "num_layers": 12,
            "num_heads": 12,
            "embedding_dim": 128,
            "hidden_dim": 768,
            "intermediate_dim": 3072,
            "max_sequence_length": 512,
        },
    },
    "tibert_large": {
        "metadata": {"description": "24 layers of 1024 units: ALBERT-large-v2."},
        "config": {
            "num_layers": 24,
            "num_heads": 16,
            "embedding_dim": 128,
            "hidden_dim": 1024,
            "intermediate_dim": 4096,
            "max_sequence_length": 512,
        },
    },
}


def check_preset(preset: str | os.PathLike[str]) -> str:
    """Return `preset` as a string if it can be one: a name above, a folder, or a handle with a scheme.

    Raises:
        InputError: If it is none of these. KerasHub's error would suggest names that are not ours.
    """
    preset = os.fspath(preset)
    if preset not in backbone_presets and "://" not in preset and not Path(preset).is_dir():
        raise InputError(
            f"The preset is neither a name nor a folder. Received: preset={preset!r}. "
            f"Give one of {', '.join(backbone_presets)}, or a folder written by `save_to_preset`."
        )
    return preset


@contextmanager
def local_preset(preset: str) -> Iterator[str]:
    """Give a preset that KerasHub loads anew: a handle it downloads, a folder here, or a copy of one elsewhere.

    KerasHub keeps what it copies from `gs://` for good, and would not see that a champion has changed.
    """
    if preset.partition("://")[0] in _KERAS_HUB_SCHEMES:
        yield preset
        return
    with local_folder(preset) as folder:
        yield folder


@contextmanager
def foreign_preset(preset: str) -> Iterator[None]:
    """Put in words what KerasHub says where a preset is not one of ours, or lacks a part.

    Raises:
        InputError: In place of KerasHub's errors.
    """
    try:
        yield
    except InputError:
        raise
    except (ValueError, OSError) as error:
        raise InputError(
            f"The preset holds no encoder of ours with its tokenizer: {' '.join(str(error).split())[:200]} "
            f"Received: preset={preset!r}. Give the champion of a run that had a tokenizer."
        ) from error
