"""The base of all tasks on the encoder: presets by name, and saving without the optimizer."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras

from tibert_keras.errors import InputError
from tibert_keras.models.tibert_backbone import TibertBackbone
from tibert_keras.models.tibert_presets import (
    backbone_presets,
    check_preset,
    list_preset_files,
    local_preset,
    weights_in_memory,
)
from tibert_keras.models.vocabulary import check_vocabulary


class TibertTask:
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
            preset: A name in `presets`, for an untrained model; or a folder written by `save_to_preset`, or a handle
                that KerasHub downloads.
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
                model = super().from_preset(folder, load_weights=load_weights, **kwargs)  # type: ignore[misc]
                _check_preprocessor(model)
                return model
        vocabulary_size = _vocabulary_size(kwargs.pop("vocabulary_size", None), kwargs.get("preprocessor"))
        backbone = TibertBackbone.from_preset(preset, vocabulary_size=vocabulary_size, dtype=kwargs.pop("dtype", None))
        return cls(backbone, **kwargs)  # type: ignore[call-arg]

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


def _check_preprocessor(model: Any) -> None:
    """Check that a preset's preprocessor gives ids that its model knows, and no longer sequences than it takes."""
    if model.preprocessor is None:
        return
    pieces, length = model.preprocessor.tokenizer.vocabulary_size(), model.preprocessor.sequence_length
    if pieces > model.backbone.vocabulary_size or length > model.backbone.max_sequence_length:
        raise InputError(
            "The preset's tokenizer or preprocessor is of another model. Received: "
            f"{pieces} pieces and sequence_length={length}, vocabulary_size={model.backbone.vocabulary_size} and "
            f"max_sequence_length={model.backbone.max_sequence_length} in the model. Take its own."
        )


def _vocabulary_size(given: int | None, preprocessor: Any) -> int | None:
    """Return the vocabulary size, by default that of the tokenizer if there is one."""
    if preprocessor is None:
        return given
    size = preprocessor.tokenizer.vocabulary_size()
    if given is None:
        return size
    check_vocabulary(given, size)
    return given
