"""Read plain text in any language: documents separated by blank lines.

Nothing in such a file is markup: only control characters are dropped. A line ends a section, and so does a space.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from tibert_keras.corpus.report import ReadingReport
from tibert_keras.corpus.sections import DOCUMENT_BREAK
from tibert_keras.tibetan import EDITION_SPACES

_SPACES = re.compile(EDITION_SPACES)
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ufeff]")


def plain_text(lines: Iterable[str], report: ReadingReport) -> Iterator[str]:
    """Mark the starts of documents in the lines of a plain text file.

    Args:
        lines: The lines of the file.
        report: Collects the counts of dropped characters.

    Yields:
        Lines of running text for `split_sections`, each with a space at its end, so that every line ends a section.
    """

    def drop(_: re.Match[str]) -> str:
        report.count("control character", 1)
        return ""

    for line in lines:
        text = _CONTROL.sub(drop, _SPACES.sub(" ", line))
        yield f"{text} " if text.strip() else DOCUMENT_BREAK
