r"""The white space of tagged text: how formats write it, and where an edition has it when they do not.

A form that cannot hold a character has its escape, as UDPipe writes it: `\s` for a space, `\t`, `\r`, `\n`, `\p` for a
bar, and `\\` for the backslash itself (https://universaldependencies.org/misc.html#spacesafter).
"""

import re
from collections.abc import Iterable, Iterator, Sequence

from tibert_keras.tagging.words import TaggedWord
from tibert_keras.tibetan import DIGITS, LETTERS, SHADS, YIG_MGO

ESCAPES = {"\\": "\\\\", "\t": "\\t", "\r": "\\r", "\n": "\\n", " ": "\\s", "|": "\\p"}
_ESCAPE = re.compile("|".join(map(re.escape, ESCAPES.values())))
_MEANINGS = {escape: character for character, escape in ESCAPES.items()}
# A byte-order mark and the ends of lines are part of a file, not of its words.
_NOT_TEXT = re.compile("[\ufeff\r\n]+")
_SHAD, _SHAD_AT_END = re.compile(f"[{SHADS}]"), re.compile(f"[{SHADS}]$")
_SINGLE_SHAD_AT_END = re.compile(rf"(?<![{SHADS}])(?<![{SHADS}]\s)[{SHADS}]$")
_LETTER = re.compile(f"[{YIG_MGO}{LETTERS}{DIGITS}]")


def escape(text: str, characters: str) -> str:
    """Escape the given characters, and the backslash."""
    return "".join(ESCAPES[each] if each in characters or each == "\\" else each for each in text)


def unescape(text: str) -> str:
    """Undo `escape`."""
    return _ESCAPE.sub(lambda match: _MEANINGS[match[0]], text)


def clean_form(text: str) -> str:
    """Remove byte-order marks and line ends from a form."""
    return _NOT_TEXT.sub("", text)


def space_between(before: str, after: str) -> str:
    """Return the space that an edition has at a place of a text, or nothing.

    There is one between two shads, and between a single shad and a letter; the second of two shads belongs to the
    letters after it: `ལོ། །ངས་ ... སོ། ངས་`.
    """
    if _SHAD_AT_END.search(before) and _SHAD.match(after):
        return " "
    return " " if _SINGLE_SHAD_AT_END.search(before) and _LETTER.match(after) else ""


def put_back_spaces(words: Sequence[TaggedWord]) -> Iterator[TaggedWord]:
    """Add the spaces that a format without spaces has lost: `ལོ།།ངས་` becomes `ལོ། །ངས་`."""
    forms = ["", *(word.form for word in words), ""]
    for index, word in enumerate(words, start=1):
        space = space_between(forms[index - 1] + word.form, forms[index + 1])
        yield TaggedWord(word.form + space, word.tag)


def attach_spaces(words: Iterable[TaggedWord]) -> list[TaggedWord]:
    """Join each word that is nothing but white space with the word before it or, at the start, the one after it."""
    attached: list[TaggedWord] = []
    opening = ""
    for word in words:
        if word.form.strip():
            attached.append(TaggedWord(opening + word.form, word.tag))
            opening = ""
        elif attached:
            attached[-1] = TaggedWord(attached[-1].form + word.form, attached[-1].tag)
        else:
            opening += word.form
    return attached
