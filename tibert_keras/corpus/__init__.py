"""From editions of the Tibetan canon to documents of sections, one a line."""

from tibert_keras.corpus.build import CorpusConfig, build_corpus
from tibert_keras.corpus.manifest import CorpusReport
from tibert_keras.corpus.report import ReadingReport, UnknownMarkup
from tibert_keras.corpus.sample import sample_documents, write_sample
from tibert_keras.corpus.sections import group_documents, split_sections
from tibert_keras.corpus.volumes import Edition, Volume, detect_edition, find_volumes, read_documents

__all__ = [
    "CorpusConfig",
    "CorpusReport",
    "Edition",
    "ReadingReport",
    "UnknownMarkup",
    "Volume",
    "build_corpus",
    "detect_edition",
    "find_volumes",
    "group_documents",
    "read_documents",
    "sample_documents",
    "split_sections",
    "write_sample",
]
