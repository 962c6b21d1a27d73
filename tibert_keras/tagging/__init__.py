"""Words with their parts of speech: corpora, their split, a baseline and scores. Pure Python and NumPy."""

from tibert_keras.tagging.sentences import (
    CONTINUATION,
    SYLLABLE_PATTERN,
    UNKNOWN_TAG,
    Document,
    TaggedWord,
    known_words,
    labels_of,
    split_syllables,
    syllable_labels,
    word_key,
)

__all__ = [
    "CONTINUATION",
    "SYLLABLE_PATTERN",
    "UNKNOWN_TAG",
    "Document",
    "TaggedWord",
    "known_words",
    "labels_of",
    "split_syllables",
    "syllable_labels",
    "word_key",
]
