"""Reads and writes the tokenizer of a transformers folder, and our tokenizer options in foreign folders."""

import json
import logging
import re
from pathlib import Path
from typing import Any

from sentencepiece import sentencepiece_model_pb2

from tibert_keras.errors import InputError
from tibert_keras.models.tibert_tokenizer import TibertTokenizer
from tibert_keras.normalization import REPLACEMENTS, ZERO_WIDTH
from tibert_keras.records.build import TOKENIZER_FILE
from tibert_keras.storage import exists, join, read_bytes, read_json
from tibert_keras.tibetan import INTERSYLLABIC_MARKS, SEPARATE_MARKS, TOKENIZER_SPACES
from tibert_keras.tokenizers.sentence_piece import runtime_proto
from tibert_keras.transcription import BREAKS, EMPTY_LINE, INSIDE, PLAIN_SIGNS

# A file of transformers. Beside a checkpoint of Google's it holds nothing but our options.
TOKENIZER_CONFIG_FILE = "tokenizer_config.json"
_OPTIONS_KEY = "tibert_tokenizer"
_OPTIONS = ("tsheg_pretokenization", "underline_between_sections")

# The place between a combining mark and its base, if the base is a space or only one of the two is Tibetan.
_STRAY = r"(?<=[\p{Z}▁])(?=\p{M})|(?<=\p{Tibetan})(?=[\p{M}&&\P{Tibetan}])|(?<=\P{Tibetan})(?=[\p{M}&&\p{Tibetan}])"

_LOG = logging.getLogger(__name__)


# === Our options, in folders of any format ===


def read_tokenizer_config(folder: str) -> dict[str, Any]:
    """Read a folder's `tokenizer_config.json`; empty if it has none."""
    path = join(folder, TOKENIZER_CONFIG_FILE)
    what, advice = "a configuration of a tokenizer", "Give the folder of an ALBERT."
    return read_json(path, what=what, advice=advice) if exists(path) else {}


def make_tokenizer(spm_model_file: str, config: dict[str, Any]) -> TibertTokenizer:
    """Make a tokenizer from a SentencePiece model, with our options from a `tokenizer_config.json`."""
    given = config.get(_OPTIONS_KEY)
    options: dict[str, Any] = given if isinstance(given, dict) else {}
    content = read_bytes(spm_model_file)
    try:
        return TibertTokenizer(content, **{name: options[name] for name in _OPTIONS if name in options})
    except InputError as error:
        raise InputError(f"{error} It is of {spm_model_file!r}: give the model's own tokenizer.") from error


def tokenizer_options(tokenizer: TibertTokenizer) -> dict[str, Any]:
    """Our options, as they are written to `tokenizer_config.json`."""
    return {_OPTIONS_KEY: {name: getattr(tokenizer, name) for name in _OPTIONS}}


# === A folder of transformers ===


def read_tokenizer(path: str, *, spm_model_file: str | None = None) -> TibertTokenizer | None:
    """Read a folder's tokenizer from its SentencePiece model; `None`, with a warning, if there is no model."""
    model = spm_model_file or join(path, TOKENIZER_FILE)
    if spm_model_file is None and not exists(model):
        _LOG.warning(
            "No %s is in %r: the model takes only ids. Give spm_model_file if you have it.", TOKENIZER_FILE, path
        )
        return None
    config = read_tokenizer_config(path)
    # These are the defaults of transformers.
    if config.get("do_lower_case", True) or not config.get("keep_accents", False):
        _LOG.warning(
            "The tokenizer in %r lower-cases letters or drops accents before SentencePiece sees the text, and Tibetan "
            "vowel signs with them. Here the text stays as it is: other text than Tibetan gets other ids.",
            path,
        )
    return make_tokenizer(model, config)


def write_tokenizer(tokenizer: TibertTokenizer, folder: Path, *, max_length: int, by_syllable: bool = False) -> None:
    """Write `tokenizer.json`, `spiece.model` and their configuration.

    `by_syllable` splits before marks too, as `encode_syllables` does, so that no piece crosses one.
    """
    (folder / TOKENIZER_FILE).write_bytes(tokenizer.proto)
    # Written here, because the library reports a full disk in its own way.
    fast = _fast_tokenizer(tokenizer, by_syllable=by_syllable).to_str(pretty=True)
    (folder / "tokenizer.json").write_text(fast, encoding="utf-8")
    unknown = sentencepiece_model_pb2.ModelProto.FromString(tokenizer.proto).trainer_spec.unk_id
    special = {
        "bos_token": tokenizer.cls_token,
        "cls_token": tokenizer.cls_token,
        "eos_token": tokenizer.sep_token,
        "sep_token": tokenizer.sep_token,
        "pad_token": tokenizer.pad_token,
        "mask_token": tokenizer.mask_token,
        "unk_token": tokenizer.id_to_token(unknown),
    }
    config = {
        **special,
        # Loads `tokenizer.json` as it is. `AlbertTokenizer` would build its own from the pieces.
        "tokenizer_class": "PreTrainedTokenizerFast",
        # For code that builds a tokenizer from `spiece.model`, and would drop Tibetan vowel signs as accents.
        "keep_accents": True,
        "do_lower_case": False,
        "model_max_length": max_length,
        "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
        **tokenizer_options(tokenizer),
    }
    for name, content in ((TOKENIZER_CONFIG_FILE, config), ("special_tokens_map.json", special)):
        (folder / name).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _fast_tokenizer(tokenizer: TibertTokenizer, *, by_syllable: bool) -> Any:
    """Build the same tokenizer in Hugging Face's library: normalisation, pieces and special tokens."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, pre_tokenizers, processors

    content = runtime_proto(tokenizer.proto, explicit_spaces=tokenizer.spaces_are_explicit)
    proto = sentencepiece_model_pb2.ModelProto.FromString(content)
    fast = Tokenizer(_pieces(proto))
    fast.normalizer = _normalizer(tokenizer, proto.normalizer_spec, by_syllable=by_syllable)
    if tokenizer.tsheg_pretokenization:
        cut = pre_tokenizers.Split(Regex(f"[{INTERSYLLABIC_MARKS}]"), "merged_with_previous")
        before_sign = pre_tokenizers.Split(Regex(f"▁?[{SEPARATE_MARKS}]"), "isolated")
        fast.pre_tokenizer = pre_tokenizers.Sequence([before_sign, cut]) if by_syllable else cut
    fast.decoder = decoders.Metaspace(prepend_scheme="first", split=False)
    # The text on either side of a special token is normalised on its own, except for the mask, which is looked for in
    # the normalised text.
    for token in (tokenizer.pad_token, tokenizer.cls_token, tokenizer.sep_token, tokenizer.mask_token):
        fast.add_special_tokens([AddedToken(token, special=True, normalized=token == tokenizer.mask_token)])
    cls, sep = tokenizer.cls_token, tokenizer.sep_token
    fast.post_processor = processors.TemplateProcessing(
        single=f"{cls}:0 $A:0 {sep}:0",
        pair=f"{cls}:0 $A:0 {sep}:0 $B:1 {sep}:1",
        special_tokens=[(cls, tokenizer.cls_token_id), (sep, tokenizer.sep_token_id)],
    )
    return fast


def _normalizer(tokenizer: TibertTokenizer, spec: sentencepiece_model_pb2.NormalizerSpec, *, by_syllable: bool) -> Any:
    """Build the normalisation: ours, our treatment of spaces, then SentencePiece's own."""
    from tokenizers import Regex, normalizers

    steps: list[Any] = []
    if tokenizer.underline_between_sections == "between":
        raise InputError(
            "tokenizer.json has no form for this option. Received: underline_between_sections='between'. "
            "Save the preset with a tokenizer where it is True or False."
        )
    if by_syllable:
        # Like `READINGS`, which are for one unit.
        readings = [(EMPTY_LINE, "  "), (rf"\A{BREAKS}", ""), (f"(?<={INSIDE}){BREAKS}", ""), *PLAIN_SIGNS]
        steps += [normalizers.Replace(Regex(old), new) for old, new in readings]
    if tokenizer.normalization != "none":
        steps.append(normalizers.NFC())
    if tokenizer.normalization == "tibetan":
        steps.append(normalizers.Replace(Regex(ZERO_WIDTH), ""))
        steps += [normalizers.Replace(old, new) for old, new in REPLACEMENTS.items()]
        steps.append(normalizers.NFC())
    if tokenizer.spaces_are_explicit:
        space = " " if tokenizer.underline_between_sections else ""
        steps += [
            normalizers.Replace(Regex(rf"\A{TOKENIZER_SPACES}|{TOKENIZER_SPACES}\z"), ""),
            normalizers.Replace(Regex(TOKENIZER_SPACES), space),
        ]
        steps += [normalizers.Prepend(space)] if space else []
    if spec.precompiled_charsmap:
        # `Precompiled` looks up a letter together with its marks, if they are at most five bytes long, and drops the
        # rest where it knows only a prefix of them. A control character, removed afterwards, keeps the two apart.
        steps += [normalizers.Replace(Regex(_STRAY), "\x1f"), normalizers.Precompiled(spec.precompiled_charsmap)]
        steps.append(normalizers.Replace("\x1f", ""))
    if spec.remove_extra_whitespaces:
        steps += [normalizers.Replace(Regex(r"\A +| +\z"), ""), normalizers.Replace(Regex(" {2,}"), " ")]
    if spec.add_dummy_prefix:
        steps.append(normalizers.Prepend(" "))
    # A mask replaces the space before it.
    mask = re.escape(tokenizer.mask_token)
    steps += [normalizers.Replace(Regex(f" (?={mask})"), ""), normalizers.Replace(" ", "▁")]
    return normalizers.Sequence(steps)


def _pieces(proto: sentencepiece_model_pb2.ModelProto) -> Any:
    from tokenizers import models

    spec = proto.trainer_spec
    if spec.model_type == spec.UNIGRAM:
        return models.Unigram([(piece.piece, piece.score) for piece in proto.pieces], unk_id=spec.unk_id)
    ids = {piece.piece: number for number, piece in enumerate(proto.pieces)}
    # SentencePiece merges the pair whose joint piece has the highest score.
    merges = sorted(
        (-piece.score, ids[left], ids[right], left, right)
        for piece in proto.pieces
        for left, right in ((piece.piece[:cut], piece.piece[cut:]) for cut in range(1, len(piece.piece)))
        if left in ids and right in ids and piece.type == piece.NORMAL
    )
    return models.BPE(
        vocab=ids,
        merges=[(left, right) for *_, left, right in merges],
        unk_token=proto.pieces[spec.unk_id].piece,
        fuse_unk=True,
    )
