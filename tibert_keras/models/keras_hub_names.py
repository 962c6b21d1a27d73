"""Makes the names of our architectures known to KerasHub's own classes, which look for names in a list of their own."""

from __future__ import annotations

import functools
import os
from typing import Any

import keras_nlp
from keras_hub.src.utils.preset_utils import BUILTIN_PRESETS_FOR_BACKBONE, find_subclass

from tibert_keras.models.tibert_backbone import TibertBackbone
from tibert_keras.models.tibert_presets import backbone_presets


def _knowing_names(base: Any) -> Any:
    """Return the `from_preset` of a class of KerasHub's that passes our names on to our classes."""
    theirs = base.from_preset.__func__

    @functools.wraps(theirs)
    def from_preset(cls: Any, preset: str | os.PathLike[str], *args: Any, **kwargs: Any) -> Any:
        if preset not in backbone_presets:
            return theirs(cls, preset, *args, **kwargs)
        ours = TibertBackbone if issubclass(TibertBackbone, cls) else find_subclass(preset, cls, TibertBackbone)
        return ours.from_preset(preset, *args, **kwargs)

    return classmethod(from_preset)


# So that `.presets` of KerasHub's classes lists them.
BUILTIN_PRESETS_FOR_BACKBONE[TibertBackbone].update(backbone_presets)
keras_nlp.models.Backbone.from_preset = _knowing_names(keras_nlp.models.Backbone)
keras_nlp.models.Task.from_preset = _knowing_names(keras_nlp.models.Task)
