"""Finds gaps in texts, and describes the text around them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from tibert_keras.errors import InputError
from tibert_keras.tibetan import BLOCK, COMBINING_SIGNS, PUNCTUATION, TSHEG, TSHEGS

MASK = "[MASK]"
# Longer gaps take long to search, for guesses that mean little.
MAX_SYLLABLES = 8
MAX_TOKENS = 16

GAP = re.compile(r"(?:\[MASK\])+|\[GAP:([^\]\n]*)\]?")
_RANGE = re.compile(r"\s*(\d{1,3})\s*(?:-\s*(\d{1,3})\s*)?")
_MARKS = re.compile(f"[{PUNCTUATION}]*")
_SYLLABLE = re.compile(rf"[^{PUNCTUATION}\s]+")
TIBETAN = re.compile(f"[ {BLOCK}]+")

# The kinds of edges that pieces and texts have.
LETTER, SIGN, TSHEG_MARK, MARK, SPACE = range(5)
# The end of a syllable whose tsheg is part of the gap.
UNMARKED = 5


@dataclass(frozen=True)
class Gap:
    """A gap in a text.

    Attributes:
        text: The text.
        start: Index of its first character.
        end: Index after its last character.
        tokens: Its number of pieces, or `None` if unknown.
        syllables: Minimum and maximum number of syllables.
    """

    text: str = field(repr=False)
    start: int
    end: int
    tokens: int | None
    syllables: tuple[int, int]

    def around(self, reach: int) -> tuple[str, str]:
        """Return `reach` characters before and after it, with masks in place of other gaps."""
        start, end = max(0, self.start - reach), min(len(self.text), self.end + reach)
        # Not through the middle of another gap.
        cut = GAP.match(self.text, self.text.rfind("[", 0, start))
        if cut and cut.start() < start < cut.end():
            start = cut.end()
        cut = GAP.match(self.text, self.text.rfind("[", self.end, end))
        if cut and self.end <= cut.start() < end < cut.end():
            end = cut.start()
        return _mask_gaps(self.text[start : self.start]), _mask_gaps(self.text[self.end : end])


def find_gaps(text: str) -> list[Gap]:
    """Find the gaps of a text: runs of `[MASK]`, and `[GAP:m-n]` or `[GAP:n]`.

    Raises:
        InputError: If a gap is written wrongly or is too long, or there is none.
    """
    gaps = []
    for match in GAP.finditer(text):
        if match[1] is None:
            tokens = len(match[0]) // len(MASK)
            if tokens > MAX_TOKENS:
                raise InputError(
                    f"A gap has at most {MAX_TOKENS} masks. Received: {tokens} times {MASK}. Leave out some."
                )
            gaps.append(Gap(text, *match.span(), tokens, (1, 2**15)))
        else:
            gaps.append(Gap(text, *match.span(), None, _read_range(match[0], match[1])))
    if not gaps:
        raise InputError(
            f"There is nothing to fill. Received: {shorten(text)!r}. "
            f"Write {MASK} where a piece is missing, or [GAP:2-4] where 2 to 4 syllables are."
        )
    return gaps


def _read_range(written: str, inside: str) -> tuple[int, int]:
    match = _RANGE.fullmatch(inside)
    low = int(match[1]) if match else 0
    high = int(match[2] or match[1]) if match else 0
    if not (1 <= low <= high <= MAX_SYLLABLES and written.endswith("]")):
        raise InputError(
            f"A gap is written [GAP:2-4], in syllables, the fewest first, from 1 to {MAX_SYLLABLES}. "
            f"Received: {shorten(written)!r}. Write it so, or {MASK} for a single piece."
        )
    return low, high


def _mask_gaps(text: str) -> str:
    """Replace gaps by masks, one for each syllable of their mean length."""
    return GAP.sub(
        lambda match: match[0] if match[1] is None else MASK * (sum(_read_range(match[0], match[1])) // 2), text
    )


def shorten(text: str) -> str:
    """Cut a text down for a message."""
    return text if len(text) <= 100 else f"{text[:100]}…"


def fill_in(text: str, fillings: Sequence[str | None]) -> str:
    """Replace each gap of a text by its filling; keep the gap if that is `None`."""
    remaining = iter(fillings)
    return GAP.sub(lambda match: next(remaining) or match[0], text)


def edge(character: str) -> int:
    """Classify the character at the edge of a text or piece. An empty one counts as a space."""
    if not character or character.isspace():
        return SPACE
    if character in TSHEGS:
        return TSHEG_MARK
    if character in PUNCTUATION or not TIBETAN.fullmatch(character):
        return MARK
    return SIGN if character in COMBINING_SIGNS else LETTER


def leading_marks(text: str) -> str:
    """The marks that a text begins with."""
    return _MARKS.match(text)[0]  # type: ignore[index]


def syllables_of(text: str) -> list[str]:
    """The syllables of a text, without the marks between them."""
    return _SYLLABLE.findall(text)


def readable(spelled: str, *, before: str, after: str) -> str:
    """Write a filling as it replaces the gap in the line.

    Args:
        spelled: The filling with the marks at its ends.
        before: The text before the gap.
        after: The text after it.
    """
    text = spelled.strip(f"{PUNCTUATION} ")
    # A letter next to the gap belongs to another syllable.
    left = TSHEG if edge(before[-1:]) in (LETTER, SIGN) else ""
    right = TSHEG if edge(after[:1]) in (LETTER, SIGN) or GAP.match(after) else ""
    return f"{left}{text}{right}"
