"""The likeliest fillings of gaps, by beam search with a masked language model."""

from __future__ import annotations

import weakref
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import ceil, exp
from typing import Any

import numpy as np
import tensorflow as tf

from tibert_keras.errors import InputError
from tibert_keras.export.gaps import (
    GAP,
    LETTER,
    MASK,
    MAX_TOKENS,
    SIGN,
    SPACE,
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
# How many hypotheses of a gap go on, of each length and each way of ending.
_WIDTH = 5
# A piece has fewer characters than that on average: what is further away from a gap lies outside the model's window.
_CHARACTERS_PER_TOKEN = 16


@dataclass(frozen=True)
class Candidate:
    """A filling of a gap.

    Attributes:
        text: Whole syllables, as they stand in the line in place of the gap.
        score: The geometric mean of the probabilities of its pieces, each masked by itself, from 0 to 1.
        syllables: How many there are.
    """

    text: str
    score: float
    syllables: int


@dataclass(frozen=True)
class _Context:
    """What stands around the pieces that are searched.

    Those may reach over the ends of the gap, as pieces do in running text: then they begin with `prefix` and end with
    `ending`, which are known.
    """

    before: list[int]
    after: list[int]
    prefix: str
    ending: str | None
    start: int
    syllables: tuple[int, int]


@dataclass(frozen=True)
class _Hypothesis:
    """The first pieces of a filling of `length` pieces."""

    gap: int
    length: int
    context: _Context
    last: int
    ids: tuple[int, ...] = ()
    text: str = ""
    syllables: int = 0
    log_probability: float = 0.0

    @property
    def pool(self) -> tuple[int, int, str | None]:
        """Which hypotheses it competes with."""
        return self.gap, self.length, self.context.ending


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
        if not texts:
            return []
        gaps = [(text, gap) for text in texts for gap in find_gaps(text)]
        found: list[dict[str, Candidate]] = [{} for _ in gaps]
        width = max(top_k, _WIDTH)
        beams = list(self._start(model, gaps))
        while beams:
            grown = self._grow(model, beams, width)
            beams = [beam for beam in grown if len(beam.ids) < beam.length]
            for beam in grown:
                if len(beam.ids) == beam.length:
                    self._keep(found[beam.gap], beam, *gaps[beam.gap])
        ranked = self._rescore(model, gaps, [_best(each.values())[: 2 * width] for each in found])
        rest = iter(ranked)
        return [[next(rest)[:top_k] for _ in find_gaps(text)] for text in texts]

    # === The gaps and what is around them ===

    def _start(self, model: Any, gaps: list[tuple[str, Gap]]) -> Iterator[_Hypothesis]:
        strings, facts = [], []
        for number, (text, gap) in enumerate(gaps):
            for before, after, start, ending in self._variants(text, gap):
                strings.append(f"{before}{MASK}{after}")
                facts.append((number, gap, before.count(MASK), start, ending))
        for (number, gap, masks_before, start, ending), ids in zip(facts, self._tokenize(model, strings), strict=True):
            place = [index for index, token in enumerate(ids) if token == self._mask][masks_before]
            context = _Context(ids[:place], ids[place + 1 :], "", ending, start, gap.syllables)
            contexts = [context] if gap.tokens else self._reach_over(context)
            for context, length in product(contexts, self._lengths(gap, ids)):
                yield _Hypothesis(number, length, context, context.start)

    def _lengths(self, gap: Gap, ids: list[int]) -> range:
        """The numbers of pieces that a gap may have; a piece may be part of a syllable, or several."""
        if gap.tokens is not None:
            return range(gap.tokens, gap.tokens + 1)
        around = len(syllables_of("".join(self.table.pieces[token] for token in ids if token != self._mask)))
        rate = len(ids) / around if around else 1.0
        low, high = gap.syllables
        return range(max(1, int(low * rate / 2)), min(ceil(high * rate) + 1, MAX_TOKENS) + 1)

    def _variants(self, text: str, gap: Gap) -> Iterator[tuple[str, str, int, str | None]]:
        """Ways to part the marks at the ends of a gap between it and its surroundings."""
        before, after = self._surroundings(text, gap)
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
            yield left, right, start, ending

    def _surroundings(self, text: str, gap: Gap) -> tuple[str, str]:
        """What is before and after a gap, as far as the model sees, with masks for the other gaps."""
        reach = self.max_tokens * _CHARACTERS_PER_TOKEN
        return _mask_gaps(text[: gap.start])[-reach:], _mask_gaps(text[gap.end :])[:reach]

    def _reach_over(self, context: _Context) -> Iterator[_Context]:
        """Yield a context, and those in which the pieces searched take in pieces before and after it."""
        lefts = [0, 1, 2] if context.start != UNMARKED else [0]
        rights = [0, 1, 2] if context.ending else [0]
        for left, right in product(lefts, rights):
            before, after = context.before[len(context.before) - left :], context.after[:right]
            if self._mask in (*before, *after) or len(before) < left or len(after) < right:
                continue
            prefix = "".join(self.table.pieces[token] for token in before)
            ending = context.ending and context.ending + "".join(self.table.pieces[token] for token in after)
            if (left and not self.table.goes_on(prefix)) or (right and not self.table.comes_before(ending or "")):
                continue
            rest = context.before[: len(context.before) - left]
            start = edge(self.table.pieces[rest[-1]][-1:] if rest else "") if left else context.start
            known = len(syllables_of(prefix)) + len(syllables_of(ending or ""))
            if start in (LETTER, SIGN) and edge(prefix[:1]) in (LETTER, SIGN):
                known -= 1
            low, high = context.syllables
            yield _Context(rest, context.after[right:], prefix, ending, start, (low + known, high + known))

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
        grown: dict[Any, list[tuple[float, int, int]]] = defaultdict(list)
        for index, row in self._predict_all(model, windows):
            allowed = np.flatnonzero(self._allowed(beams[index]))
            if not allowed.size:
                continue
            scores = row[allowed] + beams[index].log_probability
            if len(beams[index].text) < len(beams[index].context.prefix):
                # What is known of the text in the piece is no guess.
                scores -= np.logaddexp.reduce(row[allowed])
            best = np.argsort(-scores, kind="stable")[:width]
            grown[beams[index].pool] += [(float(scores[each]), index, int(allowed[each])) for each in best]
        return [
            self._extend(beams[index], token, score)
            for pool in grown.values()
            for score, index, token in sorted(pool, reverse=True)[:width]
        ]

    def _predict_all(self, model: Any, windows: list[tuple[list[int], int]]) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the number of each window, in any order, and what `_predict` says of it."""
        # Neighbours in length go into one call, so that little is padded.
        order = sorted(range(len(windows)), key=lambda index: len(windows[index][0]))
        for start in range(0, len(order), _BATCH):
            chunk = order[start : start + _BATCH]
            yield from zip(chunk, self._predict(model, [windows[index] for index in chunk]), strict=True)

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
        if len(beam.text) < len(beam.context.prefix):
            allowed &= self.table.agrees(beam.context.prefix[len(beam.text) :])
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
        spelled = beam.text[len(beam.context.prefix) :].removesuffix(beam.context.ending or "")
        filling = readable(spelled, before=text[: gap.start], after=text[gap.end :])
        score = exp(beam.log_probability / beam.length)
        syllables = syllables_of(filling)
        if self.table.all_real(syllables) and (filling not in found or found[filling].score < score):
            found[filling] = Candidate(filling, score, len(syllables))

    # === The score of whole fillings ===

    def _rescore(self, model: Any, gaps: list[tuple[str, Gap]], found: list[list[Candidate]]) -> list[list[Candidate]]:
        """Score fillings in the whole line, as the tokenizer cuts it with them in it."""
        lines: list[str] = []
        for (text, gap), candidates in zip(gaps, found, strict=True):
            before, after = self._surroundings(text, gap)
            lines += [f"{before}{filling}{after}" for filling in (MASK, *(each.text for each in candidates))]
        tokens = iter(self._tokenize(model, lines))
        windows, wanted, owners = [], [], []
        for number, candidates in enumerate(found):
            masked = next(tokens)
            for rank in range(len(candidates)):
                ids = next(tokens)
                for index in _changed(ids, masked):
                    around = _Context(ids[:index], ids[index + 1 :], "", None, SPACE, (0, 0))
                    windows.append(self._window(_Hypothesis(number, 1, around, SPACE)))
                    wanted.append(ids[index])
                    owners.append((number, rank))
        log_probabilities = defaultdict(list)
        for index, row in self._predict_all(model, windows):
            log_probabilities[owners[index]].append(float(row[wanted[index]]))
        return [
            _best(
                replace(candidate, score=exp(np.mean(log_probabilities[number, rank])))
                for rank, candidate in enumerate(candidates)
            )
            for number, candidates in enumerate(found)
        ]


def _best(candidates: Iterable[Candidate]) -> list[Candidate]:
    return sorted(candidates, key=lambda candidate: -candidate.score)


def _changed(ids: list[int], masked: list[int]) -> range:
    """Where a line's pieces differ from those of the same line with a mask in its gap: the filling, and its seams."""
    same = [a == b for a, b in zip(ids, masked, strict=False)]
    start = same.index(False) if False in same else len(same) - 1
    same = [a == b for a, b in zip(reversed(ids[start:]), reversed(masked[start:]), strict=False)]
    end = len(ids) - (same.index(False) if False in same else len(same))
    return range(min(start, end - 1), end)


def _mask_gaps(text: str) -> str:
    """Put masks in place of the other gaps: as many as they have syllables on average."""
    return GAP.sub(lambda match: match[0] if match[1] is None else MASK * average_length(match[0], match[1]), text)


_SEARCHERS: weakref.WeakKeyDictionary[Any, Searcher] = weakref.WeakKeyDictionary()


def searcher_of(model: Any) -> Searcher:
    """The searcher of a loaded model, made once."""
    if model not in _SEARCHERS:
        _SEARCHERS[model] = Searcher(model)
    return _SEARCHERS[model]
