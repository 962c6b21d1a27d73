"""Cuts long texts into windows, to train on and to tag."""

import math
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, chain, islice
from typing import Any, NamedTuple

import numpy as np

from tibert_keras.tagging.words import CONTINUATION, UNKNOWN_TAG, TaggedWord, split_syllables
from tibert_keras.tokenizers.bounds import check_text
from tibert_keras.transcription import goes_on, join_lines

# Pieces that two windows share.
OVERLAP = 32
# Extra pieces that the first syllable of a window may have: in the middle of a text it has no space before it.
_SLACK = 4


class Window(NamedTuple):
    """A stretch of text that is tagged at once.

    Attributes:
        syllables: Its syllables.
        first: Index of the first syllable that this window decides.
        last: Index after the last one. The others are context; the neighbouring windows decide them.
    """

    syllables: list[str]
    first: int
    last: int


def overlapping_windows(syllables: Iterable[tuple[str, int]], *, size: int, overlap: int) -> Iterator[Window]:
    """Cut a text into windows so that each syllable is decided with context on both sides.

    Two windows share about `overlap` pieces, of which each decides the half farther from its edge. A syllable with more
    pieces than `size` is a window of its own. Only one window is held in memory.
    """
    held: list[tuple[str, int]] = []
    # Of the syllables held: the first undecided one, and the number of pieces.
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
    """Count the last syllables that together have at most `limit` pieces, and their pieces."""
    totals = list(accumulate(reversed(lengths), initial=0))
    kept = max(bisect_right(totals, limit) - 1, 0)
    return kept, totals[kept]


def _half(lengths: Sequence[int]) -> int:
    """Count the syllables that make up the first half of the pieces."""
    return bisect_left(list(accumulate(lengths, initial=0)), sum(lengths) / 2)


def consecutive_windows(
    lengths: Sequence[int], first_lengths: Sequence[int], *, size: int, head: int = 0
) -> Iterator[slice]:
    """Cut a text into training windows of at most `size` pieces, which do not overlap, and yield the words of each.

    `first_lengths` are the pieces of each word at the start of a window, where the space before it is a piece too. A
    word of more than `size` is a window of its own. The first window has `head` words at most, which moves all cuts.
    """
    start = pieces = 0
    for index, (length, first_length) in enumerate(zip(lengths, first_lengths, strict=True)):
        if index > start and (pieces + length > size or index == head):
            yield slice(start, index)
            start = index
        pieces = first_length if index == start else pieces + length
    if start < len(lengths):
        yield slice(start, len(lengths))


def tag_lines(model: Any, lines: Iterable[str], *, batch_size: int = 64) -> Iterator[list[TaggedWord]]:
    """Find and tag the words of each line of a text of any length; joined, their forms are the line.

    The model reads the text in overlapping windows, so that it sees every syllable with context on both sides. It
    looks across a line break, which after a shad is a space to it and after a tsheg or a letter nothing, but a word
    always ends there. An empty line, or one of white space, ends a document: the model does not look across it.
    """
    preprocessor = model.preprocessor
    waiting: deque[tuple[str, list[str]]] = deque()
    scores: deque[np.ndarray] = deque()
    windows = _windows(preprocessor, iter(lines), waiting)
    most = 0
    while batch := list(islice(windows, batch_size)):
        # Pad the last batch to the size of the others, so that the model is not compiled again.
        most = max(most, len(batch))
        scores.extend(chain.from_iterable(_scores(model, batch, rows=most)))
        yield from _whole_lines(preprocessor, waiting, scores)
    yield from _whole_lines(preprocessor, waiting, scores)


def _windows(preprocessor: Any, lines: Iterator[str], waiting: deque[tuple[str, list[str]]]) -> Iterator[Window]:
    """Yield the windows of all documents, and append each line to `waiting` when it is read."""
    size = preprocessor.sequence_length - 2 - _SLACK
    ended = False

    def document() -> Iterator[tuple[str, int]]:
        nonlocal ended
        for line in lines:
            check_text(line, max_bytes=math.inf)
            # The model gets no pieces for white space and markers.
            syllables = split_syllables(line) if join_lines(line).strip() else []
            waiting.append((line, syllables))
            (pieces,) = preprocessor.tokenizer.encode_syllables([syllables])
            for index, (syllable, of_syllable) in enumerate(zip(syllables, pieces, strict=True), 1):
                is_last = index == len(syllables)
                yield f"{syllable} " if is_last and not goes_on(line) else syllable, len(of_syllable)
            # In a file with CRLF an empty line still has its carriage return.
            if not line.strip():
                return
        ended = True

    while not ended:
        yield from overlapping_windows(document(), size=size, overlap=min(OVERLAP, size // 2))


def _scores(model: Any, windows: list[Window], *, rows: int) -> Iterator[np.ndarray]:
    """Yield the logits of the syllables that each window decides, `[syllables, labels]`."""
    preprocessor = model.preprocessor
    packed = preprocessor.pack_syllables([window.syllables for window in windows])
    inputs = {
        name: np.concatenate([values, np.repeat(values[:1], rows - len(values), axis=0)])
        for name, values in packed.inputs.items()
    }
    logits = np.asarray(model.predict_on_batch(inputs), "float32")
    # A syllable without pieces belongs to the word before it.
    unseen = np.array([0.0 if label == CONTINUATION else -np.inf for label in preprocessor.labels], "float32")
    for row, window in enumerate(windows):
        positions = packed.positions[row][window.first : window.last]
        yield np.where((positions < 0)[:, None], unseen, logits[row, positions])


def _whole_lines(
    preprocessor: Any, waiting: deque[tuple[str, list[str]]], scores: deque[np.ndarray]
) -> Iterator[list[TaggedWord]]:
    """Yield the words of the lines whose syllables all have scores."""
    while waiting and len(waiting[0][1]) <= len(scores):
        line, syllables = waiting.popleft()
        if syllables:
            yield preprocessor.join(syllables, np.stack([scores.popleft() for _ in syllables]))
        else:
            yield [TaggedWord(line, UNKNOWN_TAG)] if line else []
