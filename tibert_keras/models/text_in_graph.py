"""Text before it is encoded, in a TensorFlow graph."""

from __future__ import annotations

import re

from tibert_keras.lazy import tf
from tibert_keras.normalization import DECOMPOSITIONS, ORDER, REPLACEMENTS, ZERO_WIDTH
from tibert_keras.transcription import READINGS

_BLOCK_START = 0x0F00


def normalize_in_graph(texts: tf.Tensor, normalization: str) -> tf.Tensor:
    """Do the same as `normalize_text`, for strings `[batch]`, with ops of stock TensorFlow Serving."""
    if normalization == "none":
        return texts
    texts = _in_order(_replace(texts, DECOMPOSITIONS))
    if normalization == "tibetan":
        texts = _in_order(_replace(tf.strings.regex_replace(texts, ZERO_WIDTH, ""), REPLACEMENTS))
    return texts


def read_syllables_in_graph(units: tf.Tensor) -> tf.Tensor:
    """Do the same as `read_syllable`, for strings `[units]`."""
    for pattern, replacement in READINGS:
        units = tf.strings.regex_replace(units, pattern, replacement)
    return units


def _replace(texts: tf.Tensor, replacements: dict[str, str]) -> tf.Tensor:
    for old, new in replacements.items():
        texts = tf.strings.regex_replace(texts, re.escape(old), new)
    return texts


def _in_order(texts: tf.Tensor) -> tf.Tensor:
    """Sort the signs on each letter into canonical order."""
    codes = tf.strings.unicode_decode(texts, "UTF-8")
    flat = codes.flat_values
    in_block = (flat >= _BLOCK_START) & (flat < _BLOCK_START + len(ORDER))
    order = tf.where(in_block, tf.gather(ORDER, tf.where(in_block, flat - _BLOCK_START, 0)), 0)
    # A run begins at a sign of order 0, and at the start of a text.
    runs = tf.cumsum(tf.cast(order == 0, tf.int64)) + codes.value_rowids()
    places = tf.argsort(runs * 256 + tf.cast(order, tf.int64), stable=True)
    return tf.strings.unicode_encode(codes.with_flat_values(tf.gather(flat, places)), "UTF-8")
