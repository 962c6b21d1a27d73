"""Encodes Tibetan text with a SentencePiece model, without Keras."""

import itertools
import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import numpy as np
import sentencepiece
from google.protobuf.message import DecodeError
from sentencepiece import sentencepiece_model_pb2

from tibert_keras.errors import InputError
from tibert_keras.normalization import NORMALIZATIONS, normalize_text
from tibert_keras.tibetan import INTERSYLLABIC_MARKS, PUNCTUATION, TOKENIZER_SPACES
from tibert_keras.tokenizers.bounds import check_unicode
from tibert_keras.transcription import read_syllable

UNIT_SEPARATOR = "\x1f"

# Whether spaces leave `▁` in the ids: before each section, nowhere, or between two sections.
Underlines = bool | Literal["between"]

_CLS, _SEP, _PAD, _MASK = SPECIAL_TOKENS = ("[CLS]", "[SEP]", "<pad>", "[MASK]")
_SPACE_PIECE = "▁"

_Piece = sentencepiece_model_pb2.ModelProto.SentencePiece
_NO_TEXT = (_Piece.UNKNOWN, _Piece.CONTROL, _Piece.UNUSED)

# SentencePiece has one seed for the whole process.
_SEED_LOCK = threading.Lock()


class SentencePieceEncoder(sentencepiece.SentencePieceProcessor):
    """SentencePiece model with the options of `TibertTokenizer`; `[MASK]` in a text is the mask, if `masks_in_text`.

    Extends SentencePiece's own class because KerasHub's tokenizer calls its `Encode`, `Decode` and vocabulary methods.

    Attributes:
        proto: The content of the SentencePiece model.
        normalization: The name of the rules by which texts are written before they are encoded.
        special_token_ids: The ids of `[CLS]`, `[SEP]`, `<pad>` and `[MASK]`.
        space_token_id: The id of the piece `▁`.
        space_and_mask: The pieces `▁` and `[MASK]`, of the `out_type`.
        unk_token_id: The id of text that no piece stands for.
        ordinary_token_ids: int32 array. The ids of the pieces that stand for text.
        ends_syllable: bool array `[vocabulary_size]`. Whether a piece ends with a mark between syllables.
        starts_section: bool array `[vocabulary_size]`. Whether a piece begins with the space `▁`.
    """

    def __init__(
        self,
        proto: bytes,
        *,
        tsheg_pretokenization: bool = False,
        underline_between_sections: Underlines = True,
        nbest_size: int = 0,
        alpha: float = 1.0,
        out_type: type[int] | type[str] = int,
        masks_in_text: bool = True,
    ) -> None:
        self.proto = proto
        self.tsheg_pretokenization = tsheg_pretokenization
        self.nbest_size = nbest_size
        if underline_between_sections not in (True, False, "between"):
            raise InputError(
                "Underlines are True, False or 'between'. "
                f"Received: underline_between_sections={underline_between_sections!r}."
            )
        self.underline_between_sections = underline_between_sections
        self.explicit_spaces = tsheg_pretokenization or underline_between_sections is not True
        try:
            super().__init__(
                model_proto=runtime_proto(proto, explicit_spaces=self.explicit_spaces, masks_in_text=masks_in_text),
                out_type=out_type,
                enable_sampling=nbest_size != 0,
                nbest_size=nbest_size,
                alpha=alpha,
            )
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise _no_model(reason, proto) from error
        self._section_space = section_space(underline_between_sections)
        self.space_and_mask: Any = (_SPACE_PIECE, _MASK) if out_type is str else tuple(self._ids([_SPACE_PIECE, _MASK]))
        self.special_token_ids = self._ids(SPECIAL_TOKENS)
        self.cls_token_id, self.sep_token_id, self.pad_token_id, self.mask_token_id = self.special_token_ids
        self.space_token_id = int(self.piece_to_id(_SPACE_PIECE))
        self.unk_token_id = int(self.unk_id())
        self.normalization = normalization_of(proto)
        pieces = sentencepiece_model_pb2.ModelProto.FromString(proto).pieces
        # Foreign models may have other control pieces, such as `<s>`.
        no_text = [number for number, piece in enumerate(pieces) if piece.type in _NO_TEXT]
        self.ordinary_token_ids = np.setdiff1d(np.arange(len(pieces), dtype="int32"), no_text + self.special_token_ids)
        self.ends_syllable = np.array([piece.piece.endswith(tuple(PUNCTUATION)) for piece in pieces], bool)
        self.starts_section = np.array([piece.piece.startswith(_SPACE_PIECE) for piece in pieces], bool)

    def _ids(self, pieces: Sequence[str]) -> list[int]:
        return [int(self.piece_to_id(piece)) for piece in pieces]

    def starts_syllable(self, token_ids: np.ndarray) -> np.ndarray:
        """Find the tokens that start a syllable; see `TibertTokenizer.starts_syllable`."""
        special = np.isin(token_ids, self.special_token_ids)
        starts = self.starts_section[token_ids] | special
        starts[..., 1:] |= self.ends_syllable[token_ids[..., :-1]] | special[..., :-1]
        starts[..., 0] = True
        return starts

    def Encode(self, texts: list[str], **_: Any) -> list[list[Any]]:  # noqa: N802
        """Same as `encode`, under the name that KerasHub calls with any strings."""
        for text in texts:
            check_unicode(text)
        return self.encode(texts)

    def encode(self, texts: list[str]) -> list[list[Any]]:
        """Encode a batch of texts into ids or pieces, neither padded nor truncated."""
        texts = [normalize_text(text, self.normalization) for text in texts]
        if self.explicit_spaces:
            units = [self._spell_out(text) for text in texts]
            pieces = self._encode_units(itertools.chain.from_iterable(units))
            return [[piece for _ in text for piece in next(pieces)] for text in units]
        return [self._absorb_spaces(tokens) for tokens in self._encode(texts)]

    def encode_seeded(self, texts: list[str], *, seed: int) -> list[list[int]]:
        """Sample encodings that depend only on the seed, from 0 to 2**32 - 2."""
        # SentencePiece seeds each thread's generator once, when it is first used.
        with _SEED_LOCK, ThreadPoolExecutor(max_workers=1) as fresh_thread:
            sentencepiece.set_random_generator_seed(seed)
            return fresh_thread.submit(self.encode, texts).result()

    def encode_syllables(self, texts: Sequence[Sequence[str]]) -> list[list[list[int]]]:
        """Encode texts given as syllables; see `TibertTokenizer.encode_syllables`."""
        if not self.tsheg_pretokenization:
            raise InputError(
                "The tokenizer's pieces may cross syllables. Received: tsheg_pretokenization=False. "
                "Create the tokenizer with tsheg_pretokenization=True."
            )
        if self.underline_between_sections == "between":
            raise InputError(
                "A syllable with its space is encoded as one. Received: underline_between_sections='between'. "
                "Create the tokenizer with underline_between_sections=True or False."
            )
        units = [self._spell_out_syllables(syllables) for syllables in texts]
        encoded = self._encode_units(unit for text in units for unit in text)
        return [[next(encoded) for _ in text] for text in units]

    def _encode_units(self, units: Iterable[str]) -> Iterator[list[Any]]:
        """Encode units whose spaces are written out."""
        units = list(units)
        if self.nbest_size:
            return map(self._absorb_spaces, self._encode(units))
        # Texts repeat the same few syllables.
        different = list(set(units))
        known = dict(zip(different, map(self._absorb_spaces, self._encode(different)), strict=True))
        return map(known.__getitem__, units)

    def _encode(self, texts: list[str]) -> list[list[Any]]:
        if self.nbest_size == 0:
            # `tibert records` already runs one process per core.
            return super().Encode(texts, num_threads=1)
        # SentencePiece spreads a batch over threads with a generator each. Single texts are encoded in this thread.
        return [super(SentencePieceEncoder, self).Encode(text) for text in texts]

    def _absorb_spaces(self, tokens: list[Any]) -> list[Any]:
        """Drop the space piece before a mask: in training, a mask replaces a piece together with its space."""
        if self.space_and_mask[1] not in tokens:
            return tokens
        followers = [*tokens[1:], None]
        return [token for token, after in zip(tokens, followers, strict=True) if (token, after) != self.space_and_mask]

    def _spell_out(self, text: str) -> list[str]:
        """Write out the spaces of a text and split it into units that are encoded one by one."""
        sections = [section for section in re.split(TOKENIZER_SPACES, text) if section]
        first = " " if sections and self.underline_between_sections is True else ""
        text = first + self._section_space.join(sections)
        if self.tsheg_pretokenization:
            text = re.sub(f"([{INTERSYLLABIC_MARKS}])", rf"\1{UNIT_SEPARATOR}", text)
        return text.split(UNIT_SEPARATOR)

    def _spell_out_syllables(self, syllables: Sequence[str]) -> list[str]:
        """Like `_spell_out`, for a text given as syllables."""
        units, after_space = [], True
        for unit in syllables:
            syllable = normalize_text(read_syllable(unit), self.normalization)
            first, *others = re.split(TOKENIZER_SPACES, f"{' ' if after_space else ''}{syllable}")
            units.append(first + "".join(self._section_space + section for section in others if section))
            after_space = bool(others) and not others[-1]
        return units


def section_space(underline_between_sections: Underlines) -> str:
    """The text between two sections before they are encoded."""
    if underline_between_sections == "between":
        # A unit of its own, so that no piece joins it with the section.
        return f"{UNIT_SEPARATOR} {UNIT_SEPARATOR}"
    return " " if underline_between_sections else ""


def normalization_of(proto: bytes) -> str:
    """The name of the rules that a SentencePiece model was trained with; see `normalize_text`.

    The model itself records it. A model of before, or of another program, has only SentencePiece's rules: `none`.
    """
    name = sentencepiece_model_pb2.ModelProto.FromString(proto).normalizer_spec.name
    return name if name in NORMALIZATIONS else "none"


def runtime_proto(proto: bytes, *, explicit_spaces: bool, masks_in_text: bool = True) -> bytes:
    """Adapt a model to run: match `[MASK]` in text, but no other special piece, and keep explicit spaces unchanged.

    SentencePiece matches user-defined symbols in text, and control symbols never. All other text encodes as before.
    """
    try:
        model = sentencepiece_model_pb2.ModelProto.FromString(proto)
    except DecodeError as error:
        raise _no_model(f"{error}", proto) from error
    if not model.pieces:
        raise _no_model("it has no pieces", proto)
    pieces = {piece.piece for piece in model.pieces}
    if len(pieces) < len(model.pieces):
        raise _no_model("it has pieces twice", proto)
    for special in sorted(set(SPECIAL_TOKENS) - pieces):
        raise InputError(
            f"Cannot find special token `{special!r}` in the SentencePiece model. "
            f"Received: a model of {len(model.pieces)} pieces. Train one with `tibert tokenizer`."
        )
    for piece in model.pieces:
        if piece.piece in SPECIAL_TOKENS:
            piece.type = _Piece.USER_DEFINED if masks_in_text and piece.piece == _MASK else _Piece.CONTROL
    if explicit_spaces:
        model.normalizer_spec.add_dummy_prefix = False
        model.normalizer_spec.remove_extra_whitespaces = False
    return bytes(model.SerializeToString())


def _no_model(reason: str, proto: bytes) -> InputError:
    return InputError(
        f"Not a SentencePiece model: {reason.rstrip('.')}. Received: {len(proto)} bytes. "
        "Give the .model file of a tokenizer, such as spiece.model."
    )
