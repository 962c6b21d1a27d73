"""Wraps a masked language model for the gap search, and finds how pieces may join the text around a gap."""

import re
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import ceil
from typing import Any, NamedTuple

import numpy as np

from tibert_keras.errors import InputError
from tibert_keras.formats.numpy_albert import log_softmax
from tibert_keras.inference.gaps import LETTER, MASK, MAX_TOKENS, SIGN, UNMARKED, Gap, edge, leading_marks, syllables_of
from tibert_keras.inference.piece_table import PieceTable
from tibert_keras.inference.plain import PlainFillMask
from tibert_keras.lazy import tf
from tibert_keras.tibetan import COMBINING_SIGNS, LETTERS, SHAD, TSHEG, TSHEGS
from tibert_keras.tokenizers.bounds import check_text
from tibert_keras.transcription import join_lines, plain_marks

# An upper bound of the mean length of pieces: text further away from a gap lies outside the model's window.
_CHARACTERS_PER_TOKEN = 16

# Shads without the space after them that editions have, and models expect.
_SHADS = re.compile(rf"(?<=[{LETTERS}{COMBINING_SIGNS}{TSHEGS}\]]){SHAD}+(?=[{LETTERS}\[])")


class SearchStopped(Exception):  # noqa: N818 (it is no error)
    """The answer is not wanted any more."""


class MaskedWindow(NamedTuple):
    """The part of a text that the model sees, with masks, [CLS] and [SEP], and the place of the mask to predict."""

    ids: tuple[int, ...]
    place: int


class GapModel:
    """A loaded model for one search."""

    def __init__(self, model: Any, *, should_stop: Callable[[], bool] = lambda: False) -> None:
        self._model = model
        # As many sequences a call as fit into a processor's caches.
        self._array: Callable[[Any], Any] = np.asarray
        self._batch_size = 16
        if not isinstance(model, PlainFillMask):
            self._array = tf.constant
            if tf.config.list_logical_devices("GPU"):
                self._batch_size = 64
        self._should_stop = should_stop
        self.table, self.max_tokens, (self.mask, self._cls, self._sep) = _facts_of(model)

    def tokenize(self, strings: Sequence[str]) -> list[list[int]]:
        """Encode texts without [CLS] and [SEP], which `window` adds around the part that the model sees."""
        self._check()
        for string in strings:
            check_text(string)
        answer = self._model.tokenize(self._array(strings))
        rows, lengths = np.asarray(answer["token_ids"]), np.asarray(answer["padding_mask"]).sum(axis=1)
        return [row[1 : length - 1].tolist() for row, length in zip(rows, lengths, strict=True)]

    def window(self, before: Sequence[int], ids: Sequence[int], masks: int, after: Sequence[int]) -> MaskedWindow:
        """Cut a text to the length of the model's sequences, to predict the first of some masks."""
        room = self.max_tokens - 2 - len(ids) - masks
        if room < 0:
            raise InputError(
                f"A gap is longer than the model's {self.max_tokens} tokens. Received: {len(ids) + masks}."
            )
        left = min(len(before), max(room // 2, room - len(after)))
        shown = (self._cls, *before[len(before) - left :], *ids, *[self.mask] * masks, *after[: room - left], self._sep)
        return MaskedWindow(shown, 1 + left + len(ids))

    def log_probabilities(self, windows: Sequence[MaskedWindow]) -> Iterator[tuple[int, np.ndarray]]:
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

    def _predict(self, windows: list[MaskedWindow]) -> np.ndarray:
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


# The vocabulary, the most tokens, and the ids of special pieces, only of models that are still in use.
_FACTS: weakref.WeakKeyDictionary[Any, tuple[PieceTable, int, list[int]]] = weakref.WeakKeyDictionary()


def _facts_of(model: Any) -> tuple[PieceTable, int, list[int]]:
    if model not in _FACTS:
        if not hasattr(model, "vocabulary"):
            raise InputError("The SavedModel is of an older version and cannot search gaps. Export the model again.")
        facts = model.vocabulary()
        pieces = [piece.decode() for piece in np.asarray(facts["pieces"])]
        specials = [pieces.index(piece) for piece in (MASK, "[CLS]", "[SEP]")]
        _FACTS[model] = PieceTable(pieces), int(facts["max_tokens"]), specials
    return _FACTS[model]


# === Around a gap ===


@dataclass(frozen=True)
class Context:
    """The surroundings of the pieces that are searched.

    The pieces may reach over the ends of the gap, as they do in running text: then they begin with `prefix` and end
    with `ending`, which are known.

    Attributes:
        before: Ids before them.
        after: Ids after them.
        prefix: The known text that they begin with.
        ending: The known text that they end with: marks, and pieces after those; `""` for a letter, `None` for any.
        start: The edge of the text before them.
        syllables: Minimum and maximum number of syllables in them.
    """

    before: list[int]
    after: list[int]
    prefix: str
    ending: str | None
    start: int
    syllables: tuple[int, int]


def surroundings(model: GapModel, gap: Gap) -> tuple[str, str]:
    """The text before and after a gap, as far as the model sees, and as it sees it: without lines, with plain marks."""
    before, after = gap.around(model.max_tokens * _CHARACTERS_PER_TOKEN)
    joined = plain_marks(join_lines(before))
    # No tsheg is written at the start of a line.
    if before.rstrip(" \r").endswith("\n") and edge(joined[-1:]) in (LETTER, SIGN):
        joined += TSHEG
    after = plain_marks(join_lines(after))
    # The gap is between two syllables.
    return _SHADS.sub(r"\g<0> ", f"{joined}[")[:-1], _SHADS.sub(r"\g<0> ", f"{TSHEG}{after}")[1:]


def contexts_of(model: GapModel, gaps: Sequence[Gap]) -> Iterator[tuple[int, Context, range]]:
    """Yield the index of a gap, one of its contexts, and the numbers of pieces to try in it."""
    strings, facts = [], []
    for number, gap in enumerate(gaps):
        for before, after, start, ending in _variants(model, gap):
            strings.append(f"{before}{MASK}{after}")
            facts.append((number, gap, before.count(MASK), start, ending))
    for (number, gap, masks_before, start, ending), ids in zip(facts, model.tokenize(strings), strict=True):
        place = [index for index, token in enumerate(ids) if token == model.mask][masks_before]
        if gap.ends:
            ending = gap.ends + (ending or "")
        low, high = gap.syllables
        context = Context(ids[:place], ids[place + 1 :], gap.begins, ending, start, (max(low, 1), high))
        for each in [context] if gap.tokens else _reach_over(model, context, gap):
            yield number, each, _lengths(model, gap, ids)


def _variants(model: GapModel, gap: Gap) -> Iterator[tuple[str, str, int, str | None]]:
    """The ways to divide the marks at the ends of a gap between the gap and its surroundings."""
    before, after = surroundings(model, gap)
    if edge(before[-1:]) in (LETTER, SIGN):
        before += TSHEG
    lefts = [(before, edge(before[-1:]))]
    if before.endswith(TSHEG) and model.table.has_leading_tsheg:
        lefts.append((before.removesuffix(TSHEG), UNMARKED))
    rights: list[tuple[str, str | None]] = [(after, None)]
    marks = TSHEG if edge(after[:1]) in (LETTER, SIGN) or after.startswith(MASK) else leading_marks(after)
    if marks:
        letters = after.removeprefix(marks)
        rights = [(letters, marks), (f"{marks}{letters}", "")]
    for (left, start), (right, ending) in product(lefts, rights):
        yield left, right, start, ending


def _lengths(model: GapModel, gap: Gap, ids: list[int]) -> range:
    """The numbers of pieces that a gap may have. A piece may be a part of a syllable, or several syllables."""
    if gap.tokens is not None:
        return range(gap.tokens, gap.tokens + 1)
    around = len(syllables_of("".join(model.table.pieces[token] for token in ids if token != model.mask)))
    rate = len(ids) / around if around else 1.0
    low, high = gap.syllables
    return range(max(1, int(low * rate / 2)), min(ceil(high * rate) + 1, max(MAX_TOKENS, 2 * high)) + 1)


def _reach_over(model: GapModel, context: Context, gap: Gap) -> Iterator[Context]:
    """Yield a context, and those in which the pieces include some of the text before and after it."""
    table = model.table
    lefts = [0, 1, 2] if context.start != UNMARKED else [0]
    rights = [0, 1, 2] if context.ending else [0]
    for left, right in product(lefts, rights):
        before, after = context.before[len(context.before) - left :], context.after[:right]
        if model.mask in (*before, *after) or len(before) < left or len(after) < right:
            continue
        reached = "".join(table.pieces[token] for token in before)
        prefix = reached + context.prefix
        ending = context.ending and context.ending + "".join(table.pieces[token] for token in after)
        if (left and not table.goes_on(prefix)) or (right and not table.comes_before(ending or "")):
            continue
        rest = context.before[: len(context.before) - left]
        start = edge(table.pieces[rest[-1]][-1:] if rest else "") if left else context.start
        known = len(syllables_of(reached)) + len(syllables_of((ending or "").removeprefix(gap.ends)))
        if start in (LETTER, SIGN) and edge(reached[:1]) in (LETTER, SIGN):
            known -= 1
        low, high = context.syllables
        yield Context(rest, context.after[right:], prefix, ending, start, (low + known, high + known))
