"""The base of the classifiers' preprocessors: labels, and the weights of classes."""

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any, Self

import numpy as np

from tibert_keras.errors import InputError
from tibert_keras.models.tibert_preprocessor import TibertPreprocessor


class TibertClassifierPreprocessor(TibertPreprocessor):
    """Precedes KerasHub's preprocessor in the bases of the classifiers' preprocessors.

    Attributes:
        labels: The names of the classes, in the order of the classifier's logits; `None` if classes are numbers.
        class_weight: The weights of labels other than 1, by label; or None.
        label_weights: The weight of each label, float32 `[labels]`.
    """

    def __init__(
        self, *args: Any, labels: Sequence[str] | None, class_weight: Mapping[str | int, float] | None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        if labels is None and class_weight:
            raise InputError(
                f"Weights are for labels. Received: class_weight={dict(class_weight)}, labels=None. Give labels too."
            )
        self.labels = None if labels is None else check_labels(labels)
        self.class_weight = self._by_label(class_weight)
        self.label_weights = np.array(
            [(self.class_weight or {}).get(label, 1) for label in self.labels or ()], "float32"
        )

    def label_ids(self, given: Sequence[str]) -> np.ndarray:
        """Return the number of each given label, int32."""
        if self.labels is None:
            raise InputError(
                f"Classes without names are numbers. Received: {given[0]!r}. Give numbers, or make labels."
            )
        ids = {label: number for number, label in enumerate(self.labels)}
        for unknown in (label for label in given if label not in ids):
            raise InputError(
                f"The classifier has no such label. Received: {unknown!r:.80}. Give one of {', '.join(self.labels)}."
            )
        return np.array([ids[label] for label in given], "int32")

    def _by_label(self, class_weight: Mapping[str | int, float] | None) -> dict[str, float] | None:
        """Turn weights by label or, as in Keras, by number into weights by label, which go into a file."""
        if not class_weight:
            return None
        labels = self.labels or []
        weights = {
            labels[label] if isinstance(label, Integral) and 0 <= label < len(labels) else str(label): float(weight)
            for label, weight in class_weight.items()
        }
        self.label_ids(list(weights))
        # `not >=` rejects NaN too.
        if wrong := {label: weight for label, weight in weights.items() if not weight >= 0}:
            raise InputError(f"A weight must not be negative. Received: class_weight={wrong}. Give 0 or more.")
        return weights

    def changed(self, **changes: Any) -> Self:
        """Return a preprocessor with some other arguments and the same tokenizer."""
        return type(self)(**{**self.get_config(), "tokenizer": self.tokenizer, **changes})

    def get_config(self) -> dict[str, Any]:
        labels = None if self.labels is None else list(self.labels)
        own = {"labels": labels, "class_weight": self.class_weight and dict(self.class_weight)}
        return {**super().get_config(), **own}  # type: ignore[misc]


def check_labels(labels: Sequence[str]) -> list[str]:
    """Return the labels of a classifier as a list; there must be one or more, and all different."""
    if isinstance(labels, str):
        raise InputError(f"Labels are a list of names. Received: {labels=}. Give a list.")
    labels = [str(label) for label in labels]
    if not labels or len(set(labels)) < len(labels):
        raise InputError(f"Labels must be one or more, and all different. Received: labels={labels}. List each once.")
    return labels
