"""Writes the fillings of a whole text for its editor: a table, JSON, or TEI."""

import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from html import escape
from typing import NamedTuple

from tibert_keras.corpus.transliteration import to_wylie
from tibert_keras.errors import InputError
from tibert_keras.inference.gaps import fill_in, find_gaps
from tibert_keras.storage import atomic_output
from tibert_keras.transcription import GAP

# The least score of each of TEI's degrees of certainty.
CERTAINTIES = {"high": 0.5, "medium": 0.1, "low": 0.0}
# Characters of context in a table.
_CONTEXT = 24
# Control characters and the like.
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

# For each gap of a text its fillings with their scores, the likeliest first.
Fillings = Sequence[Sequence[tuple[str, float]]]
# The signs that an edition has in place of the gaps, as `mark_gaps` returns them.
_Signs = Sequence[str | None]


class Conjecture(NamedTuple):
    """The fillings of a gap, the likeliest first, with its line and number, from 1, and the text around it."""

    line: int
    gap: int
    before: str
    written: str
    after: str
    candidates: Sequence[tuple[str, float]]


def certainty(score: float) -> str:
    """Name a score as TEI's `cert` does: `high` from 0.5, `medium` from 0.1, else `low`."""
    return next(name for name, least in CERTAINTIES.items() if score >= least)


def conjectures(text: str, fillings: Fillings, signs: _Signs = ()) -> Iterator[Conjecture]:
    """Yield the gaps of a text, with the signs that an edition has in their place, their places and fillings."""
    gaps = list(GAP.finditer(text))
    written = [sign or gap[0] for gap, sign in zip(gaps, signs or [None] * len(gaps), strict=True)]
    text, longer = fill_in(text, written), 0
    for number, (gap, sign, candidates) in enumerate(zip(gaps, written, fillings, strict=True), 1):
        start = gap.start() + longer
        before, after = text[:start], text[start + len(sign) :]
        longer += len(sign) - len(gap[0])
        yield Conjecture(
            line=before.count("\n") + 1,
            gap=number,
            before=before[before.rfind("\n") + 1 :][-_CONTEXT:],
            written=sign,
            after=after.partition("\n")[0].rstrip("\r")[:_CONTEXT],
            candidates=candidates,
        )


def check_conjectures_file(name: str) -> None:
    """Raise `InputError` if the name of a file says no format."""
    if os.path.splitext(name)[1] not in _WRITERS:
        raise InputError(
            f"The file's name says its format. Received: conjectures_file={name!r}. "
            "Let it end in .tsv, .json or .xml (TEI)."
        )


def write_conjectures(
    text: str, fillings: Fillings, path: str | os.PathLike[str], *, signs: _Signs = (), show_wylie: bool = False
) -> None:
    """Write the fillings of a text to a `.tsv`, `.json` or TEI `.xml` file, which appears only when it is complete."""
    name = os.fspath(path)
    check_conjectures_file(name)
    with atomic_output(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(_WRITERS[os.path.splitext(name)[1]](text, fillings, signs, show_wylie))


def _table(text: str, fillings: Fillings, signs: _Signs, show_wylie: bool) -> Iterator[str]:
    yield "line\tgap\trank\tguess\tscore\tbefore\twritten\tafter" + "\twylie" * show_wylie + "\n"
    for each in conjectures(text, fillings, signs):
        around = "\t".join(part.replace("\t", " ") for part in (each.before, each.written, each.after))
        for rank, (guess, score) in enumerate(each.candidates, 1):
            wylie = f"\t{to_wylie(guess)}" if show_wylie else ""
            yield f"{each.line}\t{each.gap}\t{rank}\t{guess}\t{score:.6g}\t{around}{wylie}\n"


def _json(text: str, fillings: Fillings, signs: _Signs, show_wylie: bool) -> Iterator[str]:
    rows = [
        {
            **each._asdict(),
            "candidates": [
                {"text": guess, "score": round(score, 6), "cert": certainty(score)}
                | ({"wylie": to_wylie(guess)} if show_wylie else {})
                for guess, score in each.candidates
            ],
        }
        for each in conjectures(text, fillings, signs)
    ]
    yield json.dumps(rows, ensure_ascii=False, indent=1) + "\n"


def _tei(text: str, fillings: Fillings, _signs: _Signs, _show_wylie: bool) -> Iterator[str]:
    """A TEI document of the text, in which the best fillings are supplied, and line breaks are `<lb/>`."""
    yield (
        '<?xml version="1.0" encoding="UTF-8"?>\n<TEI xmlns="http://www.tei-c.org/ns/1.0">\n<teiHeader><fileDesc>\n'
        "<titleStmt><title>A transcription with conjectures</title></titleStmt>\n"
        "<publicationStmt><p>Unpublished</p></publicationStmt>\n"
        "<sourceDesc><p>Gaps filled by a language model (tibert_keras); cert is high for a score of at least "
        f"{CERTAINTIES['high']}, medium from {CERTAINTIES['medium']}, else low.</p></sourceDesc>\n"
        '</fileDesc></teiHeader>\n<text xml:lang="bo"><body><ab>\n'
    )
    end = 0
    for gap, candidates in zip(find_gaps(text), fillings, strict=True):
        yield _with_line_breaks(text[end : gap.start])
        yield _supplied(gap.begins, candidates, gap.ends)
        end = gap.end
    yield _with_line_breaks(text[end:])
    yield "\n</ab></body></text>\n</TEI>\n"


def _with_line_breaks(text: str) -> str:
    text = _NOT_IN_XML.sub("\ufffd", text.replace("\r\n", "\n"))
    return escape(text, quote=False).replace("\n", "\n<lb/>")


def _supplied(begins: str, candidates: Sequence[tuple[str, float]], ends: str) -> str:
    if not candidates:
        return f'{begins}<gap reason="lost" unit="syllable"/>{ends}'
    guess, score = candidates[0]
    inside = guess[len(begins) : len(guess) - len(ends)]
    supplied = f'<supplied reason="lost" cert="{certainty(score)}">{escape(inside)}</supplied>'
    return f"{begins}{supplied}{ends}"


_Writer = Callable[[str, Fillings, _Signs, bool], Iterator[str]]
_WRITERS: dict[str, _Writer] = {".tsv": _table, ".json": _json, ".xml": _tei}
