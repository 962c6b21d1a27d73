"""Tells KerasHub's own classes of our presets: their names, and whether a folder is whole."""

import functools
import os
from typing import Any

from keras_hub.src.utils.preset_utils import BUILTIN_PRESETS_FOR_BACKBONE, find_subclass
from keras_nlp import models as _models

from tibert_keras.models.keras_hub_presets import read_preset_file
from tibert_keras.models.tibert_backbone import TibertBackbone
from tibert_keras.models.tibert_presets import backbone_presets, check_files, find_by_name


def _knowing_ours(base: Any) -> Any:
    """Return the `from_preset` of a class of KerasHub's that passes our names on to our classes, and checks folders."""
    theirs = base.from_preset.__func__

    @functools.wraps(theirs)
    def from_preset(cls: Any, preset: str | os.PathLike[str], *args: Any, **kwargs: Any) -> Any:
        if preset in backbone_presets and issubclass(base, (_models.Backbone, _models.Task)):
            ours = TibertBackbone if issubclass(TibertBackbone, cls) else find_subclass(preset, cls, TibertBackbone)
            return ours.from_preset(preset, *args, **kwargs)
        preset = find_by_name(preset)
        # Our classes have checked it already.
        if not cls.__module__.startswith("tibert_keras.") and os.path.isdir(preset):
            config = read_preset_file(preset, "config.json")
            if config.get("registered_name", "").startswith("tibert_keras>"):
                check_files(preset)
        return theirs(cls, preset, *args, **kwargs)

    return classmethod(from_preset)


# So that `.presets` of KerasHub's classes lists them.
BUILTIN_PRESETS_FOR_BACKBONE[TibertBackbone].update(TibertBackbone.presets)
for _base in (_models.Backbone, _models.Task, _models.Preprocessor, _models.Tokenizer):
    _base.from_preset = _knowing_ours(_base)
