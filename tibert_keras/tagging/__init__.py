"""Words with their parts of speech: corpora, their split, a baseline and scores."""

from tibert_keras.tagging.confusion import ConfusionMatrix
from tibert_keras.tagging.most_frequent_tag import MostFrequentTag
from tibert_keras.tagging.preparation import UNIVERSAL_TAGS, prepare
from tibert_keras.tagging.reading import read_tagged
from tibert_keras.tagging.scores import TaggingScores, mean_f1, score
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
from tibert_keras.tagging.split import make_split, read_split, split_documents, write_split

__all__ = [
    "CONTINUATION",
    "SYLLABLE_PATTERN",
    "UNIVERSAL_TAGS",
    "UNKNOWN_TAG",
    "ConfusionMatrix",
    "Document",
    "MostFrequentTag",
    "TaggedWord",
    "TaggingScores",
    "known_words",
    "labels_of",
    "make_split",
    "mean_f1",
    "prepare",
    "read_split",
    "read_tagged",
    "score",
    "split_documents",
    "split_syllables",
    "syllable_labels",
    "word_key",
    "write_split",
]
