"""Turns raw strings and their labels into batches for `TibertTextClassifier`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import keras_nlp
import numpy as np

from tibert_keras.errors import InputError
from tibert_keras.models.tibert_classifier_preprocessor import TibertClassifierPreprocessor, is_tensorflow
from tibert_keras.models.tibert_tokenizer import TibertTokenizer


@keras.saving.register_keras_serializable(package="tibert_keras")
class TibertTextClassifierPreprocessor(TibertClassifierPreprocessor, keras_nlp.models.TextClassifierPreprocessor):
    """Tokenizes and packs text for `TibertTextClassifier`, and turns labels into integers.

    This is KerasHub's `TextClassifierPreprocessor` with named labels. Texts longer than the sequence are truncated.

    Args:
        tokenizer: A `TibertTokenizer`.
        labels: list of str. The names of the classes, in their order.
        sequence_length: int. Length of every sequence, [CLS], [SEP] and padding included.
        truncate: str. How two segments share the length: `"round_robin"` or `"waterfall"`.
        class_weight: dict or `None`. The weights of labels other than 1, by label; they count in evaluation too.
        num_segments: int. How many texts the model is trained to read side by side; recorded for export.

    Call arguments:
        x: A text, a list of texts, or a tuple of lists of segments.
        y: The label of each text, by name or by number; or `None`.
        sample_weight: The weight of each text, or `None`.

    Returns:
        `x`, `(x, y)` or `(x, y, sample_weight)`: `x` has `token_ids`, `padding_mask` and `segment_ids` of shape
        `[batch, sequence_length]`; `y` holds the numbers of the labels.

    Raises:
        InputError: If there are more or fewer labels than texts, or a label is unknown.

    Example:
    ```python
    preprocessor = tibert_keras.TibertTextClassifierPreprocessor(
        tibert_keras.TibertTokenizer("spiece.model"), labels=["prose", "verse"]
    )
    x, y = preprocessor(["བཀྲ་ཤིས་བདེ་ལེགས།", "ཆོས་ལ་བསྔགས་པ།"], y=["prose", "verse"])
    ```
    """

    def __init__(
        self,
        tokenizer: TibertTokenizer,
        labels: Sequence[str],
        sequence_length: int = 128,
        truncate: str = "round_robin",
        class_weight: Mapping[str | int, float] | None = None,
        num_segments: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            tokenizer,
            labels=labels,
            class_weight=class_weight,
            sequence_length=sequence_length,
            truncate=truncate,
            **kwargs,
        )
        self.num_segments = num_segments

    def call(self, x: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """Preprocess a batch, in Python or in a graph."""
        if y is None:
            return super().call(x, y, sample_weight)
        if is_tensorflow(y):
            y, weights = self._number_in_graph(y)
        else:
            y, weights = self._number(np.asarray(y))
            first = x[0] if isinstance(x, tuple) else x
            if y.ndim and not isinstance(first, str) and len(first) != len(y):
                raise InputError(f"Each text needs a label. Received: {len(first)} texts and {len(y)} labels.")
        if self.class_weight:
            sample_weight = weights if sample_weight is None else weights * sample_weight
        return super().call(x, y, sample_weight)

    def _number(self, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the numbers of labels, int32, and their weights, float32, of any shape."""
        if np.issubdtype(y.dtype, np.integer):
            if wrong := y[(y < 0) | (y >= len(self.labels))].tolist():
                raise InputError(
                    f"The classifier has no such class. Received: {wrong[0]}. "
                    f"Give a number below {len(self.labels)}, or a label."
                )
            ids = y.astype("int32")
        else:
            names = [label.decode() if isinstance(label, bytes) else str(label) for label in y.ravel()]
            ids = self.label_ids(names).reshape(y.shape)
        return ids, self.label_weights[ids]

    def _number_in_graph(self, y: Any) -> tuple[Any, Any]:
        import tensorflow as tf

        return tuple(
            tf.ensure_shape(output, y.shape) for output in tf.numpy_function(self._number, [y], [tf.int32, tf.float32])
        )

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "num_segments": self.num_segments}
