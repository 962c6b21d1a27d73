"""Cuts texts of any length into sentences, by a classifier of section ends: after shads, where sentences may end."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, groupby, islice
from typing import Any, NamedTuple

import numpy as np

from tibert_keras.corpus.sections import group_documents
from tibert_keras.errors import InputError
from tibert_keras.globs import check_outputs
from tibert_keras.inference.classify import load_classifier
from tibert_keras.inference.tag import TextConfig, find_input
from tibert_keras.storage import atomic_output, expand_glob, read_lines
from tibert_keras.tagging.spaces import escape
from tibert_keras.tagging.words import split_syllables
from tibert_keras.tibetan import SHADS, SYLLABLE_SPACES
from tibert_keras.tokenizers.bounds import check_text

_IN_LINE = "\n\r\t"
# The labels of a section end that ends a sentence, and of one inside a sentence.
SENTENCE, SECTION = "sentence", "section"
# Syllables before and after it that the classifier sees: together they fit in 64 pieces, with most vocabularies.
_BEFORE, _AFTER = 20, 10

_SHAD = re.compile(f"[{SHADS}]")
_SECTION = re.compile(rf"[^{SHADS}]*[{SHADS}](?:[{SHADS}]|\s)*|[^{SHADS}]+\Z")


@dataclass(frozen=True, kw_only=True)
class SegmentConfig(TextConfig):
    """Cuts text into sentences, by a classifier of section ends.

    Args:
        text: Texts, independent of each other.
        model: Folder of such a classifier (a preset, such as `champion/` of a fine-tuning on the output of
            `tibert segment examples`), or of a fine-tuning.
    """


def segment_text(config: SegmentConfig) -> Iterator[str]:
    r"""Cut the texts in a configuration or its file into sentences, one per line.

    Line breaks are escaped as `\n`, tabs as `\t` and backslashes as `\\`. Unescaped and joined, the lines are the text.
    """
    preset, lines = find_input(config, task="TibertTextClassifier")
    model = load_classifier(preset)
    found = sentences(model, _blocks(lines), batch_size=config.batch_size)
    return (f"{escape(sentence, _IN_LINE)}\n" for sentence in found)


def _blocks(lines: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Join lines and their ends, with an empty block between documents; an empty line ends a document."""
    has_text = is_over = False
    for line, end in lines:
        if line.strip():
            if is_over:
                yield ""
            has_text, is_over = True, False
        else:
            # The separator of two texts is an empty block itself.
            has_text = is_over = has_text and bool(end)
        yield line + end


def sentences(model: Any, blocks: Iterable[str], *, batch_size: int = 32) -> Iterator[str]:
    """Cut a text into sentences, which joined are the text. A text without shads is a single one.

    Args:
        model: A `TibertTextClassifier` with the labels `sentence` and `section`.
        blocks: The text in pieces of any length; an empty one ends a document, and with it a sentence.
        batch_size: Section ends per step. Only these and one sentence are held in memory.
    """
    if sorted(model.labels) != sorted((SENTENCE, SECTION)):
        raise InputError(
            "The classifier does not tell where sentences end. "
            f"Received: labels={model.labels}, not {[SECTION, SENTENCE]}. Train one on `tibert segment examples`."
        )
    documents = (document for has_text, document in groupby(_checked(blocks), bool) if has_text)
    ends = chain.from_iterable(section_ends(cut_sections(document)) for document in documents)
    return _joined(model, ends, batch_size)


def _checked(blocks: Iterable[str]) -> Iterator[str]:
    for block in blocks:
        check_text(block, max_bytes=math.inf)
        yield block


def _joined(model: Any, ends: Iterator[SectionEnd], batch_size: int) -> Iterator[str]:
    sentence, most = "", 0
    while batch := list(islice(ends, batch_size)):
        # Pad the last batch to the size of the others, so that the model is not compiled again.
        most = max(most, len(batch))
        rows = [*batch, *batch[:1] * (most - len(batch))]
        # Without `y`, KerasHub would take the tuple as a text and its label.
        inputs = model.preprocessor(([end.before for end in rows], [end.after for end in rows]), y=None)
        logits = np.asarray(model.predict_on_batch(inputs), "float32")
        for end, row in zip(batch, logits, strict=False):
            sentence += end.section
            # The end of a document ends a sentence.
            if not end.after or model.labels[row.argmax()] == SENTENCE:
                yield sentence
                sentence = ""


@dataclass(frozen=True, kw_only=True)
class SegmentExamplesConfig:
    """Makes examples for a classifier of section ends.

    Args:
        input_file: UTF-8 files with a sentence per line, in the order of the text: a path, a glob pattern, or several
            separated by commas. An empty line ends a document.
        output_file: Table for `tibert finetune text`.
    """

    input_file: str
    output_file: str

    def __post_init__(self) -> None:
        check_outputs(self.input_file, output_file=self.output_file)


def segment_examples(config: SegmentExamplesConfig) -> dict[str, int]:
    """Write examples: the text before and after each section end, and whether a sentence ends there."""
    counts = {SENTENCE: 0, SECTION: 0}
    with atomic_output(config.output_file) as path, path.open("w", encoding="utf-8", newline="\n") as file:
        for source in expand_glob(config.input_file):
            for document in group_documents(line.strip() for line in read_lines(source)):
                for label, before, after in sentence_examples(document):
                    counts[label] += 1
                    file.write(f"{label}\t{before}\t{after}\n")
        if not all(counts.values()):
            raise InputError(
                "A classifier learns from ends of both kinds. "
                f"Received: {counts} in {config.input_file!r}. Give text with a sentence a line."
            )
    return counts


# === Where sentences may end ===


class SectionEnd(NamedTuple):
    """The end of a section, where a sentence may end, with the syllables before and after it."""

    section: str
    before: str
    after: str


def cut_sections(blocks: Iterable[str]) -> Iterator[str]:
    """Cut a text after each run of shads and white space, without losing a character."""
    rest: list[str] = []
    for block in blocks:
        rest.append(block)
        # No section ends in the other blocks: search a long text without shads only once.
        if _SHAD.search(block):
            # The next block may continue a run of shads.
            *whole, last = _SECTION.findall("".join(rest))
            rest = [last]
            yield from whole
    yield from _SECTION.findall("".join(rest))


def section_ends(sections: Iterable[str]) -> Iterator[SectionEnd]:
    """Yield the ends of a text's sections; only the text around one end is held in memory."""
    before: list[str] = []
    waiting: list[str] = []
    following = 0
    for section in sections:
        waiting.append(section)
        following += len(split_syllables(section))
        while following - len(split_syllables(waiting[0])) >= _AFTER:
            following -= len(split_syllables(waiting[0]))
            yield _end(before, waiting)
    while waiting:
        yield _end(before, waiting)


def _end(before: list[str], waiting: list[str]) -> SectionEnd:
    section = waiting.pop(0)
    before[:] = [*before, *split_syllables(section)][-_BEFORE:]
    after = [syllable for text in waiting[:_AFTER] for syllable in split_syllables(text)]
    return SectionEnd(section, _on_one_line(before), _on_one_line(after[:_AFTER]))


def _on_one_line(syllables: list[str]) -> str:
    return " ".join("".join(syllables).split())


def sentence_examples(sentences: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    """Make examples for a classifier from a text with known sentences: a label, and the text before and after it.

    There is one for each section end. The label is `sentence` if nothing but shads and spaces lie between the end of a
    sentence and that of the section.
    """
    text, ends = "", set[int]()
    for sentence in sentences:
        text += sentence.strip()
        ends.add(len(text))
        text += " "
    # Cut as if the sentences were unknown: a line that begins with a shad continues the run of the line before.
    end = 0
    for section_end in section_ends(cut_sections([text])):
        last_letter = end + len(section_end.section.rstrip(SHADS + SYLLABLE_SPACES))
        end += len(section_end.section)
        label = SENTENCE if ends.intersection(range(last_letter, end + 1)) else SECTION
        yield label, section_end.before, section_end.after
