"""Read plain text in any language: documents separated by blank lines.

A space ends a section, and so does a line, unless it is broken inside a Tibetan sentence: such lines are joined.
Nothing in such a file is markup but markers of pages, folios and lines, which are told by their shape.
"""

import re
from collections.abc import Iterable, Iterator, Sequence

from tibert_keras.corpus.report import NO_BREAK_SPACE, ReadingReport
from tibert_keras.corpus.sections import DOCUMENT_BREAK
from tibert_keras.tibetan import EDITION_SPACES, LETTERS, MARKER, SHADS
from tibert_keras.transcription import close_lines

_SPACES = re.compile(EDITION_SPACES)
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ufeff]")
_NO_BREAK_SPACE = re.compile(f"(?<=[{LETTERS}])\u00a0(?=[{LETTERS}])")
_MARKERS = re.compile(
    # ACIP's `@012A`, OpenPecha's `i-12` and its ids, and a page number alone on a line are markers here, too.
    rf"{MARKER}|@[0-9]{{1,4}}[ABab]\b|\bi-[0-9]{{1,5}}\b|OpenPechaUUID:\w{{6}}"
    rf"|^\s*(?:[-–—]\s*)?[0-9]{{1,5}}(?:\s*[-–—])?\s*$"
)
# So many lines without a shad are a list.
_MAX_HELD = 200


def plain_text(lines: Iterable[str], report: ReadingReport) -> Iterator[str]:
    """Join the broken lines of a plain text file, and mark the starts of documents, for `split_sections`.

    Lines are joined as by `join_lines`, and one that ends a section has a space at its end. Where a document has no
    shads at all, every line is a text of its own, as in a list of words.
    """
    # The lines whose ends are undecided: the last one, or all until it is known whether the document has shads.
    held: list[str] = []
    has_shads: bool | None = None
    for line in lines:
        text = clean_line(line, report)
        if text.strip():
            held.append(text)
            if has_shads is None and (any(shad in text for shad in SHADS) or len(held) == _MAX_HELD):
                has_shads = len(held) < _MAX_HELD
            if has_shads is not None:
                yield from _joined(held, has_shads)
                held = held[-1:]
        elif not line.strip():
            yield from _joined([*held, ""], bool(has_shads))
            yield DOCUMENT_BREAK
            held, has_shads = [], None
        # Otherwise a marker alone on its line, perhaps between two lines of a sentence.
    yield from _joined([*held, ""], bool(has_shads))


def _joined(lines: Sequence[str], has_shads: bool) -> Iterator[str]:
    """Yield all lines but the last."""
    return close_lines(lines) if has_shads else (f"{line} " for line in lines[:-1])


def clean_line(line: str, report: ReadingReport) -> str:
    """Take control characters and markers out of a line, and count them; any white space is a space."""
    for _ in _NO_BREAK_SPACE.finditer(line):
        report.count(NO_BREAK_SPACE, 0)
    line = report.leave_out(_CONTROL, "control character", _SPACES.sub(" ", line))
    return report.leave_out(_MARKERS, "page or line marker", line)
