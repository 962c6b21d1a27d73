"""The text classifier."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import keras_nlp

from tibert_keras.models.tibert_backbone import TibertBackbone
from tibert_keras.models.tibert_classifier import TibertClassifier, check_same_labels, labels_or_numbers
from tibert_keras.models.tibert_text_classifier_preprocessor import TibertTextClassifierPreprocessor


@keras.saving.register_keras_serializable(package="tibert_keras")
class TibertTextClassifier(TibertClassifier, keras_nlp.models.AlbertTextClassifier):
    """An ALBERT encoder that classifies texts, from the pooled output of [CLS].

    This is KerasHub's `AlbertTextClassifier` with named classes. Inputs are integers of shape `[batch, sequence]`:
    `token_ids`, `segment_ids` and `padding_mask`. Outputs are logits, `[batch, num_classes]`. With a
    `TibertTextClassifierPreprocessor`, `fit()`, `evaluate()` and `predict()` take raw strings, with labels by name or
    number.

    Args:
        backbone: A `TibertBackbone`.
        labels: The names of the classes, in the order of the logits.
        num_classes: The number of classes, in place of `labels`; these are then `"0"`, `"1"` and so on.
        preprocessor: A `TibertTextClassifierPreprocessor` of the same labels, or None if inputs are ids.
        activation: The activation of the output: `"softmax"` gives probabilities in place of logits.
        dropout: The dropout rate before the last layer.
        **kwargs: Arguments of `keras_nlp.models.TextClassifier`, such as `name`.

    Raises:
        InputError: If neither labels nor their number is given, or the two or the preprocessor's labels disagree.

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

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "labels": list(self.labels)}
