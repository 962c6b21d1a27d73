"""The base of the token and text classifiers: labels, presets, and data in Python lists."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from tibert_keras.errors import InputError
from tibert_keras.models.tibert_backbone import TibertBackbone
from tibert_keras.models.tibert_classifier_preprocessor import check_labels
from tibert_keras.models.tibert_presets import backbone_presets, check_preset, foreign_preset, local_preset
from tibert_keras.models.tibert_task import TibertTask
from tibert_keras.storage import read_json
from tibert_keras.tibetan import has_tibetan


class TibertClassifier(TibertTask):
    """Precedes KerasHub's task class in the bases of the classifiers.

    Attributes:
        labels: The names of the classes, in the order of the logits.
    """

    labels: list[str]
    dropout: float

    @classmethod
    def from_preset(
        cls,
        preset: str | os.PathLike[str],
        load_weights: bool = True,
        *,
        labels: Sequence[str] | None = None,
        num_classes: int | None = None,
        **kwargs: Any,
    ) -> Any:
        """Make a classifier from an architecture's name or from any preset with an encoder, or load one.

        Args:
            preset: A name in `presets`, for an untrained model; or a folder written by `save_to_preset`, such as a
                run's champion, or a handle that KerasHub downloads.
            load_weights: Whether to load a folder's weights.
            labels: The names of the classes. A classifier's own preset needs none; given labels that differ from its
                own, or the preset of another task, the head is new.
            num_classes: The number of classes, in place of `labels`; these are then `"0"`, `"1"` and so on.
            **kwargs: Arguments of the constructor, and `dtype`. Without a `preprocessor`, one is made from the folder's
                tokenizer and sequence length. A name needs a `preprocessor` or `vocabulary_size`.

        Returns:
            The model.

        Raises:
            InputError: If there is no such preset, it is not a Tibert model's, or labels or a tokenizer are missing.
        """
        preset = check_preset(preset)
        if num_classes is not None:
            labels = labels_or_numbers(labels, num_classes)
        if preset in backbone_presets:
            return super().from_preset(preset, labels=_given(labels, preset), **kwargs)
        with local_preset(preset) as folder:
            task = _config_of(folder, "task.json")
            is_own = task.get("registered_name") == f"tibert_keras>{cls.__name__}"
            own = task["config"]["labels"] if is_own else None
            # A handle is known to be a classifier's own preset only once KerasHub has loaded it.
            if is_own or "://" in folder if labels is None else list(labels) == own:
                return super().from_preset(folder, load_weights=load_weights, **kwargs)
            labels = _given(labels, preset)
            dtype = {"dtype": kwargs.pop("dtype")} if "dtype" in kwargs else {}
            with foreign_preset(preset):
                backbone = TibertBackbone.from_preset(folder, load_weights=load_weights, **dtype)
                if "preprocessor" not in kwargs:
                    kwargs["preprocessor"] = cls._preprocessor_of(folder, labels, backbone.max_sequence_length)
            return cls(backbone, labels=labels, **kwargs)  # type: ignore[call-arg]

    @classmethod
    def _preprocessor_of(cls, folder: str, labels: Sequence[str], max_length: int) -> Any:
        # Positions beyond the training's sequence length are untrained.
        trained = _config_of(folder, "preprocessor.json").get("config", {}).get("sequence_length", 128)
        tokenizer = cls.preprocessor_cls.tokenizer_cls.from_preset(folder)
        return cls.preprocessor_cls(tokenizer, labels=labels, sequence_length=min(trained, max_length))

    # === Data ===
    def preprocess_samples(self, x: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """Preprocess a batch, unless it consists of ids."""
        if isinstance(x, Mapping):
            return keras.utils.pack_x_y_sample_weight(x, y, sample_weight)
        return super().preprocess_samples(x, y, sample_weight)  # type: ignore[misc]

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        sample_weight: Any = None,
        validation_data: Any = None,
        class_weight: Mapping[str | int, float] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Train, as `keras.Model.fit`.

        Args:
            x: The preprocessor's input: a list or an array, which is preprocessed once, or a `tf.data.Dataset` of
                batches with their labels. Or ids, as arrays.
            y: The labels, unless `x` is a dataset.
            batch_size: Examples per step, 32 by default.
            sample_weight: The weight of each example.
            validation_data: A tuple `(x, y)` or `(x, y, sample_weight)`, or a dataset.
            class_weight: The weights of labels other than 1 in training, by name or number. Needs a preprocessor.
            **kwargs: Other arguments of `keras.Model.fit`.

        Returns:
            The history.

        Raises:
            InputError: If labels and examples do not fit together, class weights come without a preprocessor, or
                lists or arrays of strings contain no Tibetan letter (see `check_tibetan`).
        """
        preprocessor = self.preprocessor
        if class_weight is not None:
            if preprocessor is None or not (isinstance(x, list | tuple | np.ndarray) or hasattr(x, "map")):
                raise InputError(
                    "Weights of classes are applied by the preprocessor, which these examples do not pass. "
                    f"Received: class_weight={dict(class_weight)}. Give a list or dataset of strings, or sample_weight."
                )
            config = {**preprocessor.get_config(), "class_weight": class_weight, "tokenizer": preprocessor.tokenizer}
            preprocessor = type(preprocessor)(**config)
            if hasattr(x, "map"):
                x = x.map(preprocessor)
        x, y, sample_weight = _at_once(preprocessor, x, y, sample_weight)
        if isinstance(validation_data, tuple | list):
            validation_data = _at_once(self.preprocessor, *validation_data)
        elif hasattr(validation_data, "map"):
            validation_data = validation_data.map(self.preprocess_samples)
        # Keras shuffles arrays; KerasHub would turn them into a dataset, which is not shuffled.
        fit: Any = partial(keras.Model.fit, self) if isinstance(x, Mapping) else super().fit  # type: ignore[misc]
        return fit(x, y, batch_size=batch_size, sample_weight=sample_weight, validation_data=validation_data, **kwargs)

    def evaluate(
        self, x: Any = None, y: Any = None, batch_size: int | None = None, sample_weight: Any = None, **kwargs: Any
    ) -> Any:
        """Compute loss and metrics, as `keras.Model.evaluate`, with the inputs and errors of `fit`."""
        x, y, sample_weight = _at_once(self.preprocessor, x, y, sample_weight)
        return super().evaluate(x, y, batch_size=batch_size, sample_weight=sample_weight, **kwargs)  # type: ignore[misc]

    def predict(self, x: Any, batch_size: int | None = None, **kwargs: Any) -> Any:
        """Return the logits, as `keras.Model.predict`, for the preprocessor's input or ids.

        Raises:
            InputError: If lists or arrays of strings contain no Tibetan letter.
        """
        x, _, _ = _at_once(self.preprocessor, x)
        return super().predict(x, batch_size=batch_size, **kwargs)  # type: ignore[misc]


def check_same_labels(labels: Sequence[str], preprocessor: Any) -> None:
    """Raise `InputError` if labels are missing or repeated, or differ from the preprocessor's."""
    check_labels(labels)
    if preprocessor is not None and list(labels) != getattr(preprocessor, "labels", None):
        raise InputError(
            "The model and its preprocessor must have the same labels. Received: "
            f"labels={list(labels)} and {getattr(preprocessor, 'labels', None)}. Make both of one list."
        )


def labels_or_numbers(labels: Sequence[str] | None, num_classes: int | None) -> list[str]:
    """Return the labels, or numbers in their place.

    Raises:
        InputError: If both are missing, or they disagree.
    """
    if labels is None:
        if num_classes is None or num_classes < 1:
            raise InputError(f"A classifier needs classes. Received: labels=None, num_classes={num_classes}. Give one.")
        return [str(number) for number in range(num_classes)]
    if num_classes not in (None, len(labels)):
        raise InputError(
            f"The number of classes is that of the labels. Received: {len(labels)} labels, num_classes={num_classes}. "
            "Leave num_classes out."
        )
    return list(labels)


def check_tibetan(texts: Any) -> None:
    """Raise `InputError` if there is text without any Tibetan letter.

    All texts of a call are checked together, as single ones may be Latin or just a shad. The inputs of preprocessors
    and `tf.data.Dataset`s are not checked, as a batch holds only a part.

    Args:
        texts: Strings in lists and tuples of any depth.
    """
    strings = [each for each in keras.tree.flatten(texts) if isinstance(each, str) and each.strip()]
    if strings and not any(map(has_tibetan, strings)):
        shown = " ".join(strings[:10])[:60]
        raise InputError(f"There is no Tibetan in the text. Received: {shown!r}. Give texts in Tibetan script.")


def _given(labels: Sequence[str] | None, preset: str) -> list[str]:
    if labels is None:
        raise InputError(
            "The preset is no classifier of this kind, and a new one needs the names of its classes. "
            f"Received: preset={preset!r}, labels=None. Pass labels, or give the champion of its fine-tuning."
        )
    return list(labels)


def _config_of(folder: str, name: str) -> dict[str, Any]:
    """Read a file of a preset; empty if the preset lacks it."""
    path = Path(folder) / name
    return read_json(path, what="a part of a preset", advice="Save it anew.") if path.is_file() else {}


def _at_once(preprocessor: Any, x: Any, y: Any = None, sample_weight: Any = None) -> tuple[Any, Any, Any]:
    """Preprocess lists and arrays once for all epochs, so that mistakes show before the first step."""
    if preprocessor is None or not isinstance(x, list | tuple | np.ndarray):
        return x, y, sample_weight
    x = x.tolist() if isinstance(x, np.ndarray) else x
    check_tibetan(x)
    outputs = preprocessor(x, y=y, sample_weight=sample_weight)
    x, y, sample_weight = (
        part if part is None else keras.tree.map_structure(ops.convert_to_numpy, part)
        for part in keras.utils.unpack_x_y_sample_weight(outputs)
    )
    return x, y, sample_weight
