"""A masked language model in a SavedModel: text with masks to pieces and probabilities."""

import tensorflow as tf

from tibert_keras.errors import InputError
from tibert_keras.models.tibert_masked_lm import TibertMaskedLM
from tibert_keras.models.tibert_task import TibertTask
from tibert_keras.saved_model.precision import Precision
from tibert_keras.saved_model.text_module import TEXT, TextModule


class FillMask(TextModule):
    """The signatures of a masked language model's SavedModel, also usable directly.

    They use only ops of TensorFlow and TensorFlow Text, so a process without Keras can load and run them. `fill_mask`
    returns `top_k` pieces for each mask.
    """

    signature_names = ("fill_mask", "encode", "masked_lm", "tokenize")
    masks_in_text = True

    def __init__(self, model: TibertTask, *, top_k: int = 5, precision: Precision = "float32") -> None:
        super().__init__(model, precision=precision)
        if not isinstance(model, TibertMaskedLM):
            raise InputError(
                "Masks are filled by a masked language model. "
                f"Received: {type(model).__name__}. Give a preset that `tibert champion` wrote."
            )
        if top_k < 1:
            raise InputError(f"top_k must be at least 1. Received: top_k={top_k}.")
        self._top_k = min(top_k, self._tokenizer.vocabulary_size())
        self.pieces = tf.constant(self._tokenizer.get_vocabulary())

    def _logits(self, inputs: dict[str, tf.Tensor]) -> tf.Tensor:
        # The table of embeddings may have more rows than the tokenizer has pieces.
        return super()._logits(inputs)[..., : self._tokenizer.vocabulary_size()]

    @tf.function(input_signature=[TEXT])
    def fill_mask(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        """Predict the piece at each `[MASK]` of texts, strings `[batch]`.

        Returns `pieces` (string) and `probabilities` (float32), `[batch, masks, top_k]`, the likeliest first, padded
        with empty strings and zeros; and `mask_count`, int32 `[batch]`.
        """
        inputs = self._pack(self._tokenize(text))
        is_mask = inputs["token_ids"] == self._tokenizer.mask_token_id
        positions = tf.ragged.boolean_mask(tf.broadcast_to(tf.range(tf.shape(is_mask)[1]), tf.shape(is_mask)), is_mask)
        inputs["mask_positions"] = positions.to_tensor()
        probabilities = tf.nn.softmax(self._logits(inputs))
        probabilities, ids = tf.math.top_k(probabilities, k=self._top_k)
        real = tf.sequence_mask(positions.row_lengths(), tf.shape(ids)[1])[..., tf.newaxis]
        return {
            "pieces": tf.where(real, tf.gather(self.pieces, ids), ""),
            "probabilities": tf.where(real, probabilities, 0.0),
            "mask_count": tf.cast(positions.row_lengths(), tf.int32),
        }

    @tf.function(input_signature=[TEXT])
    def encode(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        """Encode texts, strings `[batch]`.

        Returns `sequence_output`, float32 `[batch, tokens, hidden_dim]`; `pooled_output`, float32 `[batch,
        hidden_dim]`; and `padding_mask`, int32 `[batch, tokens]`, 1 where there is a token.
        """
        inputs = self._pack(self._tokenize(text))
        with self._as_exported():
            outputs = self._model.backbone(inputs, training=False)
        outputs = {name: tf.cast(output, tf.float32) for name, output in outputs.items()}
        return {**outputs, "padding_mask": inputs["padding_mask"]}

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None], tf.int32, name=name)
            for name in ["token_ids", "padding_mask", "segment_ids", "mask_positions"]
        ]
    )
    def masked_lm(
        self, token_ids: tf.Tensor, padding_mask: tf.Tensor, segment_ids: tf.Tensor, mask_positions: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Run the model itself on int32 inputs `[batch, tokens]`; return `logits`, `[batch, predictions, pieces]`.

        The `mask_positions` to predict, int32 `[batch, predictions]`, are no more than there are tokens. Logits are
        float32.
        """
        inputs = {
            "token_ids": token_ids,
            "padding_mask": padding_mask,
            "segment_ids": segment_ids,
            "mask_positions": mask_positions,
        }
        backbone = self._model.backbone
        longest, shape = backbone.max_sequence_length, tf.shape(token_ids)
        sizes = {"token_ids": backbone.vocabulary_size, "padding_mask": 2, "segment_ids": backbone.num_segments}
        needed = {
            # Bound the number of logits: positions times vocabulary, a short request could exhaust the memory.
            f"A row has more than {longest} tokens.": shape[1] <= longest,
            "There are more mask_positions than token_ids.": tf.shape(mask_positions)[1] <= shape[1],
            "mask_positions must be places in token_ids.": _in_range(mask_positions, shape[1]),
        }
        for name, size in sizes.items():
            # A GPU would look up ids that do not exist as zeros, without an error.
            needed[f"{name} must be from 0 to {size - 1}."] = _in_range(inputs[name], size)
            needed[f"{name} must have the shape of token_ids."] = tf.reduce_all(tf.shape(inputs[name]) == shape)
        checks = [tf.debugging.Assert(is_met, [message]) for message, is_met in needed.items()]
        with tf.control_dependencies(checks):
            return {"logits": self._logits(inputs)}

    @tf.function(input_signature=[])
    def vocabulary(self) -> dict[str, tf.Tensor]:
        """Return the tokenizer's `pieces`, string `[vocabulary]`, and the model's `max_tokens`, an int32."""
        return {"pieces": tf.identity(self.pieces), "max_tokens": tf.constant(self._max_length)}


def _in_range(values: tf.Tensor, size: int | tf.Tensor) -> tf.Tensor:
    return tf.reduce_all((values >= 0) & (values < size))
