"""Tells which pieces of a vocabulary may follow each other in a gap, so that they make whole syllables."""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from functools import cache

import numpy as np

from tibert_keras.inference.gaps import LETTER, MARK, SIGN, SPACE, TIBETAN, TSHEG_MARK, UNMARKED, edge, syllables_of
from tibert_keras.tibetan import NATIVE_SYLLABLE, PUNCTUATION

_ENCLOSED = re.compile(rf"(?<=[{PUNCTUATION} ])[^{PUNCTUATION}\s]+(?=[{PUNCTUATION}])")
_NATIVE = re.compile(NATIVE_SYLLABLE)
# The edges that may follow each edge.
_FOLLOWS = {
    LETTER: {LETTER, SIGN, TSHEG_MARK, MARK, SPACE},  # no shad is written after ག, only the space
    SIGN: {LETTER, SIGN, TSHEG_MARK, MARK, SPACE},
    TSHEG_MARK: {LETTER, MARK},
    MARK: {LETTER, MARK, SPACE},
    SPACE: {LETTER, MARK, SPACE},
    UNMARKED: {TSHEG_MARK},
}


class PieceTable:
    """The pieces of a vocabulary, with their edges and numbers of syllables."""

    def __init__(self, pieces: Sequence[str]) -> None:
        self.pieces = [piece.replace("▁", " ") for piece in pieces]
        self._tibetan = tibetan = np.array([TIBETAN.fullmatch(piece) is not None for piece in self.pieces])
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
        # Whether pieces begin with the tsheg before their syllable, as BPE over running text makes them.
        self.has_leading_tsheg = bool((tibetan & (self._first == TSHEG_MARK) & (self._count > 0)).any())

    def all_real(self, syllables: Sequence[str]) -> bool:
        """Whether each syllable is spelled as Tibetan, or is a whole syllable inside a piece, as loanwords are."""
        return all(_NATIVE.fullmatch(syllable) or syllable in self._whole for syllable in syllables)

    def counts(self, last: int, count: int) -> np.ndarray:
        """Number of syllables of a text with `count` that ends in `last`, after each piece, int `[vocabulary]`."""
        return count + self._count - (self._goes_on if last in (LETTER, SIGN) else 0)

    def may_follow(self, last: int) -> np.ndarray:
        """The pieces that may follow an edge, bool `[vocabulary]`."""
        return self._may_follow[last]

    def may_end(self, text: str | None, ending: str | None) -> np.ndarray:
        """The pieces that may end a gap after `text`, bool `[vocabulary]`.

        Args:
            text: The text in the gap so far; `None` for any.
            ending: The marks that the gap must end with; if empty, it must end with a letter or sign; if `None`, with
                anything but a space.
        """
        if ending is None:
            return self._last != SPACE
        if not ending:
            return np.isin(self._last, [LETTER, SIGN])
        allowed = self._only(self._by_end.beginning_with(ending[::-1]))
        for start in range(1, len(ending)):
            if (text is None or text.endswith(ending[:start])) and ending[start:] in self._index:
                allowed[self._index[ending[start:]]] = True
        return allowed

    def kinds(self, pieces: np.ndarray | bool = True) -> set[tuple[int, int, int]]:
        """The first edge, last edge and number of syllables of the Tibetan pieces among some, bool `[vocabulary]`."""
        kinds = np.unique(np.stack([self._first, self._last, self._count])[:, self._tibetan & pieces], axis=1)
        return set(zip(*kinds.tolist(), strict=True))

    def agrees(self, text: str) -> np.ndarray:
        """The pieces that a known text begins with, or that begin with it, bool `[vocabulary]`."""
        shorter = [self._index[text[:end]] for end in range(1, len(text)) if text[:end] in self._index]
        return self._only([*self._by_beginning.beginning_with(text), *shorter])

    def goes_on(self, text: str) -> bool:
        """Whether a longer piece begins with a text."""
        return any(self.pieces[each] != text for each in self._by_beginning.beginning_with(text))

    def comes_before(self, text: str) -> bool:
        """Whether a longer piece ends with a text."""
        return any(self.pieces[each] != text for each in self._by_end.beginning_with(text[::-1]))

    def _only(self, numbers: Sequence[int]) -> np.ndarray:
        chosen = np.zeros(len(self.pieces), bool)
        chosen[list(numbers)] = True
        return chosen


class Completions:
    """Tells whether pieces can still complete a text in a gap, as far as their edges and syllables decide."""

    def __init__(self, table: PieceTable) -> None:
        self._kinds = table.kinds()
        self._last_kinds = cache(lambda ending: table.kinds(table.may_end(None, ending)))
        self.is_possible = cache(self._is_possible)

    def _is_possible(self, last: int, count: int, pieces: int, syllables: tuple[int, int], ending: str | None) -> bool:
        """Whether it is possible. If not, the search would find nothing."""
        goes_on, (low, high) = last in (LETTER, SIGN), syllables
        after = {
            (end, count + more - (goes_on and first in (LETTER, SIGN)))
            for first, end, more in (self._kinds if pieces > 1 else self._last_kinds(ending))
            if first in _FOLLOWS[last]
        }
        if pieces == 1:
            return any(low <= each <= high for _, each in after)
        return any(each <= high and self.is_possible(edge, each, pieces - 1, syllables, ending) for edge, each in after)


class _Index:
    """Finds strings by their beginning, by bisection."""

    def __init__(self, strings: Sequence[str]) -> None:
        self._numbers = sorted(range(len(strings)), key=strings.__getitem__)
        self._sorted = [strings[number] for number in self._numbers]

    def beginning_with(self, text: str) -> list[int]:
        start = bisect_left(self._sorted, text)
        end = bisect_right(self._sorted, text, lo=start, key=lambda string: string[: len(text)])
        return self._numbers[start:end]
