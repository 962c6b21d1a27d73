"""The text classifier."""

from collections.abc import Sequence
from typing import Any, Self

import keras
import keras_nlp
import numpy as np
from keras import ops

from tibert_keras.models.model_parts import check_parts
from tibert_keras.models.tibert_backbone import TibertBackbone
from tibert_keras.models.tibert_classifier import TibertClassifier, labels_or_numbers, with_labels
from tibert_keras.models.tibert_text_classifier_preprocessor import TibertTextClassifierPreprocessor
from tibert_keras.models.training_data import is_empty


@keras.saving.register_keras_serializable(package="tibert_keras")
class TibertTextClassifier(TibertClassifier, keras_nlp.models.AlbertTextClassifier):
    """An ALBERT encoder that classifies texts, from the pooled output of [CLS].

    This is KerasHub's `AlbertTextClassifier` with named classes. Inputs are integers of shape `[batch, sequence]`:
    `token_ids`, `segment_ids` and `padding_mask`. Outputs are logits, `[batch, num_classes]`. With a
    `TibertTextClassifierPreprocessor`, `fit()`, `evaluate()` and `predict()` take raw strings, with labels by name or
    number.

    Args:
        backbone: A `TibertBackbone`.
        num_classes: The number of classes. Without `labels`, these are then `"0"`, `"1"` and so on.
        preprocessor: A `TibertTextClassifierPreprocessor` of the same labels, or None if inputs are ids. One without
            labels is replaced by a copy with the model's.
        activation: The activation of the output: `"softmax"` gives probabilities in place of logits.
        dropout: The dropout rate before the last layer.
        labels: The names of the classes, in the order of the logits, in place of `num_classes`.
        **kwargs: `name`, `trainable` and `compile`.

    Raises:
        InputError: If neither labels nor their number is given, or the two or the preprocessor's labels disagree.

    Example:
    ```python
    classifier = TibertTextClassifier.from_preset("run/champion", labels=["prose", "verse"])
    classifier.fit(["བཀྲ་ཤིས་བདེ་ལེགས།", "ཆོས་ལ་བསྔགས་པ།"], ["prose", "verse"], epochs=3)
    classifier.predict_labels(["ཆོས་ལ།"])
    ```
    """

    preprocessor_cls = TibertTextClassifierPreprocessor

    def __init__(
        self,
        backbone: TibertBackbone,
        num_classes: int | None = None,
        preprocessor: Any = None,
        activation: Any = None,
        dropout: float = 0.1,
        labels: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        labels = labels_or_numbers(labels, num_classes)
        preprocessor = with_labels(preprocessor, labels)
        backbone = check_parts(backbone, preprocessor, kwargs)
        super().__init__(
            backbone, len(labels), preprocessor=preprocessor, activation=activation, dropout=dropout, **kwargs
        )
        self.labels = labels

    @property
    def gives_probabilities(self) -> bool:
        """Whether the activation of the output makes probabilities of the logits."""
        return self.activation in (keras.activations.softmax, keras.activations.sigmoid)

    def predict_labels(self, texts: Sequence[str] | tuple[Sequence[str], ...], batch_size: int = 32) -> list[str]:
        """Classify texts.

        Args:
            texts: Texts, truncated as in training; or, for a classifier of pairs, a tuple of two lists.
            batch_size: Texts per step.

        Returns:
            The likeliest label of each text.

        Raises:
            InputError: If no text has a Tibetan letter, or there is no preprocessor.
        """
        return [self.labels[index] for index in self.predict_probabilities(texts, batch_size).argmax(axis=-1)]

    def predict_probabilities(
        self, texts: Sequence[str] | tuple[Sequence[str], ...], batch_size: int = 32
    ) -> np.ndarray:
        """Compute the probabilities of the labels of texts, float32 `[texts, labels]`, as `predict_labels` does."""
        if is_empty(texts):
            return np.zeros((0, len(self.labels)), "float32")
        return self.as_probabilities(self.predict(texts, batch_size=batch_size, verbose=0))

    def as_probabilities(self, outputs: Any) -> np.ndarray:
        """Turn the outputs of `predict()` into probabilities, float32 `[texts, labels]`."""
        if self.gives_probabilities:
            return np.asarray(outputs, "float32")
        return ops.convert_to_numpy(ops.softmax(ops.cast(outputs, "float32")))

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Make a model from the result of `get_config`. Another `num_classes` replaces the labels, as in KerasHub."""
        if config.get("labels") and config.get("num_classes") not in (None, len(config["labels"])):
            config = {**config, "labels": None}
            if isinstance(config.get("preprocessor"), dict):
                theirs = {**config["preprocessor"]["config"], "labels": None, "class_weight": None}
                config["preprocessor"] = {**config["preprocessor"], "config": theirs}
        return super().from_config(config)
