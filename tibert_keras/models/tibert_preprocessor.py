"""The base of all preprocessors: how they load from presets, and their common checks and outputs."""

import inspect
import os
import sys
from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any

import keras
import numpy as np

from tibert_keras.errors import InputError, check_arguments
from tibert_keras.lazy import tf
from tibert_keras.models.keras_hub_presets import trained_length
from tibert_keras.models.tibert_backbone import TibertBackbone
from tibert_keras.models.tibert_presets import check_preset, local_preset
from tibert_keras.models.tibert_tokenizer import TibertTokenizer, in_dataset

_ARGUMENTS_OF_LAYERS = ("name", "dtype", "trainable", "config_file")


class TibertPreprocessor:
    """Precedes KerasHub's preprocessor in the bases of ours."""

    backbone_cls = TibertBackbone
    tokenizer_cls = TibertTokenizer
    tokenizer: TibertTokenizer
    _is_in_graph = False

    @classmethod
    def from_preset(cls, preset: str | os.PathLike[str], **kwargs: Any) -> Any:
        """Load the preprocessor of a preset, or make one with its tokenizer.

        Args:
            preset: A name, a folder or a handle, as for the `from_preset` of a task.
            **kwargs: Arguments of the constructor, in place of the preset's.

        Returns:
            The preprocessor. Its sequences are as long as those that the preset's model was trained on.

        Raises:
            InputError: If there is no such preset or argument, or the preset has no tokenizer.
        """
        preset = check_preset(preset, trained=True)
        allowed = {*inspect.signature(cls).parameters, *_ARGUMENTS_OF_LAYERS}
        check_arguments(f"{cls.__name__}.from_preset", kwargs, allowed)
        with local_preset(preset) as folder:
            return super().from_preset(folder, **kwargs)  # type: ignore[misc]

    @classmethod
    def _add_missing_kwargs(cls, loader: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        """Take the sequence length from a preset of another task. KerasHub calls this if a preset lacks this class."""
        kwargs = super()._add_missing_kwargs(loader, kwargs)  # type: ignore[misc]
        length = trained_length(loader.preset)
        return {"sequence_length": length, **kwargs} if length else kwargs

    def without_masks(self, token_ids: Any) -> Any:
        """Return ids, in an array or a tensor, in which a `[MASK]` of the text is unknown text.

        A text has masks only where a masked language model is to fill them. In training and for classifiers, as in
        KerasHub, these letters are text.
        """
        is_mask = token_ids == self.tokenizer.mask_token_id
        return _where(token_ids)(is_mask, self.tokenizer.unk_token_id, token_ids)

    def run_in_python(self, function: Callable[..., Any], inputs: Sequence[Any], dtypes: Sequence[Any]) -> Any:
        """Call a function of arrays in a graph, as `tf.numpy_function`."""
        # Outside of `tf.data`, the graph may be that of a SavedModel.
        self._is_in_graph = self._is_in_graph or not in_dataset()
        return tf.numpy_function(function, inputs, dtypes)

    def _trackable_children(self, save_type: str = "checkpoint", **kwargs: Any) -> Any:
        """Refuse to be saved with a graph that runs Python: only this process could run it."""
        if save_type == "savedmodel" and self._is_in_graph:
            raise InputError(
                "A SavedModel cannot hold this preprocessor, which works in Python. "
                f"Received: {type(self).__name__}. Export with `tibert export`, or export a model of ids."
            )
        return super()._trackable_children(save_type, **kwargs)  # type: ignore[misc]


def check_packing(sequence_length: Any, truncate: str = "round_robin") -> None:
    """Refuse sequences without room for a token, and unknown ways to truncate, when a preprocessor is made."""
    if not isinstance(sequence_length, Integral) or sequence_length < 3:
        raise InputError(f"A sequence needs room for a token. Received: sequence_length={sequence_length!r}.")
    if truncate not in ("round_robin", "waterfall"):
        raise InputError(f"Texts share a sequence in two ways. Received: {truncate=}. Give round_robin or waterfall.")


def integer_mask(outputs: Any) -> Any:
    """Return the outputs of a preprocessor with a padding mask of int32: `MirroredStrategy` sums no booleans."""
    features, *others = outputs if isinstance(outputs, tuple) else (outputs,)
    mask = features["padding_mask"]
    features = {**features, "padding_mask": _where(mask)(mask, np.int32(1), np.int32(0))}
    return (features, *others) if others else features


def _where(values: Any) -> Callable[..., Any]:
    """Return the `where` of NumPy, TensorFlow or Keras, whichever the values are of."""
    if isinstance(values, np.ndarray):
        return np.where
    return tf.where if is_tensorflow(values) else keras.ops.where


def is_tensorflow(values: Any) -> bool:
    """Return whether values are a TensorFlow tensor, without importing TensorFlow."""
    return type(values).__module__.startswith("tensorflow")


def in_graph() -> bool:
    """Return whether TensorFlow traces a function now, such as that of a `tf.data` pipeline."""
    if (tensorflow := sys.modules.get("tensorflow")) is None:
        return False
    return not tensorflow.executing_eagerly()
