"""The sections of a card, what of an older one goes into a new one, and what the cards of all runs have."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from tibert_keras.errors import InputError
from tibert_keras.storage import atomic_output, exists, read_bytes

Sections = list[tuple[str, str]]

FILL_IN = "*To fill in: {}*"
# What people write; a card that is written anew keeps it. The first is the header.
_OF_PEOPLE = ("", "Purpose", "Notable limitations", "Additional comments")

# What a heading is, and what may hold a line that only looks like one: the YAML header and code between fences.
_HEADING = re.compile(
    r"\A---\n.*?^---$|^ {0,3}(?P<fence>`{3,}|~{3,}).*?(?:^ {0,3}(?P=fence)|\Z)|^## +(?P<name>[^\n]+?) *$",
    re.DOTALL | re.MULTILINE,
)


def write_sections(sections: Sections, path: str) -> str:
    """Write a card, with what people wrote into an older one, and return its path.

    Raises:
        InputError: If the older one is not UTF-8.
    """
    if exists(path):
        sections = keep_sections(sections, read_sections(path), _OF_PEOPLE)
    with atomic_output(path) as temporary:
        temporary.write_text(join_sections(sections), encoding="utf-8")
    return path


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


# === What the cards of all runs have ===


def table(header: Iterable[Any], rows: Iterable[Iterable[Any]]) -> str:
    """A table in Markdown."""
    lines = [[str(cell) for cell in line] for line in (header, *rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def code_versions(environment: list[dict[str, Any]]) -> str:
    """What a run was run with."""
    if not environment:
        return "Not recorded: the run was made by a version of tibert_keras that did not note it."
    return "\n\n".join(map(_phase, environment))


def _phase(phase: dict[str, Any]) -> str:
    commit = phase.get("commit")
    lines = [
        f"From step {phase['from_step']:,}, with Keras on {phase.get('backend')}, "
        + ("the commit of tibert_keras" if commit else "tibert_keras installed, not in a checkout: no commit"),
        f"> {commit}" if commit else "",
        table(("package", "version"), phase["versions"].items()),
    ]
    return "\n\n".join(filter(None, lines))
