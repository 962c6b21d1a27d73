"""Loads models for use, and imports their libraries only once the models are found."""

import os
from typing import Any

from tibert_keras.inference.plain import PlainFillMask, is_plain
from tibert_keras.models.tibert_presets import find_by_name
from tibert_keras.runs.folder import find_preset
from tibert_keras.runs.presets import load_model
from tibert_keras.saved_model.versions import find_saved_model, load_saved_model


def load_fill_mask(model: Any, *, top_k: int = 5, count: int | None = None) -> Any:
    """Load a model that fills masks: an object with the methods of `FillMask`, or a `PlainFillMask`.

    A SavedModel needs TensorFlow and TensorFlow Text only, no Keras.

    Args:
        model: A masked language model, or the folder of a SavedModel or of its versions, of a preset, or of a run
            with a champion; or the name of a preset with weights. A result of this function is returned as it is.
        top_k: How many pieces a preset guesses for each mask.
        count: The most syllables that are missing, if known. For a few, a preset is run in plain NumPy.
    """
    if hasattr(model, "backbone"):
        return _in_memory(model, top_k)
    if not isinstance(model, str | os.PathLike):
        return model
    given, model = model, find_by_name(model)
    if (saved_model := find_saved_model(model)) is not None:
        return load_saved_model(saved_model)
    preset = find_preset(given, task="TibertMaskedLM")
    if count is not None and is_plain(preset, "TibertMaskedLM", count=count):
        return PlainFillMask(preset, top_k=top_k)
    return _in_memory(load_model(preset), top_k)


def _in_memory(model: Any, top_k: int) -> Any:
    """Return the functions of a model, which it keeps until it changes: tracing them takes seconds."""
    from tibert_keras.models.encoder_layer import sentence_piece_in_graph
    from tibert_keras.saved_model.fill_mask import FillMask

    preprocessor = model.preprocessor
    # LoRA and quantization make other variables.
    variables = [id(variable) for variable in model.variables]
    key = (top_k, id(preprocessor), getattr(preprocessor, "sequence_length", None), variables)
    known, functions = vars(model).get("_fill_mask_functions", (None, None))
    # Makes another if the tokenizer's is lost, as after `keras.utils.set_random_seed`.
    if known != key or functions.sentence_piece is not sentence_piece_in_graph(preprocessor.tokenizer):
        functions = FillMask(model, top_k=top_k)
        # Not `setattr`, which Keras tracks.
        vars(model)["_fill_mask_functions"] = key, functions
    return functions
