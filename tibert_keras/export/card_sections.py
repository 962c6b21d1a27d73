"""The sections of a card, and what of an older one goes into a new one."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tibert_keras.errors import InputError
from tibert_keras.storage import read_bytes

Sections = list[tuple[str, str]]

# What a heading is, and what may hold a line that only looks like one: the YAML header and code between fences.
_HEADING = re.compile(
    r"\A---\n.*?^---$|^ {0,3}(?P<fence>`{3,}|~{3,}).*?(?:^ {0,3}(?P=fence)|\Z)|^## +(?P<name>[^\n]+?) *$",
    re.DOTALL | re.MULTILINE,
)


def read_sections(path: str) -> Sections:
    """Read a card's headings of the second level, each with the text below it; the first, without heading, is "".

    Raises:
        InputError: If it is not UTF-8.
    """
    try:
        text = read_bytes(path).decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise InputError(
            f"Not a UTF-8 file: {error.reason} at byte {error.start}. Received: {path!r}. Convert it to UTF-8 first."
        ) from error
    headings = [match for match in _HEADING.finditer(text) if match["name"]]
    names, starts = ["", *(match["name"] for match in headings)], [0, *(match.end() for match in headings)]
    ends = [*(match.start() for match in headings), len(text)]
    return [(name, text[start:end]) for name, start, end in zip(names, starts, ends, strict=True)]


def keep_sections(sections: Sections, older: Sections, of_people: Sequence[str]) -> Sections:
    """Put what people wrote into new sections: those that are theirs, and at the end those that they added."""
    theirs, added = {}, []
    for name, text in older:
        if name in theirs or name not in dict(sections):
            added.append((name, text))
        else:
            theirs[name] = text
    return [(name, theirs.get(name, text) if name in of_people else text) for name, text in sections] + added


def join_sections(sections: Sections) -> str:
    """The text of a card."""
    return "\n\n".join((f"## {name}\n\n" if name else "") + text.strip("\n") for name, text in sections) + "\n"
