"""Loads models to use, and imports what they need only once they are found."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tibert_keras.runs.folder import find_preset
from tibert_keras.runs.presets import load_model
from tibert_keras.saved_model.versions import find_saved_model

_KERAS_OPTIMIZERS = "keras.src.optimizers"


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
        return _load_saved_model(saved_model)
    preset = find_preset(model)
    from tibert_keras.saved_model.fill_mask import FillMask

    return FillMask(load_model(preset), top_k=top_k)


def _load_saved_model(folder: str) -> Any:
    with _without_keras():
        import tensorflow as tf
    _register_tokenizer_ops()
    return tf.saved_model.load(folder)


def _register_tokenizer_ops() -> None:
    """Load the ops of SentencePiece. Importing all of TensorFlow Text would import Keras, for layers of its own."""
    import tensorflow as tf

    package = find_spec("tensorflow_text")
    folder = Path(package.origin).parent if package and package.origin else Path()
    if (library := folder / "python/ops/_sentencepiece_tokenizer.so").exists():
        tf.load_op_library(str(library))
    else:
        import tensorflow_text  # noqa: F401  (raises if it is missing, and works wherever its ops are)


@contextmanager
def _without_keras() -> Iterator[None]:
    """Keep TensorFlow from importing Keras, which a SavedModel does not need and which takes seconds.

    TensorFlow imports this module of Keras at the end, if it can, to register optimizers. It comes with Keras later.
    """
    if "keras" in sys.modules or "tensorflow" in sys.modules:
        yield
        return
    sys.modules[_KERAS_OPTIMIZERS] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[_KERAS_OPTIMIZERS]
