"""The likeliest fillings of gaps, by beam search with a masked language model."""

from __future__ import annotations

import weakref
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import exp
from typing import Any

import numpy as np
import tensorflow as tf

from tibert_keras.errors import InputError
from tibert_keras.export.gaps import (
    GAP,
    LETTER,
    MASK,
    SIGN,
    TSHEG,
    UNMARKED,
    Gap,
    PieceTable,
    average_length,
    edge,
    find_gaps,
    leading_marks,
    readable,
    syllables_of,
)

# Sequences a call of the model.
_BATCH = 64
# A piece has fewer characters than that on average: what is further away from a gap lies outside the model's window.
_CHARACTERS_PER_TOKEN = 16


@dataclass(frozen=True)
class Candidate:
    """A filling of a gap.

    Attributes:
        text: Whole syllables, as they stand in the line in place of the gap.
        score: The geometric mean of the probabilities of its pieces, from 0 to 1.
        syllables: How many there are.
    """

    text: str
    score: float
    syllables: int


@dataclass(frozen=True)
class _Context:
    """A gap between the pieces before and after it, and what the marks at its ends must be."""

    before: list[int]
    after: list[int]
    syllables: tuple[int, int]
    start: int
    ending: str | None


@dataclass(frozen=True)
class _Hypothesis:
    """The first pieces of a filling of `length` pieces."""

    pool: tuple[int, int]
    context: _Context
    ids: tuple[int, ...] = ()
    text: str = ""
    last: int = 0
    syllables: int = 0
    log_probability: float = 0.0

    @property
    def length(self) -> int:
        return self.pool[1]


class Searcher:
    """Searches the fillings of gaps with one model.

    Args:
        model: What `load_fill_mask` returns.
    """

    def __init__(self, model: Any) -> None:
        if not hasattr(model, "vocabulary"):
            raise InputError("The SavedModel is of an older version and cannot search gaps. Export the model again.")
        facts = model.vocabulary()
        pieces = [piece.decode() for piece in facts["pieces"].numpy()]
        self.max_tokens = int(facts["max_tokens"])
        self.table = PieceTable(pieces)
        self._mask, self._cls, self._sep = (pieces.index(piece) for piece in (MASK, "[CLS]", "[SEP]"))

    def search(self, model: Any, texts: Sequence[str], top_k: int) -> list[list[list[Candidate]]]:
        """See `fill_gaps`."""
        gaps = [(text, gap) for text in texts for gap in find_gaps(text)]
        beams = list(self._start(model, gaps))
        found: dict[int, dict[str, Candidate]] = defaultdict(dict)
        width = max(top_k, 5)
        while beams:
            grown = self._grow(model, beams, width)
            beams = [beam for beam in grown if len(beam.ids) < beam.length]
            for beam in grown:
                if len(beam.ids) == beam.length:
                    self._keep(found[beam.pool[0]], beam, *gaps[beam.pool[0]])
        ranked = [
            sorted(found[number].values(), key=lambda candidate: -candidate.score)[:top_k]
            for number in range(len(gaps))
        ]
        rest = iter(ranked)
        return [[next(rest) for _ in find_gaps(text)] for text in texts]

    # === The gaps and what is around them ===

    def _start(self, model: Any, gaps: list[tuple[str, Gap]]) -> Iterator[_Hypothesis]:
        strings, facts = [], []
        for number, (text, gap) in enumerate(gaps):
            for before, start, after, ending in self._variants(text, gap):
                strings.append(f"{before}{MASK}{after}")
                facts.append((number, gap, before.count(MASK), start, ending))
        for (number, gap, masks_before, start, ending), ids in zip(facts, self._tokenize(model, strings), strict=True):
            place = [index for index, token in enumerate(ids) if token == self._mask][masks_before]
            context = _Context(ids[:place], ids[place + 1 :], gap.syllables, start, ending)
            for length in _lengths(gap):
                yield _Hypothesis((number, length), context, last=start)

    def _variants(self, text: str, gap: Gap) -> Iterator[tuple[str, int, str, str | None]]:
        """Ways to part the marks at the ends of a gap between it and its surroundings."""
        reach = self.max_tokens * _CHARACTERS_PER_TOKEN
        before, after = _mask_gaps(text[: gap.start])[-reach:], _mask_gaps(text[gap.end :])[:reach]
        if edge(before[-1:]) in (LETTER, SIGN):
            before += TSHEG
        lefts = [(before, edge(before[-1:]))]
        if before.endswith(TSHEG) and self.table.has_leading_tsheg:
            lefts.append((before.removesuffix(TSHEG), UNMARKED))
        rights: list[tuple[str, str | None]] = [(after, None)]
        marks = TSHEG if edge(after[:1]) in (LETTER, SIGN) or after.startswith(MASK) else leading_marks(after)
        if marks:
            letters = after.removeprefix(marks)
            rights = [(letters, marks), (f"{marks}{letters}", "")]
        for (left, start), (right, ending) in product(lefts, rights):
            yield left, start, right, ending

    def _tokenize(self, model: Any, strings: list[str]) -> list[list[int]]:
        answer = model.tokenize(tf.constant(strings))
        lengths = answer["padding_mask"].numpy().sum(axis=1)
        # Without [CLS] and [SEP], which come around the part that the model sees.
        return [row[1 : length - 1].tolist() for row, length in zip(answer["token_ids"].numpy(), lengths, strict=True)]

    def _window(self, beam: _Hypothesis) -> tuple[list[int], int]:
        """The ids that the model is to see of a text, and the place of the next piece in them."""
        before, after = beam.context.before, beam.context.after
        room = self.max_tokens - 2 - beam.length
        if room < 0:
            raise InputError(f"A gap is longer than the model's {self.max_tokens} tokens. Received: {beam.length}.")
        left = min(len(before), max(room // 2, room - len(after)))
        before, after = before[len(before) - left :], after[: room - left]
        masks = [self._mask] * (beam.length - len(beam.ids))
        return [self._cls, *before, *beam.ids, *masks, *after, self._sep], 1 + left + len(beam.ids)

    # === A step of the search ===

    def _grow(self, model: Any, beams: list[_Hypothesis], width: int) -> list[_Hypothesis]:
        """Put the next piece to each hypothesis, and keep the `width` best of each gap and length."""
        windows = [self._window(beam) for beam in beams]
        # Neighbours in length go into one call, so that little is padded.
        order = sorted(range(len(beams)), key=lambda index: len(windows[index][0]))
        grown: dict[tuple[int, int], list[tuple[float, int, int]]] = defaultdict(list)
        for start in range(0, len(order), _BATCH):
            chunk = order[start : start + _BATCH]
            for index, row in zip(chunk, self._predict(model, [windows[index] for index in chunk]), strict=True):
                scores = np.where(self._allowed(beams[index]), row + beams[index].log_probability, -np.inf)
                best = np.argpartition(-scores, min(width, len(scores)) - 1)[:width]
                grown[beams[index].pool] += [(float(scores[token]), index, int(token)) for token in best]
        return [
            self._extend(beams[index], token, score)
            for pool in grown.values()
            for score, index, token in sorted(pool, reverse=True)[:width]
            if score > -np.inf
        ]

    def _predict(self, model: Any, windows: list[tuple[list[int], int]]) -> np.ndarray:
        """Log-probabilities of the piece at each window's place, `[windows, vocabulary]`."""
        longest = max(len(ids) for ids, _ in windows)
        token_ids = np.zeros((len(windows), longest), "int32")
        padding_mask = np.zeros_like(token_ids)
        for row, (ids, _) in enumerate(windows):
            token_ids[row, : len(ids)], padding_mask[row, : len(ids)] = ids, 1
        places = np.array([[place] for _, place in windows], "int32")
        logits = model.masked_lm(
            token_ids=tf.constant(token_ids),
            padding_mask=tf.constant(padding_mask),
            segment_ids=tf.zeros_like(token_ids),
            mask_positions=tf.constant(places),
        )["logits"]
        return tf.nn.log_softmax(logits[:, 0]).numpy()

    def _allowed(self, beam: _Hypothesis) -> np.ndarray:
        """Which pieces may come next, bool `[vocabulary]`."""
        low, high = beam.context.syllables
        counts = self.table.counts(beam.last, beam.syllables)
        allowed = self.table.may_follow(beam.last) & (counts <= high)
        if len(beam.ids) + 1 == beam.length:
            allowed &= (counts >= low) & self.table.may_end(beam.text, beam.context.ending)
        return allowed

    def _extend(self, beam: _Hypothesis, token: int, score: float) -> _Hypothesis:
        text = beam.text + self.table.pieces[token]
        return replace(
            beam,
            ids=(*beam.ids, token),
            text=text,
            last=edge(text[-1:]),
            syllables=int(self.table.counts(beam.last, beam.syllables)[token]),
            log_probability=score,
        )

    def _keep(self, found: dict[str, Candidate], beam: _Hypothesis, text: str, gap: Gap) -> None:
        """Add a whole filling, or give one that is there already its better score."""
        filling = readable(beam.text, before=text[: gap.start], after=text[gap.end :])
        score = exp(beam.log_probability / beam.length)
        if filling not in found or found[filling].score < score:
            found[filling] = Candidate(filling, score, len(syllables_of(filling)))


def _mask_gaps(text: str) -> str:
    """Put masks in place of the other gaps: as many as they have syllables on average."""
    return GAP.sub(lambda match: match[0] if match[1] is None else MASK * average_length(match[0], match[1]), text)


def _lengths(gap: Gap) -> range:
    """The numbers of pieces that a gap may have; a piece may be part of a syllable, or several."""
    if gap.tokens is not None:
        return range(gap.tokens, gap.tokens + 1)
    low, high = gap.syllables
    return range(max(1, low // 2), high + 2)


_SEARCHERS: weakref.WeakKeyDictionary[Any, Searcher] = weakref.WeakKeyDictionary()


def searcher_of(model: Any) -> Searcher:
    """The searcher of a loaded model, made once."""
    if model not in _SEARCHERS:
        _SEARCHERS[model] = Searcher(model)
    return _SEARCHERS[model]
