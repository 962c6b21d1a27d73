"""A masked language model as the search of gaps asks it."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tibert_keras.errors import InputError
from tibert_keras.inference.gaps import MASK
from tibert_keras.inference.piece_table import PieceTable

# Sequences a call of the model.
_BATCH = 64


class SearchStopped(Exception):  # noqa: N818 (it is no error)
    """Nobody waits for what is searched any more."""


class Window(NamedTuple):
    """What the model is to see of a text.

    Attributes:
        ids: Ids with masks, [CLS] and [SEP].
        place: Where in them to predict.
    """

    ids: list[int]
    place: int


class GapModel:
    """A loaded model, for one search.

    Args:
        model: What `load_fill_mask` returns.
        should_stop: Asked before each call of the model.

    Attributes:
        table: Its vocabulary.
        max_tokens: How many tokens it sees.
        mask: The id of `[MASK]`.

    Raises:
        InputError: If the model is of a version that cannot search gaps.
    """

    def __init__(self, model: Any, *, should_stop: Callable[[], bool] = lambda: False) -> None:
        self._model = model
        self._should_stop = should_stop
        facts = _facts_of(model)
        self.table = facts.table
        self.max_tokens = facts.max_tokens
        self.mask, self._cls, self._sep = facts.specials

    def tokenize(self, strings: Sequence[str]) -> list[list[int]]:
        """Give the ids of texts, without [CLS] and [SEP], which come around the part that the model sees."""
        self._check()
        answer = self._model.tokenize(tf.constant(strings))
        lengths = answer["padding_mask"].numpy().sum(axis=1)
        return [row[1 : length - 1].tolist() for row, length in zip(answer["token_ids"].numpy(), lengths, strict=True)]

    def window(self, before: Sequence[int], ids: Sequence[int], masks: int, after: Sequence[int]) -> Window:
        """Cut a text down to what the model sees, to predict the first of some masks.

        Args:
            before: Ids before what is searched.
            ids: Those that have been found.
            masks: How many are still to find.
            after: Ids after them.

        Raises:
            InputError: If what is searched is longer than the model's sequences.
        """
        room = self.max_tokens - 2 - len(ids) - masks
        if room < 0:
            raise InputError(
                f"A gap is longer than the model's {self.max_tokens} tokens. Received: {len(ids) + masks}."
            )
        left = min(len(before), max(room // 2, room - len(after)))
        shown = [self._cls, *before[len(before) - left :], *ids, *[self.mask] * masks, *after[: room - left], self._sep]
        return Window(shown, 1 + left + len(ids))

    def log_probabilities(self, windows: Sequence[Window]) -> Iterator[tuple[int, np.ndarray]]:
        """Predict the piece at the place of each window.

        Yields:
            The number of a window, in any order, and the log-probabilities, float32 `[vocabulary]`.

        Raises:
            SearchStopped: If it should stop.
        """
        # Neighbours in length go into one call, so that little is padded.
        order = sorted(range(len(windows)), key=lambda number: len(windows[number].ids))
        for start in range(0, len(order), _BATCH):
            chunk = order[start : start + _BATCH]
            self._check()
            yield from zip(chunk, self._predict([windows[number] for number in chunk]), strict=True)

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
            token_ids=tf.constant(token_ids),
            padding_mask=tf.constant(padding_mask),
            segment_ids=tf.zeros_like(token_ids),
            mask_positions=tf.constant([[window.place] for window in windows], tf.int32),
        )["logits"]
        return tf.nn.log_softmax(logits[:, 0]).numpy()


class _Facts(NamedTuple):
    table: PieceTable
    max_tokens: int
    specials: list[int]


# Of models that are still held by somebody.
_FACTS: weakref.WeakKeyDictionary[Any, _Facts] = weakref.WeakKeyDictionary()


def _facts_of(model: Any) -> _Facts:
    if model not in _FACTS:
        if not hasattr(model, "vocabulary"):
            raise InputError("The SavedModel is of an older version and cannot search gaps. Export the model again.")
        facts = model.vocabulary()
        pieces = [piece.decode() for piece in facts["pieces"].numpy()]
        specials = [pieces.index(piece) for piece in (MASK, "[CLS]", "[SEP]")]
        _FACTS[model] = _Facts(PieceTable(pieces), int(facts["max_tokens"]), specials)
    return _FACTS[model]
