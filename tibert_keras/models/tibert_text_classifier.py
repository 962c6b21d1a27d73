"""The text classifier."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import keras_nlp

from tibert_keras.errors import InputError
from tibert_keras.models.tibert_backbone import TibertBackbone
from tibert_keras.models.tibert_classifier import TibertClassifier, check_same_labels
from tibert_keras.models.tibert_text_classifier_preprocessor import TibertTextClassifierPreprocessor


@keras.saving.register_keras_serializable(package="tibert_keras")
class TibertTextClassifier(TibertClassifier, keras_nlp.models.AlbertTextClassifier):
    """An ALBERT encoder that tells the class of a text, from the pooled output of [CLS].

    KerasHub's `AlbertTextClassifier` with names for its classes. Inputs are integers of shape `[batch, sequence]`:
    `token_ids`, `segment_ids` and `padding_mask`. Outputs are logits, `[batch, num_classes]`. With a
    `TibertTextClassifierPreprocessor`, `fit()`, `evaluate()` and `predict()` take raw strings, with labels by name or
    number.

    Args:
        backbone: A `TibertBackbone`.
        labels: The names of the classes, in the order of the logits.
        num_classes: Their number, for classes without names; these are then `"0"`, `"1"` and so on.
        preprocessor: A `TibertTextClassifierPreprocessor` of the same labels, or None to take ids as they are.
        activation: The activation of the output: `"softmax"` for probabilities in place of logits.
        dropout: The rate of dropout before the last layer.
        **kwargs: Arguments of `keras_nlp.models.TextClassifier`, such as `name`.

    Raises:
        InputError: If there are neither labels nor their number, or the two or the preprocessor's labels disagree.

    Example:
    ```python
    classifier = TibertTextClassifier.from_preset("run/champion", labels=["prose", "verse"])
    classifier.fit(["བཀྲ་ཤིས་བདེ་ལེགས།", "ཆོས་ལ་བསྔགས་པ།"], ["prose", "verse"], epochs=3)
    classifier.predict(["ཆོས་ལ།"]).argmax(axis=-1)
    ```
    """

    preprocessor_cls = TibertTextClassifierPreprocessor

    def __init__(
        self,
        backbone: TibertBackbone,
        labels: Sequence[str] | None = None,
        num_classes: int | None = None,
        preprocessor: Any = None,
        activation: Any = None,
        dropout: float = 0.1,
        **kwargs: Any,
    ) -> None:
        labels = labels_or_numbers(labels, num_classes)
        check_same_labels(labels, preprocessor)
        super().__init__(
            backbone, len(labels), preprocessor=preprocessor, activation=activation, dropout=dropout, **kwargs
        )
        self.labels = labels

    @classmethod
    def from_preset(
        cls, preset: Any, load_weights: bool = True, *, num_classes: int | None = None, **kwargs: Any
    ) -> Any:
        """Make a classifier from an architecture's name or from any preset with an encoder, or load one.

        Args:
            preset: As for `TibertClassifier.from_preset`.
            load_weights: Whether to load a folder's weights.
            num_classes: The number of classes, in place of `labels`.
            **kwargs: `labels` and the others of `TibertClassifier.from_preset`.

        Returns:
            The model.

        Raises:
            InputError: As `TibertClassifier.from_preset`.
        """
        if num_classes is not None:
            kwargs["labels"] = labels_or_numbers(kwargs.get("labels"), num_classes)
        return super().from_preset(preset, load_weights, **kwargs)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "labels": list(self.labels)}


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
