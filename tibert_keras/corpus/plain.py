"""Reader of plain text: documents with blank lines between them, in any language.

Nothing in such a file is markup: only control characters go, everything else stays. A line ends a section, and so
does a space in it, as everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from tibert_keras.corpus.report import ReadingReport
from tibert_keras.corpus.sections import DOCUMENT_BREAK
from tibert_keras.storage import read_lines
from tibert_keras.tibetan import EDITION_SPACES

_SPACES = re.compile(EDITION_SPACES)
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ufeff]")


def read_plain(path: str, report: ReadingReport) -> Iterator[str]:
    """Read a plain text file, of any size, as running text for `split_sections`.

    Args:
        path: The file, local or remote.
        report: Takes the counts of dropped characters.

    Yields:
        Lines of text, each closed by a space, so that every line ends a section.

    Raises:
        InputError: If the file cannot be read, is empty, or is not UTF-8.
    """
    return plain_text(read_lines(path), report)


def plain_text(lines: Iterable[str], report: ReadingReport) -> Iterator[str]:
    """Mark where documents start in the lines of a plain text; see `read_plain`."""

    def drop(_: re.Match[str]) -> str:
        report.count("control character", 1)
        return ""

    for line in lines:
        text = _CONTROL.sub(drop, _SPACES.sub(" ", line))
        yield f"{text} " if text.strip() else DOCUMENT_BREAK
