"""Reader of Esukhia's `derge-kangyur` and `derge-tengyur`: a text file a volume, a line of print a line.

Each line opens with its number, `[1a.1]`, each side of a folio with a line `[1a]` of its own; `[33xa]` is a
folio numbered twice, and the catalogue volume numbers some lines `[N.M]`. The rest of the markup is in `markup.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from tibert_keras.corpus.markup import Reading, join_split_pairs, resolve_markup
from tibert_keras.corpus.report import ReadingReport
from tibert_keras.storage import read_lines

_MARKER = re.compile(r"\[[\d ]+x?[ab]?(?:\.\d+)?\]")
_OPENING = re.compile(r"\ufeff?\[\d+x?[ab](?:\.\d+)?\]")


def has_esukhia_markup(line: str) -> bool:
    """Whether a line opens with a folio or line marker."""
    return _OPENING.match(line) is not None


def read_esukhia(
    path: str, report: ReadingReport, *, reading: Reading = "original", tohoku_documents: bool = True
) -> Iterator[str]:
    """Read a volume as running text for `split_sections`.

    Args:
        path: The volume's file, local or remote.
        report: Takes the counts of markup and dropped characters.
        reading: "original" keeps archaic and uncorrected spellings, "corrected" takes the edition's others.
        tohoku_documents: Whether a Tohoku id starts a document.

    Yields:
        Lines of text without markup.

    Raises:
        InputError: If the file cannot be read, is empty, or is not UTF-8.
    """
    return esukhia_text(read_lines(path), report, reading=reading, tohoku_documents=tohoku_documents)


def esukhia_text(
    lines: Iterable[str],
    report: ReadingReport,
    *,
    reading: Reading = "original",
    tohoku_documents: bool = True,
) -> Iterator[str]:
    """Take the markup out of the lines of a volume; see `read_esukhia`."""
    unmarked = ((number, _drop_markers(line, report)) for number, line in enumerate(lines, start=1))
    for number, text in join_split_pairs(unmarked):
        yield resolve_markup(text, report, line=number, reading=reading, tohoku_documents=tohoku_documents)


def _drop_markers(line: str, report: ReadingReport) -> str:
    def drop(match: re.Match[str]) -> str:
        report.count("line marker" if "." in match[0] else "folio marker", len(match[0]))
        return ""

    return _MARKER.sub(drop, line)
