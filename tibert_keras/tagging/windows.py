"""Texts of any length in sequences of a limited one: consecutive windows to learn from, overlapping ones to tag."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple


class Window(NamedTuple):
    """A stretch of a text that is tagged at once.

    Attributes:
        syllables: Its syllables.
        first: Index of the first one that this window decides.
        last: Index after the last one. What lies outside is context, and decided by the windows beside this one.
    """

    syllables: list[str]
    first: int
    last: int


def overlapping_windows(syllables: Iterable[tuple[str, int]], *, size: int, overlap: int) -> Iterator[Window]:
    """Cut a text into windows such that each syllable is decided where it has context on both sides.

    Two windows share about `overlap` pieces. The first half of these is decided by the window before, the second by
    the one after: in each case by the one in which they are farther from the edge.

    Args:
        syllables: The syllables of a text of any length, each with the number of its pieces. No more of it is held
            than a window.
        size: The most pieces of a window. A syllable that has more is a window of its own.
        overlap: The most pieces that two windows share, fewer than `size`.

    Yields:
        The windows, in order. What they decide is the text, without gap or overlap.
    """
    held: list[tuple[str, int]] = []
    # Of the syllables held: where the undecided ones begin, and how many pieces there are.
    first = pieces = 0
    for syllable, count in syllables:
        if held and pieces + count > size:
            kept, shared = _tail([length for _, length in held], min(overlap, size - count))
            start = len(held) - kept
            last = max(first, start + _half([length for _, length in held[start:]]))
            yield Window([text for text, _ in held], first, last)
            held, first, pieces = held[start:], last - start, shared
        held.append((syllable, count))
        pieces += count
    if held:
        yield Window([text for text, _ in held], first, len(held))


def _tail(lengths: Sequence[int], limit: int) -> tuple[int, int]:
    """How many of the last syllables have together at most `limit` pieces, and how many pieces these have."""
    pieces = 0
    for kept, length in enumerate(reversed(lengths)):
        if pieces + length > limit:
            return kept, pieces
        pieces += length
    return len(lengths), pieces


def _half(lengths: Sequence[int]) -> int:
    """How many syllables make the first half of the pieces."""
    total, pieces = sum(lengths), 0
    for index, length in enumerate(lengths):
        if 2 * pieces >= total:
            return index
        pieces += length
    return len(lengths)


def consecutive_windows(
    lengths: Sequence[int], first_lengths: Sequence[int], *, size: int, head: int = 0
) -> Iterator[slice]:
    """Cut a text into windows to learn from, which do not overlap.

    Args:
        lengths: The pieces of each word inside a window.
        first_lengths: The pieces of each word as the first of a window, where the space before it is a piece too.
        size: The most pieces of a window. A word that has more is a window of its own.
        head: Words of the first window, if it is to be shorter: all cuts lie elsewhere then.

    Yields:
        The words of each window.
    """
    start = pieces = 0
    for index, (length, first_length) in enumerate(zip(lengths, first_lengths, strict=True)):
        if index > start and (pieces + length > size or index == head):
            yield slice(start, index)
            start = index
        pieces = first_length if index == start else pieces + length
    if start < len(lengths):
        yield slice(start, len(lengths))
