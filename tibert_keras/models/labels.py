"""The labels of a classifier, and what they weigh."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tibert_keras.errors import InputError


def check_labels(labels: Sequence[str]) -> list[str]:
    """Return the labels of a classifier as a list.

    Raises:
        InputError: If there are none, or one stands there twice.
    """
    labels = [str(label) for label in labels]
    if not labels or len(set(labels)) < len(labels):
        raise InputError(f"Labels must be one or more, and all different. Received: labels={labels}. List each once.")
    return labels


def label_ids(given: Sequence[str], labels: Sequence[str]) -> np.ndarray:
    """Return the number of each label, int32.

    Raises:
        InputError: If one is not among the classifier's.
    """
    numbers = {label: number for number, label in enumerate(labels)}
    if unknown := next((label for label in given if label not in numbers), None):
        raise InputError(f"The classifier has no such label. Received: {unknown!r}. Give one of {', '.join(labels)}.")
    return np.array([numbers[label] for label in given], "int32")


def named_weights(class_weight: Mapping[str | int, float] | None, labels: Sequence[str]) -> dict[str, float] | None:
    """Return what labels weigh by name, as it goes into a file, or `None` if none is given.

    Args:
        class_weight: Weights by label or, as in Keras, by number.
        labels: The labels.

    Raises:
        InputError: If there is no such label, or a weight is negative.
    """
    if not class_weight:
        return None
    named = {
        labels[label] if isinstance(label, int) and 0 <= label < len(labels) else str(label): float(weight)
        for label, weight in class_weight.items()
    }
    label_ids(list(named), labels)
    # An order that no NaN passes.
    if wrong := {label: weight for label, weight in named.items() if not weight >= 0}:
        raise InputError(f"A weight must not be negative. Received: class_weight={wrong}. Give 0 or more.")
    return named
