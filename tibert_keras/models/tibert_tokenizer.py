"""The SentencePiece tokenizer of Tibetan text, with the same ids from Python and from a TensorFlow graph."""

from __future__ import annotations

import inspect
import os
from collections.abc import Sequence
from numbers import Integral, Real
from operator import attrgetter
from typing import Any

import keras
import keras_nlp
import numpy as np

from tibert_keras.errors import InputError, check_arguments
from tibert_keras.lazy import tf
from tibert_keras.models.text_in_graph import normalize_in_graph
from tibert_keras.models.tibert_backbone import TibertBackbone
from tibert_keras.models.tibert_presets import check_preset, list_preset_files, local_preset, made_as
from tibert_keras.tibetan import INTERSYLLABIC_MARKS, TOKENIZER_SPACES
from tibert_keras.tokenizers.sentence_piece import (
    UNIT_SEPARATOR,
    SentencePieceEncoder,
    Underlines,
    runtime_proto,
    section_space,
)


def _of_encoder(name: str, description: str) -> Any:
    return property(attrgetter(f"_encoder.{name}"), doc=description)


@keras.saving.register_keras_serializable(package="tibert_keras")
class TibertTokenizer(keras_nlp.models.AlbertTokenizer):
    """SentencePiece tokenizer for classical Tibetan.

    Differs from KerasHub's `AlbertTokenizer` in three ways. `[MASK]` in a string becomes the mask id, also inside a
    word, and absorbs the space piece `▁` before it, as a masked piece does in training. Pieces can be kept from
    crossing the marks between syllables. Encodings can be sampled.

    Args:
        proto: str or bytes. Path or content of a SentencePiece model with the pieces `<pad>`, `[CLS]`, `[SEP]`
            and `[MASK]`.
        tsheg_pretokenization: bool. Cut the text after each of the ten intersyllabic marks (`༄ ༅ ༈ ་ ༌ ། ༑ ༔ ༜ ྾`)
            before encoding, so that no piece crosses one.
        underline_between_sections: bool or `"between"`. Encode the space before a section as `▁`, as SentencePiece
            does. If `False`, spaces leave no trace in the ids. `"between"` is the original's option of this name: a `▁`
            between two sections, as a piece of its own, and none before the first; not for taggers.
        nbest_size: int. If not 0, sample among the `nbest_size` best encodings (-1: all of them); the original
            used 64. A BPE model ignores the number and drops merges with probability `alpha`.
        alpha: float. Smoothing of the sampling; the original used 0.1.

    Example:
    ```python
    tokenizer = tibert_keras.TibertTokenizer("spiece.model")
    tokenizer("བཀྲ་ཤིས་[MASK]ལེགས།")           # int array [num_tokens]
    tokenizer(["བཀྲ་ཤིས།", "བདེ་ལེགས།"])         # a list of lists, or a ragged tensor inside `tf.data`
    ```
    """

    backbone_cls = TibertBackbone

    def __init__(
        self,
        proto: str | bytes | None,
        tsheg_pretokenization: bool = False,
        underline_between_sections: Underlines = True,
        nbest_size: int = 0,
        alpha: float = 1.0,
        **kwargs: Any,
    ) -> None:
        self.tsheg_pretokenization = tsheg_pretokenization
        self.underline_between_sections = underline_between_sections
        # SentencePiece would only notice when it samples.
        if not (isinstance(nbest_size, Integral) and -1 <= int(nbest_size) < 1 << 31 and isinstance(alpha, Real)):
            raise InputError(
                "nbest_size is an integer from -1 and alpha a number. "
                f"Received: nbest_size={nbest_size!r}, alpha={alpha!r}. Give nbest_size=0 for no sampling."
            )
        self.nbest_size: int = nbest_size
        self.alpha: float = alpha
        if kwargs.get("add_bos") or kwargs.get("add_eos"):
            raise InputError("[CLS] and [SEP] come from the packer, not the tokenizer. Received: add_bos or add_eos.")
        super().__init__(proto=proto, **kwargs)

    @classmethod
    def from_preset(cls, preset: str | os.PathLike[str], **kwargs: Any) -> TibertTokenizer:
        """Load the tokenizer of a preset: of a name, a folder or a handle, as for the `from_preset` of a task.

        Other arguments are those of the constructor, in place of the preset's.
        """
        preset = check_preset(preset, trained=True)
        allowed = {*inspect.signature(cls).parameters, *inspect.signature(keras_nlp.models.AlbertTokenizer).parameters}
        check_arguments(f"{cls.__name__}.from_preset", kwargs, {*allowed, "config_file", "name"})
        with local_preset(preset) as folder, made_as(cls):
            return super().from_preset(folder, **kwargs)

    unk_token_id: int = _of_encoder("unk_token_id", "The id of text that no piece stands for.")
    normalization: str = _of_encoder("normalization", "The rules by which texts are written: tibetan, nfc or none.")
    ordinary_token_ids: np.ndarray = _of_encoder(
        "ordinary_token_ids", "The ids, int32, of the pieces that stand for text."
    )
    ends_syllable: np.ndarray = _of_encoder(
        "ends_syllable", "Bool array. Whether a piece ends with a mark between syllables."
    )
    starts_section: np.ndarray = _of_encoder("starts_section", "Bool array. Whether a piece begins with the space `▁`.")
    space_and_mask: tuple[Any, Any] = _of_encoder(
        "space_and_mask", "The pieces `▁` and `[MASK]`: strings or ids, by `dtype`."
    )

    @property
    def spaces_are_explicit(self) -> bool:
        """Whether spaces are written out before encoding instead of added and collapsed by SentencePiece."""
        return self.tsheg_pretokenization or self.underline_between_sections is not True

    def starts_syllable(self, token_ids: np.ndarray) -> np.ndarray:
        """Find the tokens that start a syllable: after a mark between syllables, a space or a special token.

        Args:
            token_ids: int `[..., L]`.

        Returns:
            bool `[..., L]`. A piece with the end of one syllable and the start of the next belongs to the former, so
            the tokens between two starts are always whole syllables.
        """
        return self._encoder.starts_syllable(token_ids)

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Encode a batch of texts into ids without tensors, the fast way to encode a corpus.

        Args:
            texts: Strings, of any number and length.

        Returns:
            The token ids of each text, neither padded nor truncated.
        """
        return self._encoder.encode(texts)

    def encode_syllables(self, texts: Sequence[Sequence[str]]) -> list[list[list[int]]]:
        """Encode texts given as syllables, so that no piece crosses two syllables.

        Args:
            texts: The syllables of each text, which concatenate to the text. A syllable may have spaces at both ends.

        Returns:
            The token ids of each syllable of each text; none for a syllable that consists of spaces.

        Raises:
            InputError: If the tokenizer has pieces that cross the marks between syllables.
        """
        return self._encoder.encode_syllables(texts)

    @property
    def _encoder(self) -> SentencePieceEncoder:
        self._check_vocabulary()
        return self._sentence_piece_spm

    def _set_proto_spm(self, proto: bytes) -> None:
        self._sentence_piece_spm = SentencePieceEncoder(
            proto,
            tsheg_pretokenization=self.tsheg_pretokenization,
            underline_between_sections=self.underline_between_sections,
            nbest_size=self.nbest_size,
            alpha=self.alpha,
            out_type=str if self.compute_dtype == "string" else int,
        )

    def _set_proto_tf(self, proto: bytes) -> None:
        # Of no graph: the graph that is traced now may not be the last to tokenize.
        with tf.init_scope():
            self._sentence_piece = self._in_tensorflow(proto)

    def _maybe_initialized_tf(self) -> None:
        super()._maybe_initialized_tf()
        with tf.init_scope():
            try:
                self._sentence_piece.vocab_size()
            except tf.errors.NotFoundError:
                # `keras.utils.set_random_seed` makes TensorFlow forget its kernels, and with them this one's model.
                self._set_proto_tf(self.proto)

    def _in_tensorflow(self, proto: bytes) -> Any:
        import tensorflow_text

        return tensorflow_text.SentencepieceTokenizer(
            model=runtime_proto(proto, explicit_spaces=self.spaces_are_explicit),
            out_type=self.compute_dtype,
            nbest_size=self.nbest_size,
            alpha=self.alpha,
        )

    def _tokenize_tf(self, inputs: Any) -> tf.Tensor | tf.RaggedTensor:
        if in_dataset():
            # The pipeline's own, which lives as long as the pipeline.
            sentence_piece = self._in_tensorflow(self.proto)
        else:
            self._maybe_initialized_tf()
            sentence_piece = self._sentence_piece
        texts = tf.convert_to_tensor(inputs)
        if (texts.shape.rank or 0) > 1:
            raise ValueError(f"Texts are a string or a batch of strings. Received: shape {tuple(texts.shape)}.")
        unbatched = texts.shape.rank == 0
        texts = normalize_in_graph(tf.reshape(texts, [-1]), self.normalization)
        if self.spaces_are_explicit:
            units = tf.strings.split(_spell_out_in_graph(self, texts), UNIT_SEPARATOR)
            tokens = units.with_flat_values(sentence_piece.tokenize(units.flat_values)).merge_dims(1, 2)
        else:
            tokens = sentence_piece.tokenize(texts)
        if self.underline_between_sections != "between":
            tokens = absorb_spaces_in_graph(tokens, *self.space_and_mask)
        if self.sequence_length:
            tokens = tokens.to_tensor(self.pad_token_id, shape=[None, self.sequence_length])
        return tokens[0] if unbatched else tokens

    def save_to_preset(self, preset_dir: str | os.PathLike[str]) -> None:
        """Save the tokenizer to a folder, that of a model too, and list all files there."""
        super().save_to_preset(preset_dir)
        list_preset_files(preset_dir)

    def save_assets(self, dir_path: str) -> None:
        """Save the vocabulary to a folder; a tokenizer that was made of a configuration alone has none."""
        if self.proto is None:
            raise InputError(
                "The tokenizer has no vocabulary, as a configuration holds none. Received: proto=None. "
                "Give the model the preprocessor of the one that it was made from."
            )
        super().save_assets(dir_path)

    def get_config(self) -> dict[str, Any]:
        names = ("tsheg_pretokenization", "underline_between_sections", "nbest_size", "alpha")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def in_dataset() -> bool:
    """Return whether TensorFlow traces a function of a `tf.data` pipeline now."""
    if tf.executing_eagerly():
        return False
    graph = tf.compat.v1.get_default_graph()
    while graph is not None and not getattr(graph, "name", "").startswith("Dataset_"):
        graph = getattr(graph, "outer_graph", None)
    return graph is not None


def as_tibert_tokenizer(tokenizer: keras_nlp.models.AlbertTokenizer) -> TibertTokenizer:
    """Return the tokenizer, or, for KerasHub's `AlbertTokenizer`, a `TibertTokenizer` with its vocabulary."""
    if isinstance(tokenizer, TibertTokenizer):
        return tokenizer
    if not isinstance(tokenizer, keras_nlp.models.AlbertTokenizer):
        raise InputError(
            "Texts are encoded by a SentencePiece tokenizer with ALBERT's special pieces. "
            f"Received: {type(tokenizer).__name__}. Give a TibertTokenizer or an AlbertTokenizer."
        )
    names = ("sequence_length", "add_bos", "add_eos", "config_file")
    options = {name: getattr(tokenizer, name) for name in names}
    return TibertTokenizer(tokenizer.proto, dtype=tokenizer.compute_dtype, **options)


def _spell_out_in_graph(tokenizer: TibertTokenizer, texts: tf.Tensor) -> tf.Tensor:
    """Do the same as `SentencePieceEncoder._spell_out`, but leave the units joined by their separator."""
    space = section_space(tokenizer.underline_between_sections)
    texts = tf.strings.regex_replace(texts, f"^{TOKENIZER_SPACES}|{TOKENIZER_SPACES}$", "")
    texts = tf.strings.regex_replace(texts, TOKENIZER_SPACES, space)
    if tokenizer.underline_between_sections is True:
        texts = tf.strings.regex_replace(texts, "^(.)", r" \1")
    if tokenizer.tsheg_pretokenization:
        texts = tf.strings.regex_replace(texts, f"([{INTERSYLLABIC_MARKS}])", rf"\1{UNIT_SEPARATOR}")
    return texts


def absorb_spaces_in_graph(tokens: tf.RaggedTensor, space: Any, mask: Any) -> tf.RaggedTensor:
    """Do the same as `SentencePieceEncoder._absorb_spaces`, for a batch of shape `[batch, (tokens)]`."""
    rows, flat = tokens.value_rowids(), tokens.flat_values
    dropped = (flat[:-1] == space) & (flat[1:] == mask) & (rows[:-1] == rows[1:])
    # The very last token has no follower; an empty batch has no last token.
    kept = tf.concat([~dropped, tf.ones([tf.minimum(tf.size(flat), 1)], "bool")], axis=0)
    return tf.ragged.boolean_mask(tokens, tokens.with_flat_values(kept))
