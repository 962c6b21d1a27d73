"""Packs the syllables of texts for a tagger, and joins them into words by its scores."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tibert_keras.tagging.words import CONTINUATION, FOREIGN, MARK_TAGS, UNKNOWN_TAG, TaggedWord, is_lone_tsheg, kind_of


class PackedSyllables(NamedTuple):
    """Texts packed for a token classifier.

    Attributes:
        inputs: `token_ids`, `padding_mask` and `segment_ids`, `[batch, sequence_length]`.
        syllables: The syllables of each text. Joined, they are the text.
        positions: For each text, the position of each syllable's first piece in the sequence, int `[syllables]`; -1
            if the syllable has no piece, or none within the sequence.
        lengths: The number of tokens of each text before truncation, [CLS] and [SEP] included.
    """

    inputs: dict[str, np.ndarray]
    syllables: Sequence[Sequence[str]]
    positions: list[np.ndarray]
    lengths: list[int]


def pack_syllables(tokenizer: Any, syllables: Sequence[Sequence[str]], sequence_length: int) -> PackedSyllables:
    """Pack the pieces of texts."""
    pieces = tokenizer.encode_syllables(syllables)
    token_ids = np.full((len(syllables), sequence_length), tokenizer.pad_token_id, "int32")
    padding_mask = np.zeros_like(token_ids)
    positions, lengths = [], []
    for row, of_text in enumerate(pieces):
        ids = [piece for of_syllable in of_text for piece in of_syllable]
        lengths.append(len(ids) + 2)
        ids = ids[: sequence_length - 2]
        token_ids[row, : len(ids) + 2] = [tokenizer.cls_token_id, *ids, tokenizer.sep_token_id]
        padding_mask[row, : len(ids) + 2] = 1
        counts = np.array([len(of_syllable) for of_syllable in of_text], int)
        starts = 1 + np.cumsum(counts) - counts
        positions.append(np.where((counts > 0) & (starts <= len(ids)), starts, -1))
    # To a tagger, `[MASK]` in a text is text, as any other notation of a gap is.
    token_ids[token_ids == tokenizer.mask_token_id] = tokenizer.unk_token_id
    inputs = {"token_ids": token_ids, "padding_mask": padding_mask, "segment_ids": np.zeros_like(token_ids)}
    return PackedSyllables(inputs, syllables, positions, lengths)


def join_syllables(syllables: Sequence[str], scores: np.ndarray, labels: list[str]) -> list[TaggedWord]:
    """Join syllables into words, whose forms joined are the text, by the likeliest label of each.

    The first syllable begins a word whatever its scores, and so does a unit of another kind than the one before. A gap
    or text in another script is a word by itself. A tsheg without a syllable belongs to the word before it, and is a
    mark if there is none. Tags are those of `tags_of_kinds`.
    """
    words: list[TaggedWord] = []
    before = None
    tags = [np.flatnonzero(allowed) for allowed in tags_of_kinds(labels)]
    for syllable, row in zip(syllables, np.asarray(scores, "float32"), strict=True):
        kind = kind_of(syllable)
        goes_on = labels[row.argmax()] == CONTINUATION and kind == before != FOREIGN
        if words and (goes_on or is_lone_tsheg(syllable)):
            words[-1] = TaggedWord(words[-1].form + syllable, words[-1].tag)
            continue
        before = kind
        words.append(TaggedWord(syllable, labels[tags[kind][row[tags[kind]].argmax()]]))
    return words


def tags_of_kinds(labels: Sequence[str]) -> np.ndarray:
    """Tell which labels words of each kind may have, bool `[kinds, labels]`.

    Marks have those of `MARK_TAGS`, and foreign text has `UNK`, if they are among the labels.
    """
    tags = np.array([label != CONTINUATION for label in labels])
    of_kinds = [tags, np.isin(labels, MARK_TAGS), np.isin(labels, UNKNOWN_TAG)]
    return np.stack([allowed if allowed.any() else tags for allowed in of_kinds])
