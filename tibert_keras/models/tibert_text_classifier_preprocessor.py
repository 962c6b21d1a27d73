"""Turns raw strings and their labels into batches for `TibertTextClassifier`."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import keras_nlp
import numpy as np

from tibert_keras.errors import InputError
from tibert_keras.lazy import tf
from tibert_keras.models.data_checks import as_weights
from tibert_keras.models.tibert_classifier_preprocessor import TibertClassifierPreprocessor
from tibert_keras.models.tibert_preprocessor import check_packing, integer_mask, is_tensorflow
from tibert_keras.models.tibert_tokenizer import TibertTokenizer, as_tibert_tokenizer


@keras.saving.register_keras_serializable(package="tibert_keras")
class TibertTextClassifierPreprocessor(TibertClassifierPreprocessor, keras_nlp.models.AlbertTextClassifierPreprocessor):
    """Tokenizes and packs text for `TibertTextClassifier`, and turns labels into integers.

    This is KerasHub's `AlbertTextClassifierPreprocessor` with named labels. Texts longer than the sequence are
    truncated.

    Args:
        tokenizer: A `TibertTokenizer`; an `AlbertTokenizer` is replaced by one with the same vocabulary.
        sequence_length: int. Length of every sequence, [CLS], [SEP] and padding included.
        truncate: str. How two segments share the length: `"round_robin"` or `"waterfall"`.
        labels: list of str or `None`. The names of the classes, in their order. Without names, `y` holds their numbers.
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
        sequence_length: int = 128,
        truncate: str = "round_robin",
        labels: Sequence[str] | None = None,
        class_weight: Mapping[str | int, float] | None = None,
        num_segments: int = 1,
        **kwargs: Any,
    ) -> None:
        check_packing(sequence_length, truncate)
        if num_segments < 1:
            raise InputError(f"A model reads a text or more. Received: num_segments={num_segments}. Give 1 or more.")
        super().__init__(
            as_tibert_tokenizer(tokenizer),
            labels=labels,
            class_weight=class_weight,
            sequence_length=sequence_length,
            truncate=truncate,
            **kwargs,
        )
        self.num_segments = num_segments

    def call(self, x: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """Preprocess a batch, in Python or in a graph."""
        outputs = integer_mask(super().call(x, *self._labels(x, y, sample_weight)))
        features, *others = outputs if isinstance(outputs, tuple) else (outputs,)
        features = {**features, "token_ids": self.without_masks(features["token_ids"])}
        return (features, *others) if others else features

    def _labels(self, x: Any, y: Any, sample_weight: Any) -> tuple[Any, Any]:
        if y is None:
            return y, sample_weight
        if is_tensorflow(y):
            y, weights = self._number_in_graph(y)
        else:
            first = x[0] if isinstance(x, tuple) else x
            unbatched = np.ndim(first) == 0
            y, weights = self._number(np.asarray(y) if unbatched else np.atleast_1d(y))
            if not unbatched and len(first) != len(y):
                raise InputError(f"Each text needs a label. Received: {len(first)} texts and {len(y)} labels.")
        if sample_weight is not None and not is_tensorflow(sample_weight):
            sample_weight = as_weights(sample_weight)
            if sample_weight.shape[:1] != y.shape[:1]:
                raise InputError(
                    f"Each text needs a weight. Received: weights {sample_weight.shape}, labels {y.shape}."
                )
        if self.class_weight:
            sample_weight = weights if sample_weight is None else weights * sample_weight
        return y, sample_weight

    def _number(self, y: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the numbers of labels, int32, and their weights, float32, of any shape."""
        if y.dtype.kind in "bf" and (y == y.astype(int)).all():
            y = y.astype(int)
        if not np.issubdtype(y.dtype, np.integer):
            names = [label.decode() if isinstance(label, bytes) else str(label) for label in y.ravel()]
            y = self.label_ids(names).reshape(y.shape)
        if self.labels is None:
            return y, None
        if wrong := y[(y < 0) | (y >= len(self.labels))].tolist():
            raise InputError(
                f"The classifier has no such class. Received: {wrong[0]}. "
                f"Give a number below {len(self.labels)}, or a label."
            )
        ids = y.astype("int32")
        return ids, self.label_weights[ids]

    def _number_in_graph(self, y: Any) -> tuple[Any, Any]:
        """Do the same as `_number` in operations that a SavedModel can hold."""
        if self.labels is None:
            if y.dtype == tf.string:
                self.label_ids(["a string"])
            return y, None
        if y.dtype == tf.string:
            matches = y[..., tf.newaxis] == tf.constant(self.labels)
            ids, known = tf.argmax(matches, axis=-1, output_type=tf.int32), tf.reduce_any(matches, axis=-1)
        else:
            ids = tf.cast(y, tf.int32)
            known = (ids >= 0) & (ids < len(self.labels))
        message = "The classifier has no such label. Received:"
        parts = [message, tf.boolean_mask(y, ~known)[:1], f"Give one of {', '.join(self.labels)}."]
        with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(known), parts)]):
            return tf.identity(ids), tf.gather(tf.constant(self.label_weights), ids)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "num_segments": self.num_segments}
