"""The SentencePiece tokenizer of Tibetan text, with the same ids from Python and from a TensorFlow graph."""

from __future__ import annotations

import itertools
import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import keras
import keras_nlp
import numpy as np
import sentencepiece
from google.protobuf.message import DecodeError
from sentencepiece import sentencepiece_model_pb2

from tibert_keras.errors import InputError
from tibert_keras.models.tibert_backbone import TibertBackbone
from tibert_keras.tibetan import INTERSYLLABIC_MARKS, TOKENIZER_SPACES

if TYPE_CHECKING:
    import tensorflow as tf

_UNIT_SEPARATOR = "\x1f"
_SPACE_PIECE = "▁"

_Piece = sentencepiece_model_pb2.ModelProto.SentencePiece
_NO_TEXT = (_Piece.UNKNOWN, _Piece.CONTROL, _Piece.UNUSED)

# SentencePiece has one seed for the whole process.
_SEED_LOCK = threading.Lock()


@keras.saving.register_keras_serializable(package="tibert_keras")
class TibertTokenizer(keras_nlp.models.AlbertTokenizer):
    """SentencePiece tokenizer for classical Tibetan.

    KerasHub's `AlbertTokenizer`, with three differences. `[MASK]` in a string becomes the mask id, in the
    middle of a word too, and takes the place of the space piece `▁` before it, as a masked piece does in training.
    Pieces can be kept from crossing the marks between syllables. And encodings can be sampled.

    Args:
        proto: str or bytes. Path or content of a SentencePiece model with the pieces `<pad>`, `[CLS]`, `[SEP]`
            and `[MASK]`.
        tsheg_pretokenization: bool. Cut the text after each of the ten intersyllabic marks (`༄ ༅ ༈ ་ ༌ ། ༑ ༔ ༜ ྾`)
            before it is encoded, so that no piece crosses one.
        underline_between_sections: bool. Encode the space before a section as `▁`, as SentencePiece does. If
            `False` spaces leave no trace in the ids.
        nbest_size: int. If not 0, sample among the `nbest_size` best encodings (-1: all of them); the original
            used 64. A BPE model ignores the number and drops merges with probability `alpha`.
        alpha: float. Smoothing of the sampling; the original used 0.1.

    Attributes:
        ordinary_token_ids: int32 array. The ids of the pieces that stand for text.
        ends_syllable: bool array `[vocabulary_size]`. Whether a piece ends with a mark between syllables.
        starts_section: bool array `[vocabulary_size]`. Whether a piece begins with the space `▁`.

    Example:
    ```python
    tokenizer = tibert_keras.TibertTokenizer("spiece.model")
    tokenizer("བཀྲ་ཤིས་[MASK]་ལེགས།")           # int array [num_tokens]
    tokenizer(["བཀྲ་ཤིས།", "བདེ་ལེགས།"])         # a list of lists, or a ragged tensor inside `tf.data`
    ```
    """

    backbone_cls = TibertBackbone

    def __init__(
        self,
        proto: str | bytes | None,
        tsheg_pretokenization: bool = False,
        underline_between_sections: bool = True,
        nbest_size: int = 0,
        alpha: float = 1.0,
        **kwargs: Any,
    ) -> None:
        self.tsheg_pretokenization = tsheg_pretokenization
        self.underline_between_sections = underline_between_sections
        self.nbest_size = nbest_size
        self.alpha = alpha
        if kwargs.get("add_bos") or kwargs.get("add_eos"):
            raise InputError("[CLS] and [SEP] come from the packer, not the tokenizer. Received: add_bos or add_eos.")
        super().__init__(proto=proto, **kwargs)

    def set_proto(self, proto: str | bytes | None) -> None:
        """Set the SentencePiece model, as a path or as its content."""
        super().set_proto(proto)
        pieces = [] if proto is None else sentencepiece_model_pb2.ModelProto.FromString(self.proto).pieces
        # A model from elsewhere may have control pieces that KerasHub knows nothing of, such as `<s>`.
        special = [number for number, piece in enumerate(pieces) if piece.type in _NO_TEXT]
        special += [] if proto is None else self.special_token_ids
        self.ordinary_token_ids = np.setdiff1d(np.arange(len(pieces), dtype="int32"), special)
        marks = tuple(INTERSYLLABIC_MARKS)
        self.ends_syllable = np.array([piece.piece.endswith(marks) for piece in pieces], bool)
        self.starts_section = np.array([piece.piece.startswith(_SPACE_PIECE) for piece in pieces], bool)

    def starts_syllable(self, token_ids: np.ndarray) -> np.ndarray:
        """Tell where syllables start: after a mark between syllables, a space or a special token.

        Args:
            token_ids: int `[..., L]`.

        Returns:
            bool `[..., L]`. A piece that holds the end of one syllable and the start of the next belongs to the
            former, so that what lies between two starts is always whole syllables.
        """
        special = np.isin(token_ids, self.special_token_ids)
        starts = self.starts_section[token_ids] | special
        starts[..., 1:] |= self.ends_syllable[token_ids[..., :-1]] | special[..., :-1]
        starts[..., 0] = True
        return starts

    @property
    def spaces_are_explicit(self) -> bool:
        """Whether spaces are written out before encoding, not added and collapsed by SentencePiece itself."""
        return self.tsheg_pretokenization or not self.underline_between_sections

    @property
    def space_and_mask(self) -> tuple[Any, Any]:
        """The pieces `▁` and `[MASK]`, as ids or, if `dtype` is `"string"`, as they are written."""
        if self.compute_dtype == "string":
            return _SPACE_PIECE, self.mask_token
        return self.token_to_id(_SPACE_PIECE), self.token_to_id(self.mask_token)

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Encode a batch of texts into ids without tensors: the quick way through a corpus.

        Args:
            texts: Strings, of any number and length.

        Returns:
            The token ids of each text, neither padded nor truncated.
        """
        self._check_vocabulary()
        return self._sentence_piece_spm.Encode(texts)

    def encode_syllables(self, texts: Sequence[Sequence[str]]) -> list[list[list[int]]]:
        """Encode texts that are cut into syllables, so that each syllable has pieces of its own.

        Args:
            texts: For each text its syllables, which joined are the text. Spaces may stand at both ends of one.

        Returns:
            For each text, for each of its syllables, the token ids; none for a syllable of nothing but spaces.

        Raises:
            InputError: If the tokenizer has pieces that cross the marks between syllables.
        """
        self._check_vocabulary()
        if not self.tsheg_pretokenization:
            raise InputError(
                "The tokenizer's pieces may cross syllables. Received: tsheg_pretokenization=False. "
                "Make one of the same model with True."
            )
        units = [_spell_out_syllables(self, syllables) for syllables in texts]
        encoded = self._sentence_piece_spm.encode_units(unit for text in units for unit in text)
        return [[next(encoded) for _ in text] for text in units]

    def encode_seeded(self, texts: list[str], *, seed: int) -> list[list[int]]:
        """`encode` for a tokenizer that samples, with encodings that depend on nothing but the seed.

        Args:
            texts: Strings, of any number and length.
            seed: Non-negative number below 2**32 - 1, which SentencePiece takes for no seed.

        Returns:
            The token ids of each text.
        """
        # SentencePiece takes the seed once a thread, when the thread's generator is first used.
        with _SEED_LOCK, ThreadPoolExecutor(max_workers=1) as fresh_thread:
            sentencepiece.set_random_generator_seed(seed)
            return fresh_thread.submit(self.encode, texts).result()

    def _set_proto_spm(self, proto: bytes) -> None:
        self._sentence_piece_spm = _Processor(self, proto)

    def _set_proto_tf(self, proto: bytes) -> None:
        import tensorflow_text

        self._sentence_piece = tensorflow_text.SentencepieceTokenizer(
            model=runtime_proto(self, proto),
            out_type=self.compute_dtype,
            nbest_size=self.nbest_size,
            alpha=self.alpha,
        )

    def _tokenize_tf(self, inputs: Any) -> tf.Tensor | tf.RaggedTensor:
        import tensorflow as tf

        self._maybe_initialized_tf()
        texts = tf.convert_to_tensor(inputs)
        if (texts.shape.rank or 0) > 1:
            raise ValueError(f"Texts are a string or a batch of strings. Received: shape {tuple(texts.shape)}.")
        unbatched = texts.shape.rank == 0
        texts = tf.reshape(texts, [-1])
        if self.spaces_are_explicit:
            units = tf.strings.split(_spell_out_in_graph(self, texts), _UNIT_SEPARATOR)
            tokens = units.with_flat_values(self._sentence_piece.tokenize(units.flat_values)).merge_dims(1, 2)
        else:
            tokens = self._sentence_piece.tokenize(texts)
        tokens = absorb_spaces_in_graph(tokens, *self.space_and_mask)
        if self.sequence_length:
            tokens = tokens.to_tensor(self.pad_token_id, shape=[None, self.sequence_length])
        return tokens[0] if unbatched else tokens

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        names = ["tsheg_pretokenization", "underline_between_sections", "nbest_size", "alpha"]
        return {**config, **{name: getattr(self, name) for name in names}}


def runtime_proto(tokenizer: TibertTokenizer, proto: bytes) -> bytes:
    """The model as it is run: `[MASK]` is found in text, and explicit spaces are taken as they come.

    A control symbol is never matched in text, so `[MASK]` is retyped; all other text encodes as before.
    """
    try:
        model = sentencepiece_model_pb2.ModelProto.FromString(proto)
    except DecodeError as error:
        raise InputError(f"Not a SentencePiece model: {error}. Received: {len(proto)} bytes.") from error
    if not model.pieces:
        raise InputError(f"Not a SentencePiece model: it has no pieces. Received: {len(proto)} bytes.")
    for special in sorted(set(tokenizer.special_tokens) - {piece.piece for piece in model.pieces}):
        raise InputError(
            f"Cannot find special token `{special!r}` in the SentencePiece model. "
            f"Received: a model of {len(model.pieces)} pieces. Train one with `tibert tokenizer`."
        )
    for piece in model.pieces:
        if piece.piece == tokenizer.mask_token:
            piece.type = _Piece.USER_DEFINED
    if tokenizer.spaces_are_explicit:
        model.normalizer_spec.add_dummy_prefix = False
        model.normalizer_spec.remove_extra_whitespaces = False
    return model.SerializeToString()


# === Python ===


class _Processor(sentencepiece.SentencePieceProcessor):
    """SentencePiece behind the tokenizer's options; KerasHub calls only `Encode`, `Decode` and the vocabulary."""

    def __init__(self, tokenizer: TibertTokenizer, proto: bytes) -> None:
        self.tokenizer = tokenizer
        super().__init__(
            model_proto=runtime_proto(tokenizer, proto),
            out_type=str if tokenizer.compute_dtype == "string" else int,
            enable_sampling=tokenizer.nbest_size != 0,
            nbest_size=tokenizer.nbest_size,
            alpha=tokenizer.alpha,
        )

    def Encode(self, texts: list[str], **_: Any) -> list[list[Any]]:  # noqa: N802
        if self.tokenizer.spaces_are_explicit:
            units = [_spell_out(self.tokenizer, text) for text in texts]
            pieces = self.encode_units(itertools.chain.from_iterable(units))
            return [[piece for _ in text for piece in next(pieces)] for text in units]
        return [self._absorb(tokens) for tokens in self._encode(texts)]

    def encode_units(self, units: Iterable[str]) -> Iterator[list[Any]]:
        """The pieces of each unit, whose spaces are written out."""
        units = list(units)
        if self.tokenizer.nbest_size:
            return map(self._absorb, self._encode(units))
        # The same few syllables come again and again.
        different = list(set(units))
        known = dict(zip(different, map(self._absorb, self._encode(different)), strict=True))
        return map(known.__getitem__, units)

    def _absorb(self, tokens: list[Any]) -> list[Any]:
        space, mask = self.tokenizer.space_and_mask
        return _absorb_spaces(tokens, space, mask) if mask in tokens else tokens

    def _encode(self, texts: list[str]) -> list[list[Any]]:
        if self.tokenizer.nbest_size == 0:
            # Records are made by processes, one a core.
            return super().Encode(texts, num_threads=1)
        # A batch goes to SentencePiece's own threads, each with a generator of its own: text by text it stays here.
        return [super(_Processor, self).Encode(text) for text in texts]


def _spell_out(tokenizer: TibertTokenizer, text: str) -> list[str]:
    """Write out the spaces of a text and cut it into the units that are encoded one by one."""
    space = " " if tokenizer.underline_between_sections else ""
    text = "".join(space + section for section in re.split(TOKENIZER_SPACES, text) if section)
    if tokenizer.tsheg_pretokenization:
        text = re.sub(f"([{INTERSYLLABIC_MARKS}])", rf"\1{_UNIT_SEPARATOR}", text)
    return text.split(_UNIT_SEPARATOR)


def _spell_out_syllables(tokenizer: TibertTokenizer, syllables: Sequence[str]) -> list[str]:
    """Write out the spaces of a text as `_spell_out` does, syllable by syllable."""
    space = " " if tokenizer.underline_between_sections else ""
    units, after_space = [], True
    for syllable in syllables:
        first, *others = re.split(TOKENIZER_SPACES, f"{' ' if after_space else ''}{syllable}")
        units.append(first + "".join(space + section for section in others if section))
        after_space = bool(others) and not others[-1]
    return units


def _absorb_spaces(tokens: list[Any], space: Any, mask: Any) -> list[Any]:
    return [token for token, after in zip(tokens, [*tokens[1:], None], strict=True) if (token, after) != (space, mask)]


# === TensorFlow ===


def _spell_out_in_graph(tokenizer: TibertTokenizer, texts: tf.Tensor) -> tf.Tensor:
    """`_spell_out`, with the units still joined by their separator."""
    import tensorflow as tf

    space = " " if tokenizer.underline_between_sections else ""
    texts = tf.strings.regex_replace(texts, f"^{TOKENIZER_SPACES}|{TOKENIZER_SPACES}$", "")
    texts = tf.strings.regex_replace(texts, TOKENIZER_SPACES, space)
    if space:
        texts = tf.strings.regex_replace(texts, "^(.)", r" \1")
    if tokenizer.tsheg_pretokenization:
        texts = tf.strings.regex_replace(texts, f"([{INTERSYLLABIC_MARKS}])", rf"\1{_UNIT_SEPARATOR}")
    return texts


def absorb_spaces_in_graph(tokens: tf.RaggedTensor, space: Any, mask: Any) -> tf.RaggedTensor:
    """`_absorb_spaces` over a batch of shape `[batch, (tokens)]`."""
    import tensorflow as tf

    rows, flat = tokens.value_rowids(), tokens.flat_values
    dropped = (flat[:-1] == space) & (flat[1:] == mask) & (rows[:-1] == rows[1:])
    # The last token of all has none after it; an empty batch has no last token.
    kept = tf.concat([~dropped, tf.ones([tf.minimum(tf.size(flat), 1)], "bool")], axis=0)
    return tf.ragged.boolean_mask(tokens, tokens.with_flat_values(kept))
