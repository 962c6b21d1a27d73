"""Loads models from presets and runs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from tibert_keras.runs.folder import find_preset
from tibert_keras.storage import join, read_json

if TYPE_CHECKING:
    from tibert_keras.models.tibert_task import TibertTask


def load_model(model: TibertTask | str | os.PathLike[str], **kwargs: Any) -> TibertTask:
    """Load a preset or a run's champion with the class that it was saved with. A model is returned as it is.

    Args:
        model: The folder of a preset or a run, or a model that is loaded already.
        **kwargs: Arguments of `from_preset`.

    Returns:
        A masked language model, or a classifier of tokens or texts.

    Raises:
        InputError: If the path is neither a preset nor a run with a champion.

    Example:
    ```python
    load_model("run", dtype="float32").summary()
    ```
    """
    if not isinstance(model, str | os.PathLike):
        return model
    preset = find_preset(model)
    config = read_json(join(preset, "task.json"), what="a preset", advice="Give one that `save_to_preset` wrote.")

    # Keras is imported only for a path that holds a model.
    from tibert_keras.models.tibert_masked_lm import TibertMaskedLM
    from tibert_keras.models.tibert_text_classifier import TibertTextClassifier
    from tibert_keras.models.tibert_token_classifier import TibertTokenClassifier

    classifiers: tuple[type[TibertTask], ...] = (TibertTokenClassifier, TibertTextClassifier)
    by_name = {f"tibert_keras>{each.__name__}": each for each in classifiers}
    make = by_name.get(config.get("registered_name", ""), TibertMaskedLM)
    return make.from_preset(preset, **kwargs)
