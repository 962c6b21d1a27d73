"""The base of all tasks on the encoder: presets by name, and saving without the optimizer."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras

from tibert_keras.models.encoder_layer import quantized_policies
from tibert_keras.models.keras_hub_presets import preset_file, read_preset_file
from tibert_keras.models.model_parts import check_parts, vocabulary_size_for
from tibert_keras.models.text_inputs import TextInputs
from tibert_keras.models.tibert_backbone import TibertBackbone
from tibert_keras.models.tibert_presets import (
    backbone_presets,
    check_preset,
    list_preset_files,
    local_preset,
    weights_in_memory,
)
from tibert_keras.models.weight_files import name_encoder_twice, readable_weights

_LOG = logging.getLogger(__name__)


class TibertTask(TextInputs):
    """Precedes KerasHub's task class in the bases of ours."""

    backbone_cls: Any = TibertBackbone
    preprocessor_cls: Any = None
    presets = backbone_presets
    backbone: Any
    preprocessor: Any
    optimizer: Any

    @classmethod
    def from_preset(cls, preset: str | os.PathLike[str], load_weights: bool = True, **kwargs: Any) -> Any:
        """Make a model from an architecture's name, or load one.

        Args:
            preset: A name in `presets`, for an untrained model; or the folder of a preset, ours or KerasHub's of an
                ALBERT, or of transformers' ALBERT; or a handle such as `hf://...` of one.
            load_weights: Whether to load a folder's weights.
            **kwargs: Arguments of the constructor, and `dtype`. A name also needs `vocabulary_size`, or a
                `preprocessor` with a tokenizer.

        Returns:
            The model.

        Raises:
            InputError: If there is no such preset, or the vocabulary size is missing or not the tokenizer's.
        """
        preset = check_preset(preset)
        if preset not in backbone_presets:
            with local_preset(preset) as folder:
                if kwargs.get("dtype") is None and "backbone" not in kwargs:
                    kwargs["dtype"] = _dtype_of(folder)
                model = super().from_preset(folder, load_weights=load_weights, **kwargs)  # type: ignore[misc]
                # Its tokenizer had no vocabulary before.
                check_parts(model.backbone, model.preprocessor)
                if load_weights and not _has_head(folder, cls):
                    _LOG.warning("the head of the model is new and untrained: %s has none for %s", preset, cls.__name__)
                return model
        vocabulary_size = vocabulary_size_for(kwargs.pop("vocabulary_size", None), kwargs.get("preprocessor"))
        backbone = TibertBackbone.from_preset(preset, vocabulary_size=vocabulary_size, dtype=kwargs.pop("dtype", None))
        return cls(backbone, **kwargs)  # type: ignore[call-arg]

    def quantize(self, mode: Any = None, **kwargs: Any) -> None:
        """Quantize the model, as `keras.Model.quantize`; presets and files restore it as it is."""
        super().quantize(mode, **kwargs)  # type: ignore[misc]
        # The heads get the backbone's policies when the model is made again.
        self.backbone.dtype_policy = quantized_policies(self)

    # === Saving ===
    def save_to_preset(self, preset_dir: str | os.PathLike[str], max_shard_size: float | None = 10) -> None:
        """Save everything to a folder, with a list of its files by which `from_preset` knows that it is whole.

        Args:
            preset_dir: The folder.
            max_shard_size: The size of a file of weights, in GB, above which they are split.
        """
        super().save_to_preset(preset_dir, max_shard_size=max_shard_size)  # type: ignore[misc]
        list_preset_files(preset_dir)

    # With the optimizer, a preset would be three times the size and warn when loaded.
    @contextmanager
    def _without_optimizer(self) -> Iterator[None]:
        # A model that was never compiled has none.
        optimizer, self.optimizer = getattr(self, "optimizer", None), None
        try:
            yield
        finally:
            self.optimizer = optimizer

    def save_weights(self, filepath: str | os.PathLike[str], *args: Any, **kwargs: Any) -> None:
        """Save all weights, as `keras.Model.save_weights`. KerasHub's class of the same task loads the file too."""
        super().save_weights(filepath, *args, **kwargs)  # type: ignore[misc]
        if os.fspath(filepath).endswith(".weights.h5"):
            name_encoder_twice(filepath)

    def load_weights(self, filepath: str | os.PathLike[str], *args: Any, **kwargs: Any) -> None:
        """Load all weights, as `keras.Model.load_weights`, also from a file of KerasHub's class of the same task."""
        with readable_weights(filepath) as path:
            super().load_weights(path, *args, **kwargs)  # type: ignore[misc]

    def save_task_weights(self, filepath: str | os.PathLike[str]) -> None:
        """Save the weights of the head, to a path that ends in `.weights.h5`."""
        with self._without_optimizer(), weights_in_memory(filepath) as memory:
            super().save_task_weights(memory)  # type: ignore[misc]

    def load_task_weights(self, filepath: str | os.PathLike[str]) -> None:
        """Load the weights of the head, from a path that ends in `.weights.h5`."""
        with self._without_optimizer():
            super().load_task_weights(filepath)  # type: ignore[misc]

    def compile_from_config(self: Any, config: dict[str, Any]) -> None:
        """Compile as a saved model was; Keras only warns if a class overrides `compile`."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.optimizer is not None:
            self.optimizer.build(self.trainable_variables)


class PoolerNotTrained(TibertTask):
    """A task that neither uses nor trains the backbone's pooler.

    With a gradient of zero, an optimizer would decay it. It is saved and loaded with the rest, and stays trainable in
    the backbone for other tasks.
    """

    # Keras trains `trainable_weights` on TensorFlow and `trainable_variables` on JAX. There, the trainable and
    # non-trainable ones must be all variables together.
    variables: list[Any]
    weights: list[Any]

    @property
    def trainable_variables(self) -> list[Any]:
        """The variables that `fit()` trains."""
        return self._trained(super().trainable_variables)  # type: ignore[misc]

    @property
    def non_trainable_variables(self) -> list[Any]:
        """All other variables."""
        return _without(self.variables, self.trainable_variables)

    @property
    def trainable_weights(self) -> list[Any]:
        """The weights that `fit()` trains."""
        return self._trained(super().trainable_weights)  # type: ignore[misc]

    @property
    def non_trainable_weights(self) -> list[Any]:
        """All other weights."""
        return _without(self.weights, self.trainable_weights)

    def _trained(self, variables: list[Any]) -> list[Any]:
        return _without(variables, self.backbone.pooled_dense.variables)


def _without(variables: list[Any], excluded: list[Any]) -> list[Any]:
    ids = {id(variable) for variable in excluded}
    return [variable for variable in variables if id(variable) not in ids]


def _has_head(folder: str, cls: type) -> bool:
    """Return whether a preset has the head of a class, where KerasHub would make a new one without a word."""
    saved = keras.saving.get_registered_object(read_preset_file(folder, "task.json").get("registered_name", ""))
    return saved is not None and issubclass(saved, cls) and preset_file(folder, "task.weights.h5") is not None


def _dtype_of(folder: str) -> Any:
    """Return the policy to load a preset under: its own if it is quantized, else the current one.

    KerasHub does the same, but cannot read the name of a mixed policy.
    """
    saved = read_preset_file(folder, "config.json").get("config", {}).get("dtype") or {}
    return saved if saved.get("class_name") == "DTypePolicyMap" else keras.config.dtype_policy()
