"""Finds where sentences may end: after shads, with the text before and after each."""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from tibert_keras.tagging.words import split_syllables
from tibert_keras.tibetan import SHADS, SYLLABLE_SPACES

# The labels of a section end that ends a sentence, and of one inside a sentence.
SENTENCE, SECTION = "sentence", "section"
# Syllables before and after it that the classifier sees: together they fit in 64 pieces, with most vocabularies.
_BEFORE, _AFTER = 20, 10

_SHAD = re.compile(f"[{SHADS}]")
_SECTION = re.compile(rf"[^{SHADS}]*[{SHADS}](?:[{SHADS}]|\s)*|[^{SHADS}]+\Z")


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
    """Make examples for a classifier from a text with known sentences.

    Yields:
        For each section end its label, and the text before and after it. The label is `sentence` if nothing but shads
        and spaces lie between the end of a sentence and that of the section.
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
