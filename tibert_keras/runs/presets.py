"""Loads models from presets and runs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from tibert_keras.errors import InputError
from tibert_keras.models import tibert_presets
from tibert_keras.models.keras_hub_presets import read_preset_file
from tibert_keras.registration import is_handle
from tibert_keras.runs.champion import read_champion
from tibert_keras.runs.folder import CHAMPION_FILE, CHAMPION_PRESET, CONFIG_FILE, find_preset
from tibert_keras.storage import exists, join, read_json

if TYPE_CHECKING:
    from tibert_keras.models.tibert_task import TibertTask


def describe_preset(model: str | os.PathLike[str]) -> str:
    """Describe a preset or a run's champion in a line: its run, its step, its size, and when it was written.

    One that comes with the package is described by its name and its training.
    """
    preset = find_preset(model)
    if is_handle(preset):
        return preset
    folder = os.path.dirname(preset.rstrip("/"))
    facts = []
    if os.path.basename(preset.rstrip("/")) == CHAMPION_PRESET and exists(join(folder, CONFIG_FILE)):
        facts.append(os.path.basename(os.path.abspath(folder)))
        if exists(join(folder, CHAMPION_FILE)):
            facts.append(f"step {read_champion(folder).step:,}")
    else:
        name = os.path.basename(os.path.abspath(preset))
        facts.append(name)
        if preset == os.path.join(tibert_presets.PRESETS, name):
            facts.append(tibert_presets.list_presets()[name]["metadata"]["description"].rstrip("."))
    # The folders of transformers have none.
    path = join(preset, "metadata.json")
    advice = "Give one that `save_to_preset` wrote."
    metadata = read_json(path, what="a preset", advice=advice) if exists(path) else {}
    if isinstance(count := metadata.get("parameter_count"), int):
        facts.append(f"{count:,} parameters")
    if isinstance(saved := metadata.get("date_saved"), str):
        facts.append(saved.partition("@")[0])
    return ", ".join(facts)


def load_model(model: TibertTask | str | os.PathLike[str], **kwargs: Any) -> TibertTask:
    """Load a preset or a run's champion with the class that it was saved with. A model is returned as it is."""
    if not isinstance(model, str | os.PathLike):
        return model
    preset = find_preset(model)

    # Keras is imported only for a path that holds a model.
    from tibert_keras.models.tibert_masked_lm import TibertMaskedLM
    from tibert_keras.models.tibert_text_classifier import TibertTextClassifier
    from tibert_keras.models.tibert_token_classifier import TibertTokenClassifier

    by_name = {f"tibert_keras>{each.__name__}": each for each in (TibertTokenClassifier, TibertTextClassifier)}
    with tibert_presets.local_preset(tibert_presets.check_preset(preset)) as folder:
        task = read_preset_file(folder, "task.json")
        if not task:
            raise InputError(
                "The preset is an encoder without a head, which can be fine-tuned but predicts nothing. "
                f"Received: {preset!r}. Give a masked language model or a classifier."
            )
        return by_name.get(task.get("registered_name", ""), TibertMaskedLM).from_preset(folder, **kwargs)
