"""Words and tags of texts of any length, by a token classifier that takes sequences of a limited one."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Any

import numpy as np

from tibert_keras.tagging.windows import Window, overlapping_windows
from tibert_keras.tagging.words import CONTINUATION, UNKNOWN_TAG, TaggedWord, split_syllables

# Pieces that two windows share.
OVERLAP = 32
# Pieces that a window's first syllable may have more than in the middle of the text: there no space is before it.
_SLACK = 4


def tag_lines(model: Any, lines: Iterable[str], *, batch_size: int = 64) -> Iterator[list[TaggedWord]]:
    """Find the words of a text of any length, and tag them.

    The text is looked at through windows that overlap, so that every syllable is seen with what stands on both sides
    of it. A line break is a space to the model, across which it looks, and the end of a word; a line that is empty, or
    nothing but white space, is the end of a document, across which it does not look.

    Args:
        model: A `TibertTokenClassifier` with its preprocessor.
        lines: The lines of the text, without their ends.
        batch_size: Windows at once. No more of the text is held than these and the line they end in.

    Yields:
        The words of each line, whose forms joined are the line; none for an empty one.
    """
    preprocessor = model.preprocessor
    waiting: deque[tuple[str, list[str]]] = deque()
    scores: deque[np.ndarray] = deque()
    windows = _windows(preprocessor, iter(lines), waiting)
    most = 0
    while batch := list(islice(windows, batch_size)):
        # The last batch is as large as the others, for which the model is compiled.
        most = max(most, len(batch))
        scores.extend(chain.from_iterable(_scores(model, batch, rows=most)))
        yield from _whole_lines(preprocessor, waiting, scores)
    yield from _whole_lines(preprocessor, waiting, scores)


def _windows(preprocessor: Any, lines: Iterator[str], waiting: deque[tuple[str, list[str]]]) -> Iterator[Window]:
    """The windows of all documents; each line is put among those that wait for their words when it is read."""
    size = preprocessor.sequence_length - 2 - _SLACK
    ended = False

    def document() -> Iterator[tuple[str, int]]:
        nonlocal ended
        for line in lines:
            # What is no more than space is nothing to the model.
            syllables = [] if line.isspace() else split_syllables(line)
            waiting.append((line, syllables))
            (pieces,) = preprocessor.tokenizer.encode_syllables([syllables])
            for index, (syllable, of_syllable) in enumerate(zip(syllables, pieces, strict=True), 1):
                yield f"{syllable} " if index == len(syllables) else syllable, len(of_syllable)
            # As in a file with CRLF.
            if not line.strip():
                return
        ended = True

    while not ended:
        yield from overlapping_windows(document(), size=size, overlap=min(OVERLAP, size // 2))


def _scores(model: Any, windows: list[Window], *, rows: int) -> Iterator[np.ndarray]:
    """The logits of the syllables that each window decides, `[syllables, labels]`."""
    preprocessor = model.preprocessor
    packed = preprocessor.pack(["".join(window.syllables) for window in windows])
    inputs = {
        name: np.concatenate([values, np.repeat(values[:1], rows - len(values), axis=0)])
        for name, values in packed.inputs.items()
    }
    logits = np.asarray(model.predict_on_batch(inputs), "float32")
    # What has no pieces belongs to the word before it.
    unseen = np.array([0.0 if label == CONTINUATION else -np.inf for label in preprocessor.labels], "float32")
    for row, window in enumerate(windows):
        positions = packed.positions[row][window.first : window.last]
        yield np.where((positions < 0)[:, None], unseen, logits[row, positions])


def _whole_lines(
    preprocessor: Any, waiting: deque[tuple[str, list[str]]], scores: deque[np.ndarray]
) -> Iterator[list[TaggedWord]]:
    """The words of those lines whose syllables all have their scores."""
    while waiting and len(waiting[0][1]) <= len(scores):
        line, syllables = waiting.popleft()
        if syllables:
            yield preprocessor.join(syllables, np.stack([scores.popleft() for _ in syllables]))
        else:
            yield [TaggedWord(line, UNKNOWN_TAG)] if line else []
