"""Read Esukhia's `derge-kangyur` and `derge-tengyur`: one text file for each volume.

Each line starts with its folio and line number, `[1a.1]`, and each side of a folio with a line `[1a]` of its own.
`[33xa]` is a folio number used twice, and the catalogue volume numbers some lines `[N.M]`. For the rest of the markup
see `markup.py`.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from tibert_keras.corpus.markup import resolve_markup
from tibert_keras.corpus.report import ReadingReport

_MARKER = re.compile(r"\[[\d ]+x?[ab]?(?:\.\d+)?\]")
_OPENING = re.compile(r"\ufeff?\[\d+x?[ab](?:\.\d+)?\]")


def has_esukhia_markup(line: str) -> bool:
    """Return whether a line starts with a folio or line marker."""
    return _OPENING.match(line) is not None


def esukhia_text(lines: Iterable[str], report: ReadingReport, **options: Any) -> Iterator[str]:
    """Remove the markup from the lines of a volume; the options are those of `resolve_markup`."""
    return resolve_markup((_drop_markers(line, report) for line in lines), report, **options)


def _drop_markers(line: str, report: ReadingReport) -> str:
    def drop(match: re.Match[str]) -> str:
        report.count("line marker" if "." in match[0] else "folio marker", len(match[0]))
        return ""

    return _MARKER.sub(drop, line)
