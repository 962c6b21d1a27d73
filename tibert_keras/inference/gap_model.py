"""Wraps a masked language model for the gap search."""

from __future__ import annotations

import weakref
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from tibert_keras.errors import InputError
from tibert_keras.formats.numpy_albert import log_softmax
from tibert_keras.inference.gaps import MASK
from tibert_keras.inference.loading import arrays_for, batch_size_for
from tibert_keras.inference.piece_table import PieceTable
from tibert_keras.tokenizers.bounds import check_text


class SearchStopped(Exception):  # noqa: N818 (it is no error)
    """The answer is not wanted any more."""


class Window(NamedTuple):
    """The part of a text that the model sees, with masks, [CLS] and [SEP], and the place of the mask to predict."""

    ids: tuple[int, ...]
    place: int


class GapModel:
    """A loaded model for one search."""

    def __init__(self, model: Any, *, should_stop: Callable[[], bool] = lambda: False) -> None:
        self._model = model
        self._array, self._batch_size = arrays_for(model), batch_size_for(model)
        self._should_stop = should_stop
        facts = _facts_of(model)
        self.table = facts.table
        self.max_tokens = facts.max_tokens
        self.mask, self._cls, self._sep = facts.specials

    def tokenize(self, strings: Sequence[str]) -> list[list[int]]:
        """Encode texts without [CLS] and [SEP], which `window` adds around the part that the model sees."""
        self._check()
        for string in strings:
            check_text(string)
        answer = self._model.tokenize(self._array(strings))
        rows, lengths = np.asarray(answer["token_ids"]), np.asarray(answer["padding_mask"]).sum(axis=1)
        return [row[1 : length - 1].tolist() for row, length in zip(rows, lengths, strict=True)]

    def window(self, before: Sequence[int], ids: Sequence[int], masks: int, after: Sequence[int]) -> Window:
        """Cut a text to the length of the model's sequences, to predict the first of some masks."""
        room = self.max_tokens - 2 - len(ids) - masks
        if room < 0:
            raise InputError(
                f"A gap is longer than the model's {self.max_tokens} tokens. Received: {len(ids) + masks}."
            )
        left = min(len(before), max(room // 2, room - len(after)))
        shown = (self._cls, *before[len(before) - left :], *ids, *[self.mask] * masks, *after[: room - left], self._sep)
        return Window(shown, 1 + left + len(ids))

    def log_probabilities(self, windows: Sequence[Window]) -> Iterator[tuple[int, np.ndarray]]:
        """Predict the piece at the place of each window.

        Yields:
            The index of a window, in any order, and the log-probabilities, float32 `[vocabulary]`.
        """
        numbers = defaultdict(list)
        for number, window in enumerate(windows):
            numbers[window].append(number)
        # Windows of similar length share a call, to keep the padding small.
        order = sorted(numbers, key=lambda window: len(window.ids))
        for start in range(0, len(order), self._batch_size):
            chunk = order[start : start + self._batch_size]
            self._check()
            for window, row in zip(chunk, self._predict(chunk), strict=True):
                yield from ((number, row) for number in numbers[window])

    def _check(self) -> None:
        if self._should_stop():
            raise SearchStopped

    def _predict(self, windows: list[Window]) -> np.ndarray:
        longest = max(len(window.ids) for window in windows)
        token_ids = np.zeros((len(windows), longest), "int32")
        padding_mask = np.zeros_like(token_ids)
        for row, (ids, _) in enumerate(windows):
            token_ids[row, : len(ids)], padding_mask[row, : len(ids)] = ids, 1
        logits = self._model.masked_lm(
            token_ids=self._array(token_ids),
            padding_mask=self._array(padding_mask),
            segment_ids=self._array(np.zeros_like(token_ids)),
            mask_positions=self._array(np.array([[window.place] for window in windows], "int32")),
        )["logits"]
        return log_softmax(np.asarray(logits)[:, 0])


class _Facts(NamedTuple):
    table: PieceTable
    max_tokens: int
    specials: list[int]


# Only of models that are still in use.
_FACTS: weakref.WeakKeyDictionary[Any, _Facts] = weakref.WeakKeyDictionary()


def _facts_of(model: Any) -> _Facts:
    if model not in _FACTS:
        if not hasattr(model, "vocabulary"):
            raise InputError("The SavedModel is of an older version and cannot search gaps. Export the model again.")
        facts = model.vocabulary()
        pieces = [piece.decode() for piece in np.asarray(facts["pieces"])]
        specials = [pieces.index(piece) for piece in (MASK, "[CLS]", "[SEP]")]
        _FACTS[model] = _Facts(PieceTable(pieces), int(facts["max_tokens"]), specials)
    return _FACTS[model]
