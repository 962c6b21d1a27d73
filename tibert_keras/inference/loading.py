"""Loads models to use, and imports what they need only once they are found."""

from __future__ import annotations

import os
from typing import Any

from tibert_keras.runs.folder import find_preset
from tibert_keras.runs.presets import load_model
from tibert_keras.saved_model.loading import load_saved_model
from tibert_keras.saved_model.versions import find_saved_model


def load_fill_mask(model: Any, *, top_k: int = 5) -> Any:
    """Load a model that fills masks. A SavedModel needs TensorFlow and TensorFlow Text only, no Keras.

    Args:
        model: Folder of a SavedModel or of its versions, of a preset, or of a run with a champion. A model that is
            loaded already is returned as it is.
        top_k: How many pieces a preset guesses for each mask.

    Returns:
        An object with the methods of `FillMask`.

    Raises:
        InputError: If `model` is none of them.
    """
    if not isinstance(model, str | os.PathLike):
        return model
    if (saved_model := find_saved_model(model)) is not None:
        return load_saved_model(saved_model)
    preset = find_preset(model)
    from tibert_keras.saved_model.fill_mask import FillMask

    return FillMask(load_model(preset), top_k=top_k)
