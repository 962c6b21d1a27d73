"""Split running text into sections and documents, in the same way for every edition.

- A section ends at a space, and at a shad that ends a line, with or without a space after it (half of them lack
  it). A line end alone ends nothing: syllables and words broken over two lines are joined.
- A document starts at a yig mgo (a run of ༄ or ༅) and at each `DOCUMENT_BREAK` of a reader.
- Every section has a letter or digit. A piece of punctuation alone is joined, after a space, to the section before
  it (`…རྫོགས་སོ།། །།`), or at the start of a document to the next (`༄༅༅། །རྒྱ་གར་སྐད་དུ།`). The second half of the
  double shad `། །` stays with the text after it, as in the original corpus.
"""

import itertools
import re
from collections.abc import Iterable, Iterator

from tibert_keras.tibetan import SHADS, YIG_MGO

# Marks the start of a document in running text. No edition has ASCII's "group separator".
DOCUMENT_BREAK = "\x1d"

_ENDINGS = tuple(SHADS)
_YIG_MGO = re.compile(f"[{YIG_MGO}]+")
_LETTER = re.compile(r"\w")


def split_sections(lines: Iterable[str]) -> Iterator[str]:
    """Split a stream of text into the lines of a corpus file: sections, and an empty one between two documents."""
    section = opener = ""
    between = False
    for piece in _pieces(lines):
        if piece != DOCUMENT_BREAK and not _LETTER.search(piece):
            if section:
                section += f" {piece}"
            else:
                opener += f"{piece} "
            continue
        if section:
            yield section
        if piece == DOCUMENT_BREAK:
            between = between or bool(section)
            section = ""
            continue
        if between:
            yield ""
        section, opener, between = opener + piece, "", False
    if section:
        yield section
    elif opener:
        yield from ["", opener.rstrip()] if between else [opener.rstrip()]


def _pieces(lines: Iterable[str]) -> Iterator[str]:
    rest = ""
    for line in lines:
        text = rest + line
        if text.endswith(_ENDINGS):
            text += " "
        if any(mark in text for mark in YIG_MGO):
            text = _YIG_MGO.sub(rf"{DOCUMENT_BREAK}\g<0>", text)
        if DOCUMENT_BREAK in text:
            text = text.replace(DOCUMENT_BREAK, f" {DOCUMENT_BREAK} ")
        *pieces, rest = text.split(" ")
        yield from filter(None, pieces)
    if rest:
        yield rest


def group_documents(sections: Iterable[str]) -> Iterator[list[str]]:
    """Group the lines of a corpus file into documents, lists of sections, of which none is empty."""
    for is_document, lines in itertools.groupby(sections, bool):
        if is_document:
            yield list(lines)
