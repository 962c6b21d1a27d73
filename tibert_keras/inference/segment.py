"""Sentences of texts of any length, by a classifier of the ends of sections."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, groupby, islice
from typing import Any

import numpy as np

from tibert_keras.errors import InputError
from tibert_keras.inference.tag import TextConfig, with_tibetan
from tibert_keras.models.tibert_text_classifier import TibertTextClassifier
from tibert_keras.runs.folder import find_preset
from tibert_keras.storage import atomic_output, expand_glob, read_lines
from tibert_keras.tagging.sentence_ends import (
    SECTION,
    SENTENCE,
    SectionEnd,
    cut_sections,
    section_ends,
    sentence_examples,
)
from tibert_keras.tagging.writing import escape

_IN_LINE = "\n\r\t"


@dataclass(frozen=True, kw_only=True)
class SegmentConfig(TextConfig):
    """Cuts text into sentences, by a classifier of the ends of sections.

    Args:
        text: Texts, each by itself.
        model: Folder of such a classifier (a preset, as `champion/` of a fine-tuning on what `tibert segment examples`
            makes), or of a fine-tuning.
    """


def segment_text(config: SegmentConfig) -> Iterator[str]:
    r"""Cut the texts that a configuration gives or names into sentences.

    Yields:
        The sentences, a line each, with a line break in them as `\n`, a tab as `\t` and a backslash as `\\`: undone and
        joined, they are the text.

    Raises:
        InputError: If the model is no classifier of the ends of sections, or the text cannot be read or has no Tibetan.
    """
    model = TibertTextClassifier.from_preset(find_preset(config.model))
    blocks = _blocks(with_tibetan(config.lines()))
    return (f"{escape(sentence, _IN_LINE)}\n" for sentence in sentences(model, blocks, batch_size=config.batch_size))


def _blocks(lines: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Lines with their ends, and an empty block before each document but the first: an empty line ends one."""
    has_text = is_over = False
    for line, end in lines:
        if line.strip():
            if is_over:
                yield ""
            has_text, is_over = True, False
        else:
            # What parts two texts is an empty block itself.
            has_text = is_over = has_text and bool(end)
        yield line + end


def sentences(model: Any, blocks: Iterable[str], *, batch_size: int = 32) -> Iterator[str]:
    """Cut a text into sentences.

    Args:
        model: A `TibertTextClassifier` with the labels `sentence` and `section`.
        blocks: The text, in pieces of any length; an empty one ends a document, and with it a sentence.
        batch_size: Ends of sections a step. No more of the text is held than these and a sentence.

    Returns:
        The sentences, which joined are the text. A text without shads is one.

    Raises:
        InputError: If the model has other labels.
    """
    if sorted(model.labels) != sorted((SENTENCE, SECTION)):
        raise InputError(
            "The classifier does not tell where sentences end. "
            f"Received: labels={model.labels}, not {[SECTION, SENTENCE]}. Train one on `tibert segment examples`."
        )
    documents = (document for has_text, document in groupby(blocks, bool) if has_text)
    ends = chain.from_iterable(section_ends(cut_sections(document)) for document in documents)
    return _joined(model, ends, batch_size)


def _joined(model: Any, ends: Iterator[SectionEnd], batch_size: int) -> Iterator[str]:
    sentence, most = "", 0
    while batch := list(islice(ends, batch_size)):
        # The last batch is as large as the others, for which the model is compiled.
        most = max(most, len(batch))
        rows = [*batch, *batch[:1] * (most - len(batch))]
        # KerasHub takes a tuple by itself for a text and its label.
        inputs = model.preprocessor(([end.before for end in rows], [end.after for end in rows]), y=None)
        logits = np.asarray(model.predict_on_batch(inputs), "float32")
        for end, row in zip(batch, logits, strict=False):
            sentence += end.section
            # Nothing comes after the last of a document.
            if not end.after or model.labels[row.argmax()] == SENTENCE:
                yield sentence
                sentence = ""
    if sentence:
        yield sentence


@dataclass(frozen=True, kw_only=True)
class SegmentExamplesConfig:
    """Makes examples for a classifier of the ends of sections.

    Args:
        input_file: UTF-8 files with a sentence a line, in the order of the text: a path, a glob pattern, or several
            with commas between them. An empty line ends a document.
        output_file: Table for `tibert finetune text`.
    """

    input_file: str
    output_file: str


def segment_examples(config: SegmentExamplesConfig) -> dict[str, int]:
    """Write examples: what stands before and after the end of each section, with whether a sentence ends there.

    Returns:
        How many there are of each label.

    Raises:
        InputError: If a file cannot be read, or there is no section that ends inside a sentence, or none at its end.
    """
    counts = {SENTENCE: 0, SECTION: 0}
    with atomic_output(config.output_file) as path, path.open("w", encoding="utf-8", newline="\n") as file:
        for source in expand_glob(config.input_file):
            for document in _documents(read_lines(source)):
                for label, before, after in sentence_examples(document):
                    counts[label] += 1
                    file.write(f"{label}\t{before}\t{after}\n")
        if not all(counts.values()):
            raise InputError(
                "A classifier learns from ends of both kinds. "
                f"Received: {counts} in {config.input_file!r}. Give text with a sentence a line."
            )
    return counts


def _documents(lines: Iterable[str]) -> Iterator[list[str]]:
    document: list[str] = []
    for line in lines:
        if line.strip():
            document.append(line)
        elif document:
            yield document
            document = []
    if document:
        yield document
