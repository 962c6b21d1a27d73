"""Running text cut into sections and documents, the same way for every edition.

- A section ends at a space, and at a shad that ends a line whether or not a space follows it (half of them
  lack it). A syllable or word broken over a line is joined: a line end alone ends nothing.
- A document starts at a yig mgo (a run of ༄ or ༅) and wherever a reader puts `DOCUMENT_BREAK`.
- Every section has a letter or digit in it. A piece of punctuation alone goes, behind a space, with the section
  before it (`…རྫོགས་སོ།། །།`), or at the start of a document with the one that follows (`༄༅༅། །རྒྱ་གར་སྐད་དུ།`).
  The second half of the double shad `། །` has text behind it, and stays with that as in the original corpus.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from tibert_keras.tibetan import SHADS, YIG_MGO

# Readers put this where a document starts; ASCII's "group separator" is in no edition.
DOCUMENT_BREAK = "\x1d"

_ENDINGS = tuple(SHADS)
_YIG_MGO = re.compile(f"[{YIG_MGO}]+")
_LETTER = re.compile(r"\w")


def split_sections(lines: Iterable[str]) -> Iterator[str]:
    """Cut running text into sections, in memory that does not grow with the text.

    Args:
        lines: Lines without line ends; each goes on where the one before it stopped.

    Yields:
        Sections, with an empty string between two documents: the lines of a corpus file.
    """
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
    """Gather the lines of a corpus file (sections, empty strings between documents) into documents.

    Yields:
        Lists of sections; none is empty.
    """
    document: list[str] = []
    for section in sections:
        if section:
            document.append(section)
        elif document:
            yield document
            document = []
    if document:
        yield document
