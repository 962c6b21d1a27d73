"""Describe a record file for people: statistics, and examples as text with the masks marked."""

import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tibert_keras.errors import InputError
from tibert_keras.records.build import TOKENIZER_FILE
from tibert_keras.records.manifest import Manifest, refuse_other_tokenizer
from tibert_keras.records.masking import LABEL_FEATURES, original_tokens
from tibert_keras.records.reader import ExampleReader
from tibert_keras.records.serialization import example_shape, feature_sizes
from tibert_keras.records.statistics import HISTOGRAMS, RecordStatistics
from tibert_keras.storage import exists, folder_of, join, open_binary, read_bytes
from tibert_keras.tokenizers.sentence_piece import SentencePieceEncoder

_BATCH = 1024


def inspect_records(path: str | os.PathLike[str], *, tokenizer: SentencePieceEncoder) -> RecordStatistics:
    """Read a record file and gather statistics. Memory holds a thousand examples at a time.

    Those of the text are known only if the file's manifest lies beside it and its examples were not shuffled with those
    of other files. An `InputError` is raised if it is no file of masked examples, is damaged, or was made with another
    tokenizer.
    """
    totals: dict[str, Any] = {}
    for examples in _batches(os.fspath(path), tokenizer, size=_BATCH):
        for name, counts in _tally(examples, tokenizer).items():
            totals[name] = totals.get(name, 0) + counts
    histograms = {name: {n: int(totals[name][n]) for n in np.flatnonzero(totals[name]).tolist()} for name in HISTOGRAMS}
    pieces, (became_mask, kept, became_other) = totals["pieces"], totals["became"]
    pieces[tokenizer.special_token_ids] = 0
    first_signs = (piece.removeprefix("▁")[:1] for piece in _vocabulary(tokenizer))
    combining = [bool(sign) and unicodedata.category(sign) in ("Mn", "Mc") for sign in first_signs]
    num_examples, two_segments, swapped = map(int, totals["examples"])
    tokens, masked = sum(n * count for n, count in histograms["lengths"].items()), int(totals["became"].sum())
    source = _source(os.fspath(path))
    shares = {
        "masked": (masked, tokens),
        "mask_token": (became_mask, masked),
        "kept": (kept, masked),
        "random": (became_other, masked),
        "unknown": (pieces[tokenizer.unk_id()], pieces.sum()),
        "combining": (pieces[combining].sum(), pieces.sum()),
        "two_segments": (two_segments, num_examples),
        "swapped": (swapped, two_segments),
    }
    figures: dict[str, Any] = dict(histograms)
    figures |= {f"{name}_share": float(part / max(whole, 1)) for name, (part, whole) in shares.items()}
    return RecordStatistics(
        examples=num_examples,
        documents=source.get("documents"),
        source_tokens=source.get("tokens"),
        tokens=tokens,
        masked_tokens=masked,
        **figures,
    )


def readable_examples(path: str | os.PathLike[str], *, tokenizer: SentencePieceEncoder, count: int) -> list[str]:
    """Format the first examples of a record file as lines of text.

    Predicted tokens are `⟦original→shown⟧`, or `⟦original=⟧` if they were kept. ` [SEP] ` separates two segments. The
    errors are those of `inspect_records`.
    """
    examples = next(_batches(os.fspath(path), tokenizer, size=max(count, 1)))
    pieces = [piece.replace("▁", " ") for piece in _vocabulary(tokenizer)]
    pieces[tokenizer.cls_token_id], pieces[tokenizer.sep_token_id] = "", " [SEP] "
    lines = []
    for row in range(min(count, len(examples.shown))):
        line = ""
        for column in np.flatnonzero(examples.real[row]):
            original, shown = examples.original[row, column], examples.shown[row, column]
            mark = "=" if shown == original else f"→{pieces[shown]}"
            line += f"⟦{pieces[original]}{mark}⟧" if examples.predicted[row, column] else pieces[original]
        lines.append(line.removesuffix(" [SEP] ").strip())
    return lines


def tokenizer_of_records(path: str | os.PathLike[str], *, spm_model_file: str | None = None) -> SentencePieceEncoder:
    """Load the tokenizer of a record file, by default the `spiece.model` beside it."""
    with open_binary(path):
        pass  # The file exists.
    beside = join(folder_of(path), TOKENIZER_FILE)
    if spm_model_file is None and not exists(beside):
        raise InputError(f"No tokenizer lies beside the records. Received: {beside!r}. Give it as --spm_model_file.")
    return SentencePieceEncoder(read_bytes(spm_model_file or beside))


# === Reading ===


class _Examples(NamedTuple):
    """A batch of examples of one length. The first four arrays are `[examples, length]`."""

    shown: np.ndarray  # int64, the ids after masking
    original: np.ndarray  # int64, the ids before
    real: np.ndarray  # bool, what is not padding
    predicted: np.ndarray  # bool
    num_segments: np.ndarray  # int64 [examples]
    is_swapped: np.ndarray  # bool [examples]


def _batches(path: str, tokenizer: SentencePieceEncoder, *, size: int) -> Iterator[_Examples]:
    if manifest := Manifest.read(folder_of(path)):
        refuse_other_tokenizer(manifest.tokenizer, tokenizer.proto, folder=folder_of(path))
    reader = ExampleReader([path], feature_sizes(*example_shape(path).values()))
    for first in range(0, len(reader), size):
        arrays = reader.read(np.arange(first, min(first + size, len(reader))))
        for name in ("input_ids", "masked_lm_ids"):
            if (largest := arrays[name].max()) >= tokenizer.vocab_size():
                raise InputError(
                    f"The records do not fit the tokenizer. Received: {name}={largest} in {path!r}, "
                    f"a tokenizer of {tokenizer.vocab_size()} pieces. Give the tokenizer of the records."
                )
        yield _examples(arrays)


def _examples(parsed: dict[str, np.ndarray]) -> _Examples:
    shown, real = parsed["input_ids"], parsed["input_mask"] > 0
    row, slot = np.nonzero(parsed["masked_lm_weights"])
    column = parsed["masked_lm_positions"][row, slot]
    original = original_tokens(*(parsed[name] for name in LABEL_FEATURES))
    predicted = np.zeros(shown.shape, bool)
    predicted[row, column] = True
    num_segments = 1 + (parsed["segment_ids"] * real).max(axis=1)
    return _Examples(shown, original, real, predicted, num_segments, parsed["next_sentence_labels"][:, 0] > 0)


# === Counting ===


def _tally(examples: _Examples, tokenizer: SentencePieceEncoder) -> dict[str, np.ndarray]:
    """Count over a batch. The arrays of all batches of a file have the same size, so they can be added up."""
    shown, original, real, predicted, num_segments, is_swapped = examples
    sizes = np.arange(1 + shown.shape[1])
    # A run begins where `edges` is 1 and ends where it is -1.
    edges = np.diff(np.pad(predicted.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    runs = np.nonzero(edges == -1)[1] - np.nonzero(edges == 1)[1]
    two_segments, became_mask = num_segments > 1, predicted & (shown == tokenizer.mask_token_id)
    kept = predicted & (shown == original)
    became = [became_mask, kept, predicted & ~became_mask & ~kept]
    return {
        "lengths": np.bincount(real.sum(axis=1), minlength=len(sizes)),
        "predictions": np.bincount(predicted.sum(axis=1), minlength=len(sizes)),
        "run_lengths": np.bincount(runs, minlength=len(sizes)),
        "pieces": np.bincount(original[real], minlength=tokenizer.vocab_size()),
        "became": np.array([np.count_nonzero(flags) for flags in became]),
        "examples": np.array([len(shown), two_segments.sum(), (two_segments & is_swapped).sum()]),
    }


def _source(path: str) -> dict[str, Any]:
    manifest = Manifest.read(folder_of(path))
    if manifest is None or (manifest.options.get("shuffle_examples") and len(manifest.sources) > 1):
        return {}
    return manifest.sources.get(Path(path).name, {})


def _vocabulary(tokenizer: SentencePieceEncoder) -> list[str]:
    return [tokenizer.id_to_piece(number) for number in range(tokenizer.vocab_size())]
