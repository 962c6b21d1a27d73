"""Trains a SentencePiece model by one of two recipes, and writes it with its vocabulary and manifest."""

import dataclasses
import io
import json
import logging
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tqdm import tqdm

from tibert_keras.errors import InputError, check_options, refuse_changes
from tibert_keras.integrity import check_unchanged
from tibert_keras.locks import only_writer
from tibert_keras.normalization import Normalization, normalize_text
from tibert_keras.storage import (
    atomic_output,
    exists,
    expand_glob,
    folder_of,
    join,
    list_folder,
    read_json,
    read_lines,
    sha256,
)
from tibert_keras.tibetan import INTERSYLLABIC_MARKS

# `olive` is the original's byte-pair encoding (with 1,000, 5,000 and 10,000 pieces), `albert` the unigram model of the
# ALBERT paper with its size and coverage.
RECIPES: dict[str, dict[str, Any]] = {
    "olive": {"model_type": "bpe", "vocab_size": 10_000, "character_coverage": 1.0},
    "albert": {"model_type": "unigram", "vocab_size": 30_000, "character_coverage": 0.99995},
}

_MANIFEST_FILE = "tokenizer_manifest.json"
# Its name in older folders. Hugging Face calls the tokenizer itself so.
_OLDER_MANIFEST_FILE = "tokenizer.json"
CONTROL_SYMBOLS = ["[CLS]", "[SEP]", "[MASK]"]
# A list, not the original's comma-separated string: SentencePiece reads that as CSV, where the quotation mark swallows
# the rest.
USER_DEFINED_SYMBOLS = ["(", ")", '"', "-", ".", "–", "£", "€"]

# SentencePiece's own rules, after ours. They keep all Tibetan letters: they only compose characters, fold widths and
# handle white space.
_RULES = "nmt_nfkc"
# Marks where no piece may cross. Does not occur in text, and survives SentencePiece's normalisation.
_UNIT_SEPARATOR = "\u2063"
# A unit, from a space on if one comes before it, or a separator.
_UNIT = re.compile(f"{_UNIT_SEPARATOR}|▁?[^▁{_UNIT_SEPARATOR}]+|▁")
# SentencePiece silently skips longer sentences; the longest verse of the canon is far below this.
_MAX_SENTENCE_BYTES = 1 << 16

# Scores of a unigram model are rounded to multiples of this power of two, so that 32-bit sums are exact up to 8,192
# (hundreds of pieces). The same pieces then have the same sum in any order, and SentencePiece, which adds in 32 bits,
# and Hugging Face's tokenizers, which adds in 64, choose the same order. A score changes by 0.00025 at most.
_SCORE_STEP = 1 / 2048

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TokenizerConfig:
    """Trains a SentencePiece model on text files, one section a line.

    Args:
        input_file: Text files to train on: a path, a glob pattern, or several separated by commas.
        output_dir: Folder for `spiece.model`, `spiece.vocab` and `tokenizer_manifest.json` (how they were made).
        recipe: `olive` (BPE, 10,000 pieces, character coverage 100%) or `albert` (unigram, 30,000 pieces, character
            coverage 99.995%).
        model_type: `bpe` or `unigram`, instead of the recipe's.
        vocab_size: Number of pieces, instead of the recipe's. The original also used 1,000 and 5,000.
        input_sentence_size: Train on a random sample of at most this many lines; 0 takes all.
        tsheg_pretokenization: Learn no piece that crosses a mark between syllables. Use it for records made with this
            option, which cannot use such pieces.
        normalization: How texts are written before they are encoded, here and wherever the tokenizer is used: `tibetan`
            gives one spelling to text that looks the same, `nfc` to text that Unicode calls equal, `none` changes
            nothing beyond SentencePiece's own `nmt_nfkc`.
    """

    input_file: str
    output_dir: str
    recipe: Literal["olive", "albert"] = "olive"
    model_type: Literal["bpe", "unigram"] | None = None
    vocab_size: int | None = None
    input_sentence_size: int = 3_000_000
    tsheg_pretokenization: bool = False
    normalization: Normalization = "tibetan"

    def __post_init__(self) -> None:
        check_options(self, positive=("vocab_size",))

    @property
    def trainer_options(self) -> dict[str, Any]:
        """The recipe with this config's changes, under SentencePiece's own names."""
        given = {"model_type": self.model_type, "vocab_size": self.vocab_size}
        return RECIPES[self.recipe] | {name: value for name, value in given.items() if value is not None}


def train_tokenizer(config: TokenizerConfig) -> dict[str, Any]:
    """Train a SentencePiece model and write it with its vocabulary and a manifest, which is returned."""
    paths = expand_glob(config.input_file)
    with only_writer(config.output_dir):
        _check_folder(config)
        inputs = {path: sha256(path) for path in paths}
        proto = _train(paths, config)
        check_unchanged(inputs, {path: sha256(path) for path in paths})
        return _write(proto, inputs, config)


def _write(proto: bytes, inputs: dict[str, str], config: TokenizerConfig) -> dict[str, Any]:
    """Write the model with its vocabulary and manifest, and return the manifest."""
    with atomic_output(config.output_dir, last=_MANIFEST_FILE) as folder:
        folder.mkdir()
        model = folder / "spiece.model"
        model.write_bytes(proto)
        processor = sentencepiece.SentencePieceProcessor(model_proto=proto)
        pieces = range(processor.vocab_size())
        vocabulary = [f"{processor.id_to_piece(i)}\t{processor.get_score(i):g}\n" for i in pieces]
        (folder / "spiece.vocab").write_text("".join(vocabulary), encoding="utf-8")
        manifest = {
            **dataclasses.asdict(config),
            **config.trainer_options,
            "score_step": _score_step(config),
            "sentencepiece_rules": _RULES,
            "inputs": {Path(path).name: digest for path, digest in inputs.items()},
            "sentencepiece": sentencepiece.__version__,
            "sha256": sha256(model),
        }
        (folder / _MANIFEST_FILE).write_text(json.dumps(manifest, indent=2, ensure_ascii=False), encoding="utf-8")
    return manifest


def read_tokenizer_manifest(spm_model_file: str) -> dict[str, Any] | None:
    """Read the manifest beside a SentencePiece model, or return `None` if there is none of this model."""
    for name in (_MANIFEST_FILE, _OLDER_MANIFEST_FILE):
        path = join(folder_of(spm_model_file), name)
        try:
            manifest = read_json(path, what="a manifest of a tokenizer", advice="") if exists(path) else {}
        except InputError:
            continue
        if manifest and manifest.get("sha256") == sha256(spm_model_file):
            return manifest
    return None


def _check_folder(config: TokenizerConfig) -> None:
    """Check that replacing the whole folder loses nothing but a tokenizer with the same options."""
    if not (names := list_folder(config.output_dir)):
        return
    manifest_file = next((name for name in (_MANIFEST_FILE, _OLDER_MANIFEST_FILE) if name in names), None)
    if manifest_file is None:
        raise InputError(
            f"The output folder is not empty and holds no tokenizer. Received: output_dir={config.output_dir!r}. "
            "Choose another."
        )
    path, advice = join(config.output_dir, manifest_file), "Choose another output_dir."
    previous = read_json(path, what="a manifest of a tokenizer", advice=advice)
    kept = ("input_sentence_size", "tsheg_pretokenization", "normalization")
    own = {name: getattr(config, name) for name in kept}
    options = {**config.trainer_options, **own, "score_step": _score_step(config)}
    # Manifests from before these options lack them, or had SentencePiece's rules in place of ours.
    previous = {"tsheg_pretokenization": False, "score_step": None, **previous}
    if previous.get("normalization") == _RULES:
        previous["normalization"] = "none"
    refuse_changes({name: previous.get(name) for name in options}, options, folder=config.output_dir)


def _score_step(config: TokenizerConfig) -> float | None:
    return _SCORE_STEP if config.trainer_options["model_type"] == "unigram" else None


def _sections(paths: list[str], normalization: Normalization) -> Iterator[str]:
    for path in tqdm(paths, desc="reading", unit="file", disable=None):
        for line in filter(None, read_lines(path)):
            yield normalize_text(line, normalization)


def _separate_syllables(section: str) -> str:
    return re.sub(f"([{INTERSYLLABIC_MARKS}])", rf"\1{_UNIT_SEPARATOR}", section)


def _count_units(paths: list[str], config: TokenizerConfig) -> dict[str, int] | None:
    """Count the units that no piece may cross, normalized, with their separators.

    Byte-pair encoding depends on these counts alone: SentencePiece makes the same pieces of each different syllable and
    its number as of all sections, many times as fast. Only where rare pieces are equally frequent may it choose others.
    A unigram model depends on the running text. `None` means that SentencePiece must read the lines itself, or sample
    them.
    """
    if not config.tsheg_pretokenization or config.trainer_options["model_type"] != "bpe":
        return None
    most = config.input_sentence_size
    # Counted before they are normalized and kept.
    if most and sum(1 for path in paths for _ in filter(None, read_lines(path))) > most:
        return None
    lines = Counter(_sections(paths, config.normalization))
    options = dict.fromkeys(("add_dummy_prefix", "escape_whitespaces", "remove_extra_whitespaces"), True)
    normalizer = sentencepiece.SentencePieceNormalizer(rule_name=_RULES, **options)
    units: Counter[str] = Counter()
    for line, count in tqdm(lines.items(), desc="counting", unit="section", disable=None):
        for unit in _UNIT.findall(normalizer.normalize(_separate_syllables(line))):
            units[unit] += count
    return units


def _train(paths: list[str], config: TokenizerConfig) -> bytes:
    """Run SentencePiece over the non-empty lines of the files, or over what `_count_units` makes of them."""
    model = io.BytesIO()
    units = _count_units(paths, config)
    reading = {
        "add_dummy_prefix": True,
        "remove_extra_whitespaces": True,
        "input_sentence_size": config.input_sentence_size,
        "shuffle_input_sentence": config.input_sentence_size > 0,
    }
    # Units are normalized already, and none is to be left out.
    counted = {**dict.fromkeys(reading, False), "input_sentence_size": 0, "input_format": "tsv"}
    failures: list[BaseException] = []

    def sentences() -> Iterator[str]:
        # SentencePiece treats an exception as the end of the text and trains on the lines before it.
        try:
            if units is not None:
                yield from (f"{unit}\t{count}" for unit, count in units.items())
                return
            sections = _sections(paths, config.normalization)
            yield from map(_separate_syllables, sections) if config.tsheg_pretokenization else sections
        except BaseException as error:
            failures.append(error)

    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=sentences(),
            model_writer=model,
            **config.trainer_options,
            pad_id=0,
            unk_id=1,
            bos_id=-1,
            eos_id=-1,
            control_symbols=CONTROL_SYMBOLS,
            user_defined_symbols=USER_DEFINED_SYMBOLS,
            normalization_rule_name=_RULES,
            pretokenization_delimiter=_UNIT_SEPARATOR if config.tsheg_pretokenization else "",
            max_sentence_length=_MAX_SENTENCE_BYTES,
            **(reading if units is None else counted),
            # Fail if the vocabulary is smaller than the alphabet or larger than the text supports.
            hard_vocab_limit=True,
            minloglevel=1,
        )
    except RuntimeError as error:
        if not failures:
            raise InputError(_explain(str(error), config)) from error
    if failures:
        raise failures[0]
    proto = sentencepiece_model_pb2.ModelProto.FromString(model.getvalue())
    if units is not None:
        _note_reading(proto, reading)
    if config.normalization != "none":
        # Read by `normalization_of`. To SentencePiece the name says nothing: the model holds the rules themselves.
        proto.normalizer_spec.name = config.normalization
    if _score_step(config):
        for piece in proto.pieces:
            if piece.type == piece.NORMAL:
                piece.score = round(piece.score / _SCORE_STEP) * _SCORE_STEP
    return bytes(proto.SerializeToString())


def _note_reading(model: sentencepiece_model_pb2.ModelProto, reading: dict[str, Any]) -> None:
    """Write into a model of counted units how texts are read: as if SentencePiece had read the lines."""
    model.trainer_spec.ClearField("input_format")
    for name, value in reading.items():
        spec = model.trainer_spec if name in model.trainer_spec.DESCRIPTOR.fields_by_name else model.normalizer_spec
        setattr(spec, name, value)


def _explain(message: str, config: TokenizerConfig) -> str:
    size = config.trainer_options["vocab_size"]
    if limit := re.search(r"<= *(\d+)", message):
        reason = f"The text supports at most {limit[1]} pieces. Received: vocab_size={size}."
        return f"{reason} Choose a smaller vocabulary or give more text."
    if limit := re.search(r"required_chars\. \d+ vs (\d+)", message):
        reason = f"The letters of the text and the special pieces are {limit[1]} already. Received: vocab_size={size}."
        return f"{reason} Choose a larger vocabulary."
    if "insert_id" in message:
        return f"The special pieces are more already. Received: vocab_size={size}. Choose a larger vocabulary."
    return f"SentencePiece could not train: {' '.join(message.split())} Received: input_file={config.input_file!r}."
