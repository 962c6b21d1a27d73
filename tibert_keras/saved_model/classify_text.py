"""A text classifier in a SavedModel: text to a label and probabilities."""

import tensorflow as tf

from tibert_keras.errors import InputError
from tibert_keras.models.tibert_text_classifier import TibertTextClassifier
from tibert_keras.saved_model.precision import Precision
from tibert_keras.saved_model.text_module import TEXT, TextModule


class ClassifyText(TextModule):
    """The signatures of the SavedModel of a classifier of texts or pairs of texts, also usable directly."""

    signature_names = ("classify", "classify", "tokenize")

    def __init__(self, model: TibertTextClassifier, *, precision: Precision = "float32") -> None:
        super().__init__(model, precision=precision)
        if (count := model.preprocessor.num_segments) > 2:
            raise InputError(
                "A SavedModel classifies texts or pairs of texts, and this model was trained on more side by side. "
                f"Received: num_segments={count}. Use the preset in Python."
            )
        if count == 2:
            self.signature_names = ("classify_pairs", "classify_pairs", "tokenize")
        self.labels = tf.constant(list(model.labels))
        self._truncate = model.preprocessor.truncate
        self._gives_probabilities = model.gives_probabilities

    @tf.function(input_signature=[TEXT])
    def classify(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        """Classify texts, strings `[batch]`, truncated as in training.

        Returns `label`, the likeliest label, string `[batch]`; and all `labels`, string, with their `probabilities`,
        float32, both `[batch, classes]`, in the order of the model's classes.
        """
        tokens = self._tokenize(text)[:, : self._max_length - 2]
        return self._classified(self._pack(tokens))

    @tf.function(input_signature=[TEXT, tf.TensorSpec([None], tf.string, name="second_text")])
    def classify_pairs(self, text: tf.Tensor, second_text: tf.Tensor) -> dict[str, tf.Tensor]:
        """Classify pairs of texts, strings `[batch]`, truncated as in training, with the outputs of `classify`."""
        first, second = self._tokenize(text), self._tokenize(second_text)
        # As in KerasHub's packer, both lose tokens in turns, or the second one first. The trimmers of TensorFlow Text
        # are ops of their own.
        room = self._max_length - 3
        half = tf.constant(room if self._truncate == "waterfall" else (room + 1) // 2, tf.int64)
        lengths = first.row_lengths(), second.row_lengths()
        kept = tf.minimum(lengths[0], tf.maximum(half, room - lengths[1]))
        first, second = _cut(first, kept), _cut(second, tf.minimum(lengths[1], room - kept))
        separator = tf.ones_like(kept)[:, tf.newaxis] * self._tokenizer.sep_token_id
        inputs = self._pack(tf.concat([first, tf.cast(separator, first.dtype), second], axis=1))
        in_second = tf.cast(
            tf.range(tf.shape(inputs["token_ids"])[1]) >= tf.cast(kept[:, tf.newaxis], tf.int32) + 2, tf.int32
        )
        return self._classified({**inputs, "segment_ids": in_second * inputs["padding_mask"]})

    def _classified(self, inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        outputs = self._logits(inputs)
        probabilities = outputs if self._gives_probabilities else tf.nn.softmax(outputs)
        likeliest = tf.math.top_k(probabilities, k=1).indices[:, 0]
        return {
            "label": tf.gather(self.labels, likeliest),
            "labels": tf.broadcast_to(self.labels, tf.shape(probabilities)),
            "probabilities": probabilities,
        }


def _cut(tokens: tf.RaggedTensor, lengths: tf.Tensor) -> tf.RaggedTensor:
    """Keep the first tokens of each row, as many as `lengths` says."""
    return tf.RaggedTensor.from_tensor(tokens.to_tensor(), lengths=lengths)
