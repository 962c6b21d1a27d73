"""Resolve the editorial markup shared by Esukhia's editions and OpenPecha's base texts.

Esukhia's `derge-kangyur` and `derge-tengyur` have one text file for each volume. A folio number used twice is `33xa`.

| markup | meaning | result |
|---|---|---|
| `{D1}` `{D1-1}` `{D7a}` `{T1}` | start of a text in the Tohoku catalogue | starts a document, if wanted |
| `{archaic,modern}` | normalised spelling | one of the two |
| `(error,correction)` `<error,correction>` | correction, either side may be empty | one of the two |
| `[X]` | error candidate | the text without the brackets |
| `{X}` | the same, mistyped (its one verse needs the text for its metre) | the text without the braces |
| `[1a]` `[1a.1]` `[33xa]` `[12.3]` | Esukhia's marker of a folio or a line | dropped |
| `#` `:` | anchors of notes on the Peydurma edition | dropped |
| `@` `*` `p` `]` `‘` `’`, digits, U+FFFD ... | typing errors, bad bytes | dropped |

The comma may be a low quotation mark (U+201A). Everything else that is not Tibetan is dropped as unknown markup.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any, Literal

from tibert_keras.corpus.report import ReadingReport
from tibert_keras.corpus.sections import DOCUMENT_BREAK
from tibert_keras.tibetan import BLOCK, EDITION_SPACES, SHADS

Reading = Literal["original", "corrected"]

_PLAIN = re.compile(f"[{BLOCK} ]*")
_SPACES = re.compile(EDITION_SPACES)
# Two ids of the Tengyur lack the closing brace.
_TOHOKU_ID = re.compile(r"\{[DT]\d+(?:-\d+|[a-z])?\}?")
_PAIR = re.compile(
    "{side}|{round}|{angle}".format(
        side=r"\{([^(){}<>,\u201a]*)[,\u201a]([^(){}<>]*)\}",
        round=r"\(([^(){}<>,\u201a]*)[,\u201a]([^(){}<>]*)\)",
        angle=r"<([^(){}<>,\u201a]*)[,\u201a]([^(){}<>]*)>",
    )
)
_PAIR_KINDS = {"{": "archaic spelling", "(": "correction", "<": "correction in angle brackets"}
_BRACKETED = re.compile(rf"\[([{BLOCK} ]+)\]|\{{([{BLOCK} ]+)\}}")
_UNCLOSED = re.compile(r"[({<][^)}>]*$")

_STRAY_KINDS = {
    "note anchor #": "#",
    "note anchor :": ":",
    "bad bytes": "\ufffd",
    "byte-order mark": "\ufeff",
    "stray digits": "[0-9]+",
    "stray letter": "(?<![A-Za-z])[A-Za-z](?![A-Za-z])",
    "stray sign": r"[@*\u2018\u2019\]]",
    "Devanagari": "[\u0900-\u097f]+",
    "control character": "[\x00-\x1c\x1e\x1f\x7f-\x9f\u200b-\u200f]",
    "unknown": rf"[^{BLOCK} {DOCUMENT_BREAK}#:\ufffd\ufeff0-9@*\u2018\u2019\]\u0900-\u097f]+",
}
_STRAY = re.compile("|".join(f"({pattern})" for pattern in _STRAY_KINDS.values()))
_STRAY_NAMES = list(_STRAY_KINDS)
_CONTEXT = 12

_FOLIO = re.compile(r"\[[\d ]+x?[ab]?(?:\.\d+)?\]")
# How a line of Esukhia's editions may start.
LINE_START = re.compile(r"\ufeff?\[\d+x?[ab](?:\.\d+)?\]")


def esukhia_text(lines: Iterable[str], report: ReadingReport, **options: Any) -> Iterator[str]:
    """Remove the markup from the lines of a volume; the options are those of `resolve_markup`."""
    return resolve_markup((_drop_markers(line, report) for line in lines), report, **options)


def _drop_markers(line: str, report: ReadingReport) -> str:
    def drop(match: re.Match[str]) -> str:
        report.count("line marker" if "." in match[0] else "folio marker", len(match[0]))
        return ""

    return _FOLIO.sub(drop, line)


def resolve_markup(
    lines: Iterable[str], report: ReadingReport, *, reading: Reading = "original", tohoku_documents: bool = True
) -> Iterator[str]:
    """Remove the markup from the lines of a volume and count it; the rest is running text for `split_sections`."""
    for number, line in _join_split_pairs(enumerate(lines, start=1)):
        yield line if _PLAIN.fullmatch(line) else _resolve(line, report, number, reading, tohoku_documents)


def _join_split_pairs(lines: Iterable[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """Join two lines, under the number of the first, where a pair such as `{archaic,modern}` crosses the line end."""
    held_number, held = 0, ""
    for number, line in lines:
        if not line:
            continue
        if held:
            joined = held + " " * held.endswith(tuple(SHADS)) + line
            if not _UNCLOSED.search(joined):
                yield held_number, joined
                held = ""
                continue
            # It does not close here. `resolve_markup` reports it as unknown markup.
            yield held_number, held
        held = line if _UNCLOSED.search(line) else ""
        held_number = number
        if not held:
            yield number, line
    if held:
        yield held_number, held


def _resolve(text: str, report: ReadingReport, line: int, reading: Reading, tohoku_documents: bool) -> str:
    document_break = DOCUMENT_BREAK if tohoku_documents else ""
    text = report.leave_out(_TOHOKU_ID, "Tohoku id", _SPACES.sub(" ", text), instead=document_break)
    text = _resolve_pairs(text, report, side=0 if reading == "original" else 1)
    return _drop_strays(_unbracket(text, report), report, line)


def _resolve_pairs(text: str, report: ReadingReport, *, side: int) -> str:
    def choose(match: re.Match[str]) -> str:
        kept = [group for group in match.groups() if group is not None][side]
        report.count(_PAIR_KINDS[match[0][0]], len(match[0]) - len(kept))
        return kept

    found = 1
    while found:  # Repeat for nested pairs: `(X,{A,B})`.
        text, found = _PAIR.subn(choose, text)
    return text


def _unbracket(text: str, report: ReadingReport) -> str:
    def keep(match: re.Match[str]) -> str:
        report.count("error candidate" if match[1] else "stray braces", 2)
        return match[1] or match[2]

    return _BRACKETED.sub(keep, text)


def _drop_strays(text: str, report: ReadingReport, line: int) -> str:
    def drop(match: re.Match[str]) -> str:
        kind = _STRAY_NAMES[(match.lastindex or 0) - 1]
        if kind == "unknown":
            report.add_unknown(line, match[0], text[max(0, match.start() - _CONTEXT) : match.end() + _CONTEXT])
        else:
            report.count(kind, len(match[0]))
        return ""

    return _STRAY.sub(drop, text)
