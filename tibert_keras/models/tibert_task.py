"""The base of all tasks on the encoder: presets by name, and saving without the optimizer."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras

from tibert_keras.errors import InputError
from tibert_keras.models.encoder_layer import merge_lora, quantized_policies, set_rematerialization
from tibert_keras.models.gradient_accumulation import accumulated_train_step
from tibert_keras.models.keras_hub_presets import preset_file, read_preset_file
from tibert_keras.models.model_parts import check_parts, refuse_backbone
from tibert_keras.models.text_inputs import TextInputs
from tibert_keras.models.tibert_backbone import TibertBackbone
from tibert_keras.models.tibert_presets import (
    backbone_presets,
    check_preset,
    list_preset_files,
    local_preset,
    policy_of,
    weights_in_memory,
)
from tibert_keras.models.weight_files import name_encoder_twice, readable_weights

_LOG = logging.getLogger(__name__)


class TibertTask(TextInputs):
    """Precedes KerasHub's task class in the bases of ours."""

    backbone_cls: Any = TibertBackbone
    preprocessor_cls: Any = None
    presets = TibertBackbone.presets
    backbone: Any
    preprocessor: Any
    optimizer: Any
    gradient_accumulation_steps = 1
    rematerialize = False

    @classmethod
    def from_preset(cls, preset: str | os.PathLike[str], load_weights: bool = True, **kwargs: Any) -> Any:
        """Load a model, or make an untrained one.

        Args:
            preset: A name in `presets`, of a model or of an architecture alone; the folder of a preset, ours or
                KerasHub's ALBERT, or of an ALBERT of transformers; or a handle of one, such as `hf://...`.
            load_weights: Whether to load the weights.
            **kwargs: Arguments of the constructor, and `dtype`. An architecture also needs `vocabulary_size`, or a
                `preprocessor` with a tokenizer.

        Returns:
            The model.

        Raises:
            InputError: If there is no such preset or argument, or the vocabulary size is missing or not the
                tokenizer's.
        """
        preset = check_preset(preset)
        refuse_backbone(cls, kwargs)
        if preset not in backbone_presets:
            with local_preset(preset) as folder:
                # KerasHub cannot read the name of a mixed policy in a preset.
                policy = policy_of(folder, kwargs.get("dtype"), load_weights=load_weights)
                kwargs["dtype"] = keras.config.dtype_policy() if policy is None else policy
                model = super().from_preset(folder, load_weights=load_weights, **kwargs)  # type: ignore[misc]
                # Its tokenizer had no vocabulary before.
                check_parts(model.backbone, model.preprocessor)
                if load_weights and not _has_head(model, folder):
                    _LOG.warning("the head of the model is new and untrained: %s has none for %s", preset, cls.__name__)
                return model
        vocabulary_size, preprocessor = kwargs.pop("vocabulary_size", None), kwargs.get("preprocessor")
        if vocabulary_size is None and preprocessor is not None:
            vocabulary_size = preprocessor.tokenizer.vocabulary_size()
        backbone = TibertBackbone.from_preset(preset, vocabulary_size=vocabulary_size, dtype=kwargs.pop("dtype", None))
        return cls(backbone, **kwargs)  # type: ignore[call-arg]

    def quantize(self, mode: Any = None, **kwargs: Any) -> None:
        """Quantize the model, as `keras.Model.quantize`; presets and files restore it as it is.

        Low-rank additions (LoRA) are quantized with their kernels. If they are trained afterwards, Keras rounds them in
        files to the kernels' precision.
        """
        merge_lora(self)
        # Keras refuses layers that are not built, as the preprocessor's are, which have no weights.
        super().quantize(mode, **{"filters": lambda layer: bool(layer.weights), **kwargs})  # type: ignore[misc]
        # The heads get the backbone's policies when the model is made again.
        self.backbone.dtype_policy = quantized_policies(self)

    # === Training ===
    def compile(
        self,
        optimizer: Any = "auto",
        loss: Any = "auto",
        *,
        weighted_metrics: Any = "auto",
        gradient_accumulation_steps: int = 1,
        rematerialize: bool = False,
        **kwargs: Any,
    ) -> None:
        """Configure the training.

        Args:
            optimizer: As in `keras.Model.compile`; `"auto"` for Adam at 5e-5.
            loss: As in `keras.Model.compile`; `"auto"` for the task's own, as its class describes.
            weighted_metrics: As in `keras.Model.compile`; `"auto"` for the accuracy, on labelled tokens.
            gradient_accumulation_steps: The number of micro-batches in which a training step computes the gradient of
                its batch, to save memory. But for dropout's draws, the step equals that of the whole batch, however
                weights are spread over the parts. A batch that is no multiple, as the last one of an epoch may be, is
                filled up with rows of weight 0; with losses of Keras's own it is refused. (The argument of this name of
                Keras's optimizers differs: it averages the gradients of whole batches.)
            rematerialize: Whether a training step computes each layer of the encoder again in the backward pass
                instead of keeping its activations. This is slower, needs memory that hardly grows with the depth, and
                changes no number, dropout's draws included.
            **kwargs: Other arguments of `keras.Model.compile`.

        Raises:
            InputError: If `gradient_accumulation_steps` is not positive.
        """
        if gradient_accumulation_steps < 1:
            raise InputError(
                "The number of parts of a batch must be positive. "
                f"Received: gradient_accumulation_steps={gradient_accumulation_steps}."
            )
        own_loss, own_metrics = self._loss_and_metrics()
        if optimizer == "auto":
            optimizer = keras.optimizers.Adam(5e-5)
        if loss == "auto":
            loss = own_loss
        if weighted_metrics == "auto":
            weighted_metrics = own_metrics
        self.gradient_accumulation_steps, self.rematerialize = gradient_accumulation_steps, rematerialize
        for group in self.backbone.transformer_layers:
            for layer in group:
                set_rematerialization(layer, rematerialize)
        super().compile(optimizer=optimizer, loss=loss, weighted_metrics=weighted_metrics, **kwargs)  # type: ignore[misc]

    def _loss_and_metrics(self) -> tuple[Any, Any]:
        """Return the loss and metrics that `"auto"` stands for; by default those of KerasHub's class of the task."""
        return "auto", None

    def get_compile_config(self) -> dict[str, Any]:
        # Only if they are not the usual ones: `keras.models.clone_model` makes a model that does not know them.
        names = ("gradient_accumulation_steps", "rematerialize")
        ours = {name: getattr(self, name) for name in names if getattr(self, name) != getattr(type(self), name)}
        return {**super().get_compile_config(), **ours}  # type: ignore[misc]

    def train_step(self, *args: Any) -> Any:
        """Take a training step, from the data (TensorFlow) or the state and the data (JAX)."""
        if self.gradient_accumulation_steps == 1:
            return super().train_step(*args)  # type: ignore[misc]
        return accumulated_train_step(self, *args, steps=self.gradient_accumulation_steps)

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
        return self._trained(super().trainable_variables)  # type: ignore[misc]

    @property
    def non_trainable_variables(self) -> list[Any]:
        return _without(self.variables, self.trainable_variables)

    @property
    def trainable_weights(self) -> list[Any]:
        return self._trained(super().trainable_weights)  # type: ignore[misc]

    @property
    def non_trainable_weights(self) -> list[Any]:
        return _without(self.weights, self.trainable_weights)

    def _trained(self, variables: list[Any]) -> list[Any]:
        return _without(variables, self.backbone.pooled_dense.variables)


def _without(variables: list[Any], excluded: list[Any]) -> list[Any]:
    ids = {id(variable) for variable in excluded}
    return [variable for variable in variables if id(variable) not in ids]


def _has_head(model: Any, folder: str) -> bool:
    """Return whether a model has the head of its preset, where KerasHub makes a new one without a word.

    It does so for a subclass of the preset's class, too, which gets the head here.
    """
    saved = keras.saving.get_registered_object(read_preset_file(folder, "task.json").get("registered_name", ""))
    weights = preset_file(folder, "task.weights.h5")
    if saved is None or weights is None or not isinstance(model, saved):
        return False
    if type(model) is not saved:
        try:
            model.load_task_weights(weights)
        except ValueError:
            # Its layers are others.
            return False
    return True
