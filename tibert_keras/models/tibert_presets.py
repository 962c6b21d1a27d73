"""Architectures by name, without weights, and checks of presets."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tibert_keras.errors import InputError
from tibert_keras.registration import register_classes
from tibert_keras.storage import local_folder

_KERAS_HUB_SCHEMES = {"hf", "kaggle", "modelscope"}


def _architecture(description: str, num_layers: int, num_heads: int, embedding_dim: int, hidden_dim: int) -> Any:
    # Without `vocabulary_size`, which is the tokenizer's.
    config = {
        "num_layers": num_layers,
        "num_heads": num_heads,
        "embedding_dim": embedding_dim,
        "hidden_dim": hidden_dim,
        "intermediate_dim": 4 * hidden_dim,
        "max_sequence_length": 512,
    }
    return {"metadata": {"description": description}, "config": config}


backbone_presets: dict[str, dict[str, Any]] = {
    "tibert_nano": _architecture("2 layers of 64 units, for tests and the quickstart.", 2, 4, 32, 64),
    "tibert_tiny": _architecture("4 layers of 256 units, for trials on a CPU or a small GPU.", 4, 4, 128, 256),
    "tibert_base": _architecture("12 layers of 768 units: ALBERT-base-v2, and TibERT-base.", 12, 12, 128, 768),
    "tibert_large": _architecture("24 layers of 1024 units: ALBERT-large-v2.", 24, 16, 128, 1024),
}


def check_preset(preset: str | os.PathLike[str]) -> str:
    """Return `preset` as a string if it is a name above, a folder, or a handle with a scheme.

    Raises:
        InputError: If it is none of these. KerasHub's error would suggest its own names.
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
    """Yield a preset that KerasHub can load: a handle, a local folder, or a temporary copy of a remote one.

    KerasHub caches its own copies from `gs://` for good, and would miss a new champion.
    """
    # KerasHub asks Keras for the class that the preset was saved with, whichever class of ours is to load it.
    register_classes()
    if preset.partition("://")[0] in _KERAS_HUB_SCHEMES:
        yield preset
        return
    with local_folder(preset) as folder:
        yield folder


@contextmanager
def foreign_preset(preset: str) -> Iterator[None]:
    """Turn KerasHub's errors for presets that are not ours, or are incomplete, into `InputError`.

    Raises:
        InputError: If the preset cannot be loaded.
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
