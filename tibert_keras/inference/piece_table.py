"""Which pieces of a vocabulary may stand in a gap, so that whole syllables come out."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

import numpy as np

from tibert_keras.inference.gaps import LETTER, MARK, SIGN, SPACE, TIBETAN, TSHEG_MARK, UNMARKED, edge, syllables_of
from tibert_keras.tibetan import NATIVE_SYLLABLE, PUNCTUATION

_ENCLOSED = re.compile(rf"(?<=[{PUNCTUATION} ])[^{PUNCTUATION}\s]+(?=[{PUNCTUATION}])")
_NATIVE = re.compile(NATIVE_SYLLABLE)
# Which edge may follow which.
_FOLLOWS = {
    LETTER: {LETTER, SIGN, TSHEG_MARK, MARK, SPACE},  # no shad is written after ག, but the space is
    SIGN: {LETTER, SIGN, TSHEG_MARK, MARK, SPACE},
    TSHEG_MARK: {LETTER, MARK},
    MARK: {LETTER, MARK, SPACE},
    SPACE: {LETTER, MARK, SPACE},
    UNMARKED: {TSHEG_MARK},
}


class PieceTable:
    """What the pieces of a vocabulary may follow, and how many syllables they bring.

    Args:
        pieces: The vocabulary.

    Attributes:
        pieces: The vocabulary, as text: a space for `▁`.
    """

    def __init__(self, pieces: Sequence[str]) -> None:
        self.pieces = [piece.replace("▁", " ") for piece in pieces]
        tibetan = np.array([TIBETAN.fullmatch(piece) is not None for piece in self.pieces])
        self._first = np.array([edge(piece[:1]) for piece in self.pieces])
        self._last = np.array([edge(piece[-1:]) for piece in self.pieces])
        self._count = np.array([len(syllables_of(piece)) for piece in self.pieces])
        self._goes_on = np.isin(self._first, [LETTER, SIGN]).astype(int)
        self._may_follow = {last: tibetan & np.isin(self._first, sorted(firsts)) for last, firsts in _FOLLOWS.items()}
        self._by_beginning = _Index(self.pieces)
        self._by_end = _Index([piece[::-1] for piece in self.pieces])
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
        allowed = self._only(self._by_end.beginning_with(ending[::-1]))
        for start in range(1, len(ending)):
            if text.endswith(ending[:start]) and ending[start:] in self._index:
                allowed[self._index[ending[start:]]] = True
        return allowed

    def agrees(self, text: str) -> np.ndarray:
        """Which pieces a known text begins with, or begin with it, bool `[vocabulary]`."""
        shorter = [self._index[text[:end]] for end in range(1, len(text)) if text[:end] in self._index]
        return self._only([*self._by_beginning.beginning_with(text), *shorter])

    def goes_on(self, text: str) -> bool:
        """Whether a piece begins with a text and goes on after it."""
        return any(self.pieces[each] != text for each in self._by_beginning.beginning_with(text))

    def comes_before(self, text: str) -> bool:
        """Whether a piece ends with a text, after something else."""
        return any(self.pieces[each] != text for each in self._by_end.beginning_with(text[::-1]))

    def _only(self, numbers: Sequence[int]) -> np.ndarray:
        chosen = np.zeros(len(self.pieces), bool)
        chosen[list(numbers)] = True
        return chosen


class _Index:
    """Finds strings by their beginning, without looking at each."""

    def __init__(self, strings: Sequence[str]) -> None:
        self._numbers = sorted(range(len(strings)), key=strings.__getitem__)
        self._sorted = [strings[number] for number in self._numbers]

    def beginning_with(self, text: str) -> list[int]:
        start = bisect_left(self._sorted, text)
        end = bisect_right(self._sorted, text, lo=start, key=lambda string: string[: len(text)])
        return self._numbers[start:end]
