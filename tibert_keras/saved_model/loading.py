"""Loads SavedModels, which need TensorFlow and the ops of their tokenizers, but no Keras."""

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tibert_keras.errors import InputError
from tibert_keras.integrity import check_manifest

_KERAS_OPTIMIZERS = "keras.src.optimizers"


def load_saved_model(folder: str) -> Any:
    """Load a SavedModel, of ours or another's.

    Importing TensorFlow Text would import Keras, for layers of its own, and take seconds. This is done only for a
    foreign tokenizer, whose ops may be any of them.
    """
    advice = "Copy the whole SavedModel anew from where it comes from, or export it again."
    check_manifest(folder, what="The SavedModel", advice=advice)
    import_tensorflow()
    _register_sentence_piece()
    try:
        return _load(folder)
    except Exception as error:  # a damaged file raises any kind
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"The SavedModel cannot be loaded: {reason}. Received: {folder!r}. {advice}") from error


def _load(folder: str) -> Any:
    import tensorflow as tf

    try:
        return tf.saved_model.load(folder)
    except Exception as error:
        if "Op type not registered" not in str(error):
            raise
    import tensorflow_text  # noqa: F401

    return tf.saved_model.load(folder)


def import_tensorflow() -> None:
    """Import TensorFlow and keep it from importing Keras, which a SavedModel does not need and which takes seconds.

    TensorFlow imports a module of Keras at the end, if it can, to register optimizers. It comes with Keras later.
    """
    if "keras" in sys.modules or "tensorflow" in sys.modules:
        import tensorflow  # noqa: F401

        return
    sys.modules[_KERAS_OPTIMIZERS] = None  # type: ignore[assignment]
    try:
        import tensorflow  # noqa: F401
    finally:
        del sys.modules[_KERAS_OPTIMIZERS]


def _register_sentence_piece() -> None:
    import tensorflow as tf

    package = find_spec("tensorflow_text")
    folder = Path(package.origin).parent if package and package.origin else Path()
    if (library := folder / "python/ops/_sentencepiece_tokenizer.so").exists():
        tf.load_op_library(str(library))
    else:
        import tensorflow_text  # noqa: F401  (raises if it is missing, and works wherever its ops are)
