"""The base of the token and text classifiers: labels, presets, and data in Python lists."""

import os
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any

import keras
from keras import ops

from tibert_keras.errors import InputError
from tibert_keras.models.keras_hub_presets import read_preset_file
from tibert_keras.models.model_parts import refuse_backbone
from tibert_keras.models.tibert_backbone import TibertBackbone
from tibert_keras.models.tibert_classifier_preprocessor import TibertClassifierPreprocessor, check_labels
from tibert_keras.models.tibert_presets import backbone_presets, check_preset, local_preset
from tibert_keras.models.tibert_task import TibertTask
from tibert_keras.models.training_data import as_lists, as_texts, holds_strings, is_dataset
from tibert_keras.tibetan import has_tibetan


class TibertClassifier(TibertTask):
    """Precedes KerasHub's task class in the bases of the classifiers.

    Attributes:
        labels: The names of the classes, in the order of the logits.
    """

    labels: list[str]
    dropout: float
    reads_words = False

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
            preset: As for `TibertMaskedLM.from_preset`: a name in `presets`, a folder or a handle.
            load_weights: Whether to load the weights.
            labels: The names of the classes. A classifier's own preset needs none; given labels that differ from its
                own, or the preset of another task, the head is new.
            num_classes: The number of classes, in place of `labels`; these are then `"0"`, `"1"` and so on.
            **kwargs: Arguments of the constructor, and `dtype`. Without a `preprocessor`, one is made from the preset's
                tokenizer and sequence length. An architecture needs a `preprocessor` or `vocabulary_size`.

        Returns:
            The model.

        Raises:
            InputError: If there is no such preset, it is not a Tibert model's, or labels or a tokenizer are missing.
        """
        preset = check_preset(preset)
        refuse_backbone(cls, kwargs)
        if num_classes is not None:
            labels = labels_or_numbers(labels, num_classes)
        if preset in backbone_presets:
            return super().from_preset(preset, labels=_given(labels, preset), **kwargs)
        with local_preset(preset) as folder:
            task = read_preset_file(folder, "task.json")
            saved: Any = keras.saving.get_registered_object(task.get("registered_name", ""))
            is_own = saved is not None and issubclass(cls, saved)
            own = task["config"]["labels"] if is_own else None
            # A handle is known to be a classifier's own preset only once KerasHub has loaded it.
            if is_own or "://" in folder if labels is None else list(labels) == own:
                if is_own and saved is not cls:
                    # KerasHub makes a subclass without the saved arguments.
                    kwargs = {"labels": own, **kwargs}
                return super().from_preset(folder, load_weights=load_weights, **kwargs)
            labels = _given(labels, preset)
            dtype = {"dtype": kwargs.pop("dtype")} if "dtype" in kwargs else {}
            backbone = TibertBackbone.from_preset(folder, load_weights=load_weights, **dtype)
            if "preprocessor" not in kwargs:
                # Its sequences are as long as the preset's: later positions are untrained.
                options = {"labels": labels, "class_weight": None}
                kwargs["preprocessor"] = cls.preprocessor_cls.from_preset(folder, **options)
            return cls(backbone, labels=labels, **kwargs)  # type: ignore[call-arg]

    # === Data ===
    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        sample_weight: Any = None,
        validation_data: Any = None,
        validation_split: float | None = None,
        class_weight: Mapping[str | int, float] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Train, as `TextInputs.fit`, with labels by name or number.

        A list or an array of strings is preprocessed once, and must contain a Tibetan letter (see `check_tibetan`). The
        preprocessor applies `class_weight`: the weights of labels other than 1 in training, by name or number.
        """
        if class_weight is not None:
            x, y, sample_weight, batch_size = self._weighted(x, y, sample_weight, batch_size, class_weight)
        return super().fit(x, y, batch_size, sample_weight, validation_data, validation_split, **kwargs)

    def _weighted(self, x: Any, y: Any, sample_weight: Any, batch_size: int | None, class_weight: Any) -> Any:
        own = self.preprocessor
        if own is None or not (holds_strings(x) or is_dataset(x)):
            raise InputError(
                "Weights of classes are applied by the preprocessor, which these examples do not pass. "
                f"Received: class_weight={dict(class_weight)}. Give a list or dataset of strings, or sample_weight."
            )
        self.preprocessor = own.changed(class_weight=class_weight)
        try:
            data = self._prepared(x, y, sample_weight, batch_size)
        finally:
            self.preprocessor = own
        return data["x"], data["y"], data["sample_weight"], data["batch_size"]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "labels": list(self.labels)}  # type: ignore[misc]

    def _prepared_texts(
        self, x: Any, y: Any, sample_weight: Any, batch_size: int | None, *, shuffle: bool, training: bool
    ) -> dict[str, Any]:
        # Once for all epochs: nothing is random, and mistakes show before the first step. Keras shuffles the arrays.
        x = as_texts(x, of_words=self.reads_words)
        if training and y is None:
            raise InputError("A classifier learns from labels. Received: y=None. Give one for each text.")
        if self.reads_words and y is not None and isinstance(x[0], str):
            raise InputError(
                f"With tags, a sentence is a list of words. Received: the text {x[0][:40]!r}. Cut texts into words."
            )
        if has_tibetan("".join(self.preprocessor.tokenizer.get_vocabulary())):
            check_tibetan(x)
        outputs = self.preprocessor(x, y=as_lists(y) if holds_strings(y) else y, sample_weight=sample_weight)
        x, y, sample_weight = (
            part if part is None else keras.tree.map_structure(ops.convert_to_numpy, part)
            for part in keras.utils.unpack_x_y_sample_weight(outputs)
        )
        return {"x": x, "y": y, "sample_weight": sample_weight, "batch_size": batch_size}


def with_labels(preprocessor: Any, labels: Sequence[str]) -> Any:
    """Return a preprocessor of a model's labels: itself, or a copy if it has none. Other labels are refused."""
    if not isinstance(preprocessor, TibertClassifierPreprocessor):
        return preprocessor
    if preprocessor.labels is None:
        return preprocessor.changed(labels=list(labels))
    if list(labels) != preprocessor.labels:
        raise InputError(
            "The model and its preprocessor must have the same labels. "
            f"Received: labels={list(labels)} and {preprocessor.labels}. Make both of one list."
        )
    return preprocessor


def labels_or_numbers(labels: Sequence[str] | None, num_classes: int | None) -> list[str]:
    """Return the labels, or numbers in their place."""
    if isinstance(num_classes, list | tuple):
        # Older code gives labels second.
        labels, num_classes = num_classes, None
    if labels is None:
        if not isinstance(num_classes, Integral) or num_classes < 1:
            raise InputError(
                f"A classifier needs classes. Received: labels=None, num_classes={num_classes!r}. Give one."
            )
        return [str(number) for number in range(num_classes)]
    if num_classes not in (None, len(labels)):
        raise InputError(
            f"The number of classes is that of the labels. Received: {len(labels)} labels, num_classes={num_classes}. "
            "Leave num_classes out."
        )
    return check_labels(labels)


def check_tibetan(texts: Any) -> None:
    """Refuse strings, in lists and tuples of any depth, without any Tibetan letter.

    All texts of a call are checked together, as single ones may be Latin or just a shad. The inputs of preprocessors
    and `tf.data.Dataset`s are not checked, as a batch holds only a part.
    """
    strings = [each for each in keras.tree.flatten(texts) if isinstance(each, str) and each.strip()]
    if strings and not any(map(has_tibetan, strings)):
        shown = " ".join(strings[:10])[:60]
        raise InputError(f"There is no Tibetan letter in the text. Received: {shown!r}. Give texts in Tibetan script.")


def _given(labels: Sequence[str] | None, preset: str) -> list[str]:
    if labels is None:
        raise InputError(
            "The preset is not a classifier of this kind, and a new one needs the names of its classes. "
            f"Received: preset={preset!r}, labels=None. Pass labels, or give the champion of its fine-tuning."
        )
    return list(labels)
