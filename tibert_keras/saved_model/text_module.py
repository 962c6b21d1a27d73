"""The base of all SavedModels: the tokenizer, the weights, and the way from strings to ids."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import keras
import tensorflow as tf

from tibert_keras.errors import InputError
from tibert_keras.models.encoder_layer import flat_layers, sentence_piece_in_graph
from tibert_keras.saved_model.precision import CompactWeights, Precision, in_bfloat16
from tibert_keras.tokenizers.bounds import MAX_RUN, MAX_TEXT_BYTES, RUN_ENDS

# The input of the signatures that take strings.
TEXT = tf.TensorSpec([None], tf.string, name="text")
# Separates parts of texts: no text in UTF-8 has this byte.
NO_TEXT = b"\xff"


class TextModule(tf.Module):
    """A model that takes strings, in ops of TensorFlow and TensorFlow Text only.

    Args:
        model: A model with a preprocessor, on the TensorFlow backend.
        precision: How to store the weights: `"float32"`, `"bfloat16"` or `"float16"` (half the size), or
            `"dynamic_range"` (a quarter). With `"bfloat16"` the model also computes in it, which is faster on
            accelerators, and on processors with AVX512-BF16 or AMX; with the others it computes in float32.
    """

    # The methods that are signatures. The first is `serving_default`; the others go by their own names.
    signature_names: tuple[str, ...] = ()
    masks_in_text = False

    def __init__(self, model: Any, *, precision: Precision = "float32") -> None:
        super().__init__()
        require_tensorflow()
        if model.preprocessor is None:
            raise InputError(
                "The model has no tokenizer and takes only ids. Received: a preset without preprocessor. "
                "Pretrain with spm_model_file."
            )
        if precision == "bfloat16":
            model = in_bfloat16(model)
        # Untracked, so that compact weights go into the SavedModel without the model's own.
        self._model = self._no_dependency(model)
        self._tokenizer = model.preprocessor.tokenizer
        self._max_length = model.preprocessor.sequence_length
        # Tracked: a SavedModel must hold the variables and the tokenizer's model.
        self.weights: Any = [variable.value for variable in model.variables]
        self._in_place = nullcontext
        if precision in ("float16", "dynamic_range"):
            self.weights = CompactWeights(model, precision)
            self._in_place = self.weights.in_place
        self.sentence_piece = sentence_piece_in_graph(self._tokenizer)

    @property
    def signatures(self) -> dict[str, Any]:
        """The functions of the SavedModel, by signature."""
        first, *others = self.signature_names
        return {"serving_default": getattr(self, first), **{name: getattr(self, name) for name in others}}

    @property
    def signatures_of_text(self) -> list[str]:
        """The signatures that take only strings."""
        return [name for name, function in self.signatures.items() if len(function.input_signature) == 1]

    @tf.function(input_signature=[TEXT])
    def tokenize(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        """Tokenize texts of any length.

        Returns `token_ids` with [CLS] and [SEP], and `padding_mask`, 1 where there is a token, both int32 `[batch,
        tokens]`.
        """
        inputs = self._pack(self._tokenize(text), check=False)
        return {name: inputs[name] for name in ("token_ids", "padding_mask")}

    def _tokenize(self, text: tf.Tensor) -> tf.RaggedTensor:
        return self._unless_masks(self._tokenizer(bounded(text)))

    def _unless_masks(self, tokens: tf.RaggedTensor) -> tf.RaggedTensor:
        """Return ids in which a `[MASK]` of the text is text, as in training, unless the model fills masks."""
        if self.masks_in_text:
            return tokens
        return tokens.with_flat_values(self._model.preprocessor.without_masks(tokens.flat_values))

    @contextmanager
    def _as_exported(self) -> Iterator[None]:
        """Make the model compute with the stored weights, in flat layers."""
        with self._in_place(), flat_layers(self._model.backbone):
            yield

    def _logits(self, inputs: dict[str, tf.Tensor]) -> tf.Tensor:
        with self._as_exported():
            return tf.cast(self._model(inputs, training=False), tf.float32)

    def _pack(self, tokens: tf.RaggedTensor, *, check: bool = True) -> dict[str, tf.Tensor]:
        """Pack the ids of texts as `[CLS] text [SEP]`, padded to the longest text of the batch."""
        checks = []
        if check:
            # Texts are never truncated: a mask beyond the end would have no answer.
            is_short = tf.reduce_max(tokens.row_lengths(), axis=0) + 2 <= self._max_length
            checks.append(tf.debugging.Assert(is_short, [f"A text is longer than {self._max_length} tokens."]))
        with tf.control_dependencies(checks):
            column = tf.ones_like(tokens.row_lengths(), tf.int32)[:, tf.newaxis]
        tokens = tf.concat(
            [column * self._tokenizer.cls_token_id, tf.cast(tokens, tf.int32), column * self._tokenizer.sep_token_id],
            axis=1,
        )
        padding_mask = tf.sequence_mask(tokens.row_lengths(), dtype=tf.int32)
        token_ids = tokens.to_tensor(self._tokenizer.pad_token_id)
        return {"token_ids": token_ids, "padding_mask": padding_mask, "segment_ids": tf.zeros_like(token_ids)}


def bounded(text: tf.Tensor) -> tf.Tensor:
    """Do the same as `check_text` in a graph, for servers that have no bounds of their own, and return the texts."""
    is_short = tf.reduce_all(tf.strings.length(text) <= MAX_TEXT_BYTES)
    too_long = tf.debugging.Assert(is_short, [f"A text has more than {MAX_TEXT_BYTES} bytes."])
    with tf.control_dependencies([too_long]):
        parts = tf.strings.split(tf.strings.regex_replace(text, RUN_ENDS, NO_TEXT), NO_TEXT)
    longest = tf.reduce_max(tf.strings.length(parts.flat_values, unit="UTF8_CHAR"))
    no_ends = tf.debugging.Assert(
        longest <= MAX_RUN, [f"A text has more than {MAX_RUN} characters in a row without a common Tibetan letter."]
    )
    with tf.control_dependencies([no_ends]):
        return tf.identity(text)


def require_tensorflow() -> None:
    """Raise `InputError` if Keras runs on another backend."""
    if keras.backend.backend() != "tensorflow":
        raise InputError(
            "Masks are filled and SavedModels made with the TensorFlow backend. "
            f"Received: KERAS_BACKEND={keras.backend.backend()}. Set KERAS_BACKEND=tensorflow."
        )
