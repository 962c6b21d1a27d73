"""Gaps in texts: how they are written, and which pieces may stand in them so that whole syllables come out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tibert_keras.errors import InputError
from tibert_keras.tokenizers.tibert_tokenizer import INTERSYLLABIC_MARKS

MASK = "[MASK]"
TSHEG = "་"
# Beyond it the guesses say little, and the search takes long.
MAX_SYLLABLES = 8
MAX_TOKENS = 16

GAP = re.compile(r"(?:\[MASK\])+|\[GAP:([^\]\n]*)\]?")
_RANGE = re.compile(r"\s*(\d{1,3})\s*(?:-\s*(\d{1,3})\s*)?")
_MARKS = re.compile(f"[{INTERSYLLABIC_MARKS}]*")
_SYLLABLE = re.compile(rf"[^{INTERSYLLABIC_MARKS}\s]+")
_ENCLOSED = re.compile(rf"(?<=[{INTERSYLLABIC_MARKS} ])[^{INTERSYLLABIC_MARKS}\s]+(?=[{INTERSYLLABIC_MARKS}])")
# Vowel signs, subjoined letters and other signs that stand on a letter.
_COMBINING = "\u0f18\u0f19\u0f35\u0f37\u0f39\u0f3e\u0f3f\u0f71-\u0f84\u0f86\u0f87\u0f8d-\u0fbc\u0fc6"
# Prefix, stack, vowel, two suffixes and the particles that are written in one with them. Which letter goes with which
# is left to the model.
_NATIVE = re.compile(
    "[གདབམའ]?[\u0f40-\u0f6c][\u0f90-\u0fbc]*[\u0f71-\u0f7d\u0f80]?[གངདནབམའརལས]?[སད]?(འ([ིོུ]|[ིུ]ས|ང|མ))*|[\u0f20-\u0f33]+"
)
_TIBETAN = re.compile("[ \u0f00-\u0fd8]+")

# What the edge of a piece or of a text is.
LETTER, SIGN, TSHEG_MARK, MARK, SPACE = range(5)
# A syllable's end whose tsheg the gap itself has to bring.
UNMARKED = 5
# Which edge may follow which.
_FOLLOWS = {
    LETTER: {LETTER, SIGN, TSHEG_MARK, MARK, SPACE},  # no shad is written after ག, but the space is
    SIGN: {LETTER, SIGN, TSHEG_MARK, MARK, SPACE},
    TSHEG_MARK: {LETTER, MARK},
    MARK: {LETTER, MARK, SPACE},
    SPACE: {LETTER, MARK, SPACE},
    UNMARKED: {TSHEG_MARK},
}


@dataclass(frozen=True)
class Gap:
    """A gap in a text.

    Attributes:
        start: Where it begins in the text, in characters.
        end: Where it ends.
        tokens: How many pieces it has, or `None` if that is unknown.
        syllables: The fewest and the most syllables.
    """

    start: int
    end: int
    tokens: int | None
    syllables: tuple[int, int]


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
            gaps.append(Gap(*match.span(), tokens, (1, 2**15)))
        else:
            gaps.append(Gap(*match.span(), None, _read_range(match[0], match[1])))
    if not gaps:
        raise InputError(
            f"There is nothing to fill. Received: {_short(text)!r}. "
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
            f"Received: {_short(written)!r}. Write it so, or {MASK} for a single piece."
        )
    return low, high


def average_length(written: str, inside: str) -> int:
    """The number of syllables that a gap of unknown length has on average."""
    return sum(_read_range(written, inside)) // 2


def _short(text: str) -> str:
    return text if len(text) <= 100 else f"{text[:100]}…"


def fill_in(text: str, fillings: Sequence[str | None]) -> str:
    """Put one filling in each gap of a text, or leave the gap where it is `None`."""
    remaining = iter(fillings)
    return GAP.sub(lambda match: next(remaining) or match[0], text)


def edge(character: str) -> int:
    """Tell what a character at the edge of a text or piece is; the edge of an empty text is a space."""
    if not character or character.isspace():
        return SPACE
    if character in (TSHEG, "༌"):
        return TSHEG_MARK
    if character in INTERSYLLABIC_MARKS or not _TIBETAN.fullmatch(character):
        return MARK
    return SIGN if re.match(f"[{_COMBINING}]", character) else LETTER


def leading_marks(text: str) -> str:
    """The marks between syllables that a text begins with."""
    return _MARKS.match(text)[0]  # type: ignore[index]


def syllables_of(text: str) -> list[str]:
    """The syllables of a text, without the marks between them."""
    return _SYLLABLE.findall(text)


def readable(spelled: str, *, before: str, after: str) -> str:
    """Give the syllables of a filling as they stand in the line, in place of the gap.

    Args:
        spelled: The filling, with the marks at its ends.
        before: The text before the gap.
        after: The text after it.
    """
    text = spelled.strip(f"{INTERSYLLABIC_MARKS} ")
    # A letter that touches the gap is the end, or the beginning, of another syllable.
    left = TSHEG if edge(before[-1:]) in (LETTER, SIGN) else ""
    right = TSHEG if edge(after[:1]) in (LETTER, SIGN) or GAP.match(after) else ""
    return f"{left}{text}{right}"


class PieceTable:
    """What the pieces of a vocabulary may follow, and how many syllables they bring.

    Args:
        pieces: The vocabulary.

    Attributes:
        pieces: The vocabulary, as text: a space for `▁`.
    """

    def __init__(self, pieces: Sequence[str]) -> None:
        self.pieces = [piece.replace("▁", " ") for piece in pieces]
        tibetan = np.array([_TIBETAN.fullmatch(piece) is not None for piece in self.pieces])
        self._first = np.array([edge(piece[:1]) for piece in self.pieces])
        self._last = np.array([edge(piece[-1:]) for piece in self.pieces])
        self._count = np.array([len(syllables_of(piece)) for piece in self.pieces])
        self._goes_on = np.isin(self._first, [LETTER, SIGN]).astype(int)
        self._may_follow = {last: tibetan & np.isin(self._first, sorted(firsts)) for last, firsts in _FOLLOWS.items()}
        self._index = {piece: number for number, piece in enumerate(self.pieces)}
        self._whole = {
            syllable
            for piece in self.pieces
            for syllable in _ENCLOSED.findall(piece)
            if not _NATIVE.fullmatch(syllable)
        }
        # Whether pieces bring the tsheg before their syllable, as they do after BPE over running text.
        self.has_leading_tsheg = bool((tibetan & (self._first == TSHEG_MARK) & (self._count > 0)).any())

    def all_real(self, syllables: Sequence[str]) -> bool:
        """Whether each syllable is spelled as Tibetan syllables are, or stands whole in a piece, as loanwords do."""
        return all(_NATIVE.fullmatch(syllable) or syllable in self._whole for syllable in syllables)

    def counts(self, last: int, count: int) -> np.ndarray:
        """How many syllables a text that has `count` and ends in `last` has with each piece, int `[vocabulary]`."""
        return count + self._count - (self._goes_on if last in (LETTER, SIGN) else 0)

    def may_follow(self, last: int) -> np.ndarray:
        """Which pieces may stand after an edge, bool `[vocabulary]`."""
        return self._may_follow[last]

    def may_end(self, text: str, ending: str | None) -> np.ndarray:
        """Which pieces may end a gap after `text`, bool `[vocabulary]`.

        Args:
            text: What is in the gap already.
            ending: The marks that the gap has to end with; if empty, it ends with a letter or sign; if `None`, as
                it may.
        """
        if ending is None:
            return self._last != SPACE
        if not ending:
            return np.isin(self._last, [LETTER, SIGN])
        allowed = self._ends_with(ending).copy()
        for start in range(1, len(ending)):
            if text.endswith(ending[:start]) and ending[start:] in self._index:
                allowed[self._index[ending[start:]]] = True
        return allowed

    def agrees(self, text: str) -> np.ndarray:
        """Which pieces a known text begins with, or begin with it, bool `[vocabulary]`."""
        return np.array([piece.startswith(text) or text.startswith(piece) for piece in self.pieces])

    def goes_on(self, text: str) -> bool:
        """Whether a piece begins with a text and goes on after it."""
        return any(piece.startswith(text) and piece != text for piece in self.pieces)

    def comes_before(self, text: str) -> bool:
        """Whether a piece ends with a text, after something else."""
        return any(piece.endswith(text) and piece != text for piece in self.pieces)

    def _ends_with(self, ending: str) -> np.ndarray:
        return np.array([piece.endswith(ending) for piece in self.pieces])
