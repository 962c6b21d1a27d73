"""Masked examples in TFRecord files, in Google ALBERT's schema, with a manifest beside them."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from tibert_keras.corpus import group_documents
from tibert_keras.data.examples import ExamplePolicy, pack_document
from tibert_keras.data.manifest import Manifest
from tibert_keras.data.masking import MaskingPolicy, mask_tokens
from tibert_keras.errors import InputError, refuse_changes
from tibert_keras.storage import atomic_output, exists, expand_glob, join, read_bytes, read_lines, sha256
from tibert_keras.tokenizers import TibertTokenizer

RECORD_SUFFIX = ".tf_record"
TOKENIZER_FILE = "spiece.model"
_PATHS = {"input_file", "output_dir", "spm_model_file"}


@dataclass(frozen=True, kw_only=True)
class RecordsConfig(ExamplePolicy, MaskingPolicy):
    """Turns text files into TFRecords of masked examples, without sentence-order pairs.

    Args:
        input_file: Text files, a section a line and an empty line between documents: a path, a glob pattern, or
            several with commas between them.
        output_dir: Folder for one `.tf_record` a text file, `manifest.json` and a copy of the tokenizer.
        spm_model_file: The SentencePiece model.
        dupe_factor: How often the whole is repeated, with other masks.
        random_seed: Seed of masks, lengths and sampled tokens.
        stochastic_tokens: Sample encodings (nbest 64, alpha 0.1) in place of the best one.
        tsheg_pretokenization: Let no piece cross a mark between syllables.
        underline_between_sections: Encode the space before a section as `▁`.
    """

    input_file: str
    output_dir: str
    spm_model_file: str
    dupe_factor: int = 1
    random_seed: int = 12345
    stochastic_tokens: bool = False
    tsheg_pretokenization: bool = False
    underline_between_sections: bool = True

    def __post_init__(self) -> None:
        # Each policy checks its own options and knows nothing of the other.
        ExamplePolicy.__post_init__(self)
        MaskingPolicy.__post_init__(self)
        if self.dupe_factor < 1 or self.random_seed < 0:
            raise InputError(
                "dupe_factor must be at least 1 and random_seed not negative. "
                f"Received: dupe_factor={self.dupe_factor}, random_seed={self.random_seed}."
            )


def build_records(config: RecordsConfig) -> Manifest:
    """Make one TFRecord file from each text file, and the manifest.

    Memory holds one document at a time, whatever the size of the corpus. The same inputs, options and seed give
    byte-identical files. Files that are there already, whole and from the same text, are kept.

    Args:
        config: Inputs and options.

    Returns:
        The manifest, as it stands in `manifest.json`.

    Raises:
        InputError: If an input cannot be used, two inputs have one name, or the folder holds records made
            with other options.

    Example:
    ```python
    build_records(RecordsConfig(
        input_file="corpus/train_*.txt", output_dir="records", spm_model_file="tokenizer/spiece.model"))
    ```
    """
    sources = expand_glob(config.input_file)
    targets = [Path(source).stem + RECORD_SUFFIX for source in sources]
    if duplicates := {target for target in targets if targets.count(target) > 1}:
        raise InputError(f"Input files of one name would overwrite each other. Received: {sorted(duplicates)}.")
    proto = read_bytes(config.spm_model_file)
    tokenizer = _tokenizer(proto, config)
    options = {name: value for name, value in dataclasses.asdict(config).items() if name not in _PATHS}
    description = {
        "sha256": hashlib.sha256(proto).hexdigest(),
        "vocabulary_size": tokenizer.vocabulary_size(),
        # What encodes new text as the records were; sampling is for training only.
        "options": {name: getattr(config, name) for name in ["tsheg_pretokenization", "underline_between_sections"]},
    }
    previous = Manifest.read(config.output_dir)
    if previous:
        before = {**previous.options, "tokenizer": previous.tokenizer["sha256"]}
        refuse_changes(before, {**options, "tokenizer": description["sha256"]}, folder=config.output_dir)

    manifest = Manifest(options=options, tokenizer=description, files=dict(previous.files) if previous else {})
    for source, target in tqdm(list(zip(sources, targets, strict=True)), desc="records", unit="file", disable=None):
        digest, output = sha256(source), join(config.output_dir, target)
        listed = manifest.files.get(target, {})
        if listed.get("source_sha256") == digest and exists(output) and sha256(output) == listed["sha256"]:
            continue
        with atomic_output(output) as path:
            counts = build_file(source, path, config=config, tokenizer=tokenizer)
            manifest.files[target] = {**counts, "source_sha256": digest}
            # Before the file has its name: records without a manifest would pass for Google's.
            with atomic_output(join(config.output_dir, TOKENIZER_FILE)) as copy:
                copy.write_bytes(proto)
            manifest.write(config.output_dir)
    return manifest


def build_file(source: str, target: Path, *, config: RecordsConfig, tokenizer: TibertTokenizer) -> dict[str, Any]:
    """Write the examples of one text file; what is written depends on nothing else.

    Returns:
        The file's counts, size and hash, as the manifest has them.

    Raises:
        InputError: If the text gives no example.
    """
    counts = dict.fromkeys(["documents", "tokens", "unknown_tokens", "examples"], 0)
    unknown = tokenizer.token_to_id("<unk>")
    with tf.io.TFRecordWriter(os.fspath(target)) as writer:
        for number, document in enumerate(group_documents(map(str.strip, read_lines(source)))):
            # A document's random stream depends on nothing but itself, so neither order nor workers matter.
            rng = np.random.default_rng([config.random_seed, zlib.crc32(Path(source).name.encode()), number])
            sections = _encode(document, tokenizer, rng)
            counts["documents"] += 1
            counts["tokens"] += sum(map(len, sections))
            counts["unknown_tokens"] += sum(section.count(unknown) for section in sections)
            for _ in range(config.dupe_factor):
                features = masked_examples(sections, config=config, tokenizer=tokenizer, rng=rng)
                counts["examples"] += len(features["input_ids"])
                for example in serialize_examples(features):
                    writer.write(example)
    if counts["examples"] == 0:
        raise InputError(f"No document has two tokens for an example. Received: {source!r}.")
    return {**counts, "bytes": target.stat().st_size, "sha256": sha256(target)}


def masked_examples(
    sections: list[list[int]], *, config: RecordsConfig, tokenizer: TibertTokenizer, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Pack and mask one document.

    Args:
        sections: Token ids of each section.
        config: The policies of both steps.
        tokenizer: Gives the special ids.
        rng: The document's random stream.

    Returns:
        The features of Google's schema, `[examples, max_seq_length]` or `[examples, max_predictions_per_seq]` each.
    """
    token_ids = pack_document(
        sections,
        policy=config,
        cls_token_id=tokenizer.cls_token_id,
        sep_token_id=tokenizer.sep_token_id,
        pad_token_id=tokenizer.pad_token_id,
        rng=rng,
    )
    masked = mask_tokens(
        token_ids,
        policy=config,
        special_token_ids=tokenizer.special_token_ids,
        ordinary_token_ids=tokenizer.ordinary_token_ids,
        mask_token_id=tokenizer.mask_token_id,
        pad_token_id=tokenizer.pad_token_id,
        rng=rng,
    )
    input_mask = (token_ids != tokenizer.pad_token_id).astype(np.int32)
    return {
        "input_ids": masked.token_ids,
        "input_mask": input_mask,
        "segment_ids": np.zeros_like(token_ids),
        # Every piece of Tibetan counts as the start of a word in the original's records.
        "token_boundary": input_mask,
        "masked_lm_positions": masked.mask_positions,
        "masked_lm_ids": masked.mask_ids,
        "masked_lm_weights": masked.mask_weights,
        # One segment is always in order.
        "next_sentence_labels": np.zeros((len(token_ids), 1), np.int32),
    }


def serialize_examples(features: dict[str, np.ndarray]) -> Iterator[bytes]:
    """Serialize arrays `[examples, ...]` into one `tf.train.Example` a row, integers as int64, others as float."""
    for row in range(len(features["input_ids"])):
        feature = {}
        for name, values in features.items():
            if np.issubdtype(values.dtype, np.integer):
                feature[name] = tf.train.Feature(int64_list=tf.train.Int64List(value=values[row].tolist()))
            else:
                feature[name] = tf.train.Feature(float_list=tf.train.FloatList(value=values[row].tolist()))
        # Protobuf orders maps by chance unless told not to.
        yield tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString(deterministic=True)


def _tokenizer(proto: bytes, config: RecordsConfig) -> TibertTokenizer:
    return TibertTokenizer(
        proto,
        tsheg_pretokenization=config.tsheg_pretokenization,
        underline_between_sections=config.underline_between_sections,
        nbest_size=64 if config.stochastic_tokens else 0,
        alpha=0.1,
    )


def _encode(document: list[str], tokenizer: TibertTokenizer, rng: np.random.Generator) -> list[list[int]]:
    if tokenizer.nbest_size:
        sections = tokenizer.encode_seeded(document, seed=int(rng.integers(1 << 31)))
    else:
        sections = tokenizer.encode(document)
    return [section for section in sections if section]
