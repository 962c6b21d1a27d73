"""Fine-tunes a tagger of words and their parts of speech."""

import logging
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any

import keras

from tibert_keras.finetuning.config import FinetuneTokensConfig, read_unchanged
from tibert_keras.finetuning.scores import CONFUSION_PICTURE, Scores
from tibert_keras.finetuning.seeds import run_seeds
from tibert_keras.finetuning.task import Examples, FinetuningTask
from tibert_keras.models.tibert_token_classifier import TibertTokenClassifier
from tibert_keras.models.tibert_token_classifier_preprocessor import TibertTokenClassifierPreprocessor
from tibert_keras.storage import join
from tibert_keras.tagging.metrics import MostFrequentTag, TaggingScores, score_tagging
from tibert_keras.tagging.preparation import prepare_documents
from tibert_keras.tagging.reading import read_split, read_tagged, split_documents
from tibert_keras.tagging.windows import consecutive_windows, tag_lines
from tibert_keras.tagging.words import UNKNOWN_TAG, Document, TaggedWord, known_words, labels_of, split_syllables

# All but the boundary scores are also given for the words seen in training and for those not seen.
_COLUMNS = (
    "boundary_precision", "boundary_recall", "boundary_f1", "word_precision", "word_recall", "word_f1", "joint_f1",
    "tag_accuracy", "tag_weighted_f1", "tag_macro_f1", "label_accuracy", "label_weighted_f1", "label_macro_f1",
)  # fmt: skip
# [CLS] and [SEP].
_SPECIAL_TOKENS = 2

_LOG = logging.getLogger(__name__)


def finetune_tokens(config: FinetuneTokensConfig) -> Scores:
    """Fine-tune a tagger, or train the seeds that a run lacks; the best seed's model is in `champion/`.

    Returns the scores of all seeds and of the baseline.
    """
    return run_seeds(config, _Tagging)


class _Tagging(FinetuningTask):
    criterion = "joint_f1"
    columns = _COLUMNS
    model_class, preprocessor_class = TibertTokenClassifier, TibertTokenClassifierPreprocessor

    def __init__(self, config: FinetuneTokensConfig) -> None:
        parts, files = read_unchanged(config, _read)
        self.known = known_words(parts["train"])
        super().__init__(config, parts, labels_of(parts["train"]), files=files)
        _LOG.info("%d sequences, %d labels", len(self.sequences[1]), len(self.labels))

    def encode(self, part: str) -> Examples:
        return encode_documents(
            self.preprocessor, self.parts[part], dupe_count=self.config.dupe_count, dupe_offset=self.config.dupe_offset
        )

    def measure(self, model: keras.Model, part: str) -> dict[str, float]:
        return self._score(model, part).values

    def baseline(self, part: str) -> dict[str, float]:
        tagger = MostFrequentTag().fit(self.parts["train"])
        documents = self.parts[part]
        return score_tagging(documents, [tagger.tag(each.text) for each in documents], known=self.known).values

    def draw(self, model: keras.Model, part: str, run_dir: str) -> None:
        self._score(model, part).confusion.plot(join(run_dir, CONFUSION_PICTURE))

    def describe_data(self) -> dict[str, Any]:
        measured = self.parts[self.final_part]
        words = [[[word.form, word.tag] for each in measured for word in each.words], sorted(self.known)]
        return {
            "documents": {part: len(documents) for part, documents in self.parts.items()},
            "words": {part: sum(len(each.words) for each in documents) for part, documents in self.parts.items()},
            # The training words decide which words count as seen.
            "measured_on": words,
        }

    def _score(self, model: keras.Model, part: str) -> TaggingScores:
        documents = self.parts[part]
        found = tag_documents(model, documents, batch_size=self.config.eval_batch_size)
        return score_tagging(documents, list(found), known=self.known)


def _read(config: FinetuneTokensConfig) -> dict[str, list[Document]]:
    """Read and prepare the documents of each part. Only training counts decide which tags are too rare."""
    read = partial(read_tagged, shad_spaces=bool(config.shad_spaces))
    if config.split_file is not None:
        parts = split_documents(read(config.input_file), read_split(config.split_file))
    else:
        files = {"train": config.input_file, "validation": config.validation_file, "test": config.test_file}
        parts = {part: read(pattern) for part, pattern in files.items() if pattern is not None}
    named = {
        part: prepare_documents(documents, universal_tags=config.universal_tags, min_tag_count=1)
        for part, documents in parts.items()
        if documents
    }
    train = prepare_documents(named["train"], min_tag_count=config.min_tag_count)
    kept = set(labels_of(train))
    _report_unknown_tags(named, kept)
    others = {part: prepare_documents(named[part], keep_tags=kept) for part in named if part != "train"}
    return {"train": train, **others}


def _report_unknown_tags(parts: Mapping[str, Sequence[Document]], kept: Collection[str]) -> None:
    """Log the tags that become `UNK`: one that never occurs in training may be a mistake."""
    counts = {part: Counter(word.tag for each in documents for word in each.words) for part, documents in parts.items()}
    for part, of_part in counts.items():
        unknown = {tag: count for tag, count in of_part.most_common() if tag not in kept}
        if unknown:
            _LOG.info("%s: %d words are %s, for their tags are too rare", part, sum(unknown.values()), UNKNOWN_TAG)
        if new := [f"{tag!r} ({count})" for tag, count in unknown.items() if tag not in counts["train"]]:
            shown = ", ".join(new[:10]) + ", ..." * (len(new) > 10)
            _LOG.warning("%s: among them are words with tags that no word in training has: %s", part, shown)


def encode_documents(
    preprocessor: TibertTokenClassifierPreprocessor,
    documents: Sequence[Document],
    *,
    dupe_count: int = 1,
    dupe_offset: int = 20,
) -> Examples:
    """Encode prepared documents for all epochs, cut between words into sequences that fit the model.

    The first sequence of pass k over the documents has k times `dupe_offset` words, which moves the cuts.
    """
    sentences: list[Sequence[TaggedWord]] = []
    size = preprocessor.sequence_length - _SPECIAL_TOKENS
    for document in documents:
        lengths, first_lengths = _word_lengths(preprocessor, document)
        for number in range(dupe_count):
            windows = consecutive_windows(lengths, first_lengths, size=size, head=number * dupe_offset)
            sentences += [document.words[window] for window in windows]
    words = [[word.form for word in sentence] for sentence in sentences]
    x, y, weights = preprocessor(words, [[word.tag for word in sentence] for sentence in sentences])
    return x, y, weights


def _word_lengths(preprocessor: TibertTokenClassifierPreprocessor, document: Document) -> tuple[list[int], list[int]]:
    """Count the pieces of each word inside a text, and at the start of one."""
    syllables = split_syllables(document.text)
    encode = preprocessor.tokenizer.encode_syllables
    inside, alone = encode([syllables])[0], encode([[syllable] for syllable in syllables])
    lengths, first_lengths, index = [], [], 0
    for word in document.words:
        begin, characters = index, 0
        while characters < len(word.form):
            characters += len(syllables[index])
            index += 1
        lengths.append(sum(map(len, inside[begin:index])))
        first_lengths.append(lengths[-1] - len(inside[begin]) + len(alone[begin][0]))
    return lengths, first_lengths


def tag_documents(model: Any, documents: Sequence[Document], *, batch_size: int = 64) -> Iterator[list[TaggedWord]]:
    """Segment and tag documents independently of each other; see `tag_lines`."""
    # An empty line ends a document.
    lines = (line for document in documents for line in (document.text, ""))
    return islice(tag_lines(model, lines, batch_size=batch_size), 0, None, 2)
