"""The likeliest fillings of gaps, by beam search with a masked language model."""

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from math import exp
from typing import Any

import numpy as np

from tibert_keras.inference.gap_model import Context, GapModel, MaskedWindow, contexts_of, surroundings
from tibert_keras.inference.gaps import MASK, Gap, edge, has_shad_inside, is_well_formed, put_in, readable, syllables_of
from tibert_keras.inference.piece_table import Completions

# How many hypotheses to keep for each gap, length and ending, at least and at most.
_WIDTH, _MOST = 5, 1000
# The weight of a piece beside the filling, where a syllable in it has 1.
_BESIDE = 0.25
# How many pieces to look at for each of them, among which some make no punctuation that is written.
_LOOK_AT = 8

# Pieces, each with the window to predict it in.
_Pieces = list[tuple[MaskedWindow, int]]


@dataclass(frozen=True)
class Candidate:
    """A filling of a gap.

    Attributes:
        text: Whole syllables that replace the gap in the line; empty if nothing is missing.
        score: How well it fits, from 0 to 1: the geometric mean of the probabilities of its syllables and, with a
            quarter of their weight, of the pieces beside it.
        syllables: Their number.
    """

    text: str
    score: float
    syllables: int


def search_gaps(
    model: Any, gaps: Sequence[Gap], top_k: int, *, should_stop: Callable[[], bool] = lambda: False
) -> list[list[Candidate]]:
    """Search the fillings of gaps as `fill_gaps` describes: for each gap the candidates, the likeliest first."""
    width = min(max(top_k, _WIDTH), _MOST)
    return _Search(GapModel(model, should_stop=should_stop), gaps, width).run(top_k) if gaps else []


@dataclass(frozen=True)
class _Hypothesis:
    """The first pieces of a filling of `length` pieces."""

    gap: int
    length: int
    context: Context
    last: int
    ids: tuple[int, ...] = ()
    text: str = ""
    syllables: int = 0
    log_probability: float = 0.0

    @property
    def missing(self) -> int:
        """The number of pieces still to find."""
        return self.length - len(self.ids)

    @property
    def pool(self) -> tuple[int, int, str | None]:
        """The hypotheses that it competes with have the same."""
        return self.gap, self.length, self.context.ending


class _Search:
    """A beam search that keeps `width` hypotheses of each pool."""

    def __init__(self, model: GapModel, gaps: Sequence[Gap], width: int) -> None:
        self._model, self._gaps, self._width = model, gaps, width
        self._completions = Completions(model.table)
        # The pieces that may come next, of which many hypotheses have the same.
        self._pieces: dict[Any, np.ndarray] = {}
        # Log-probabilities of pieces at the places of windows, which many candidates share.
        self._known: dict[tuple[MaskedWindow, int], float] = {}
        self._around = [surroundings(model, gap) for gap in gaps]
        # Where there may be nothing missing, that is a candidate.
        self._found: list[dict[str, Candidate]] = [
            {} if gap.syllables[0] else {(empty := readable("", before=before, after=after)): Candidate(empty, 1.0, 0)}
            for gap, (before, after) in zip(gaps, self._around, strict=True)
        ]

    def run(self, top_k: int) -> list[list[Candidate]]:
        beams = [
            _Hypothesis(number, length, context, context.start)
            for number, context, lengths in contexts_of(self._model, self._gaps)
            for length in lengths
        ]
        while beams := self._with_a_future(beams):
            grown = self._grow(beams)
            beams = [beam for beam in grown if beam.missing]
            for beam in grown:
                if not beam.missing:
                    self._keep(beam)
        found = [_best(each.values())[: self._width] for each in self._found]
        return [candidates[:top_k] for candidates in self._rescore(found)]

    def _with_a_future(self, beams: list[_Hypothesis]) -> list[_Hypothesis]:
        """Leave out hypotheses that no piece may follow, and pools of which none can be completed.

        This changes no result, as hypotheses compete only within their pool, and saves much of the model's work.
        """
        alive = {
            beam.pool
            for beam in beams
            if self._completions.is_possible(
                beam.last, beam.syllables, beam.missing, beam.context.syllables, beam.context.ending
            )
        }
        return [beam for beam in beams if beam.pool in alive and self._allowed(beam).size]

    def _grow(self, beams: list[_Hypothesis]) -> list[_Hypothesis]:
        """Append a piece to each hypothesis, and keep the best of each pool."""
        windows = [
            self._model.window(beam.context.before, beam.ids, beam.missing, beam.context.after) for beam in beams
        ]
        grown: dict[Any, list[tuple[float, int, int]]] = defaultdict(list)
        for index, row in self._model.log_probabilities(windows):
            allowed = self._allowed(beams[index])
            scores = row[allowed] + beams[index].log_probability
            if len(beams[index].text) < len(beams[index].context.prefix):
                # The known text in the piece is no guess.
                scores -= np.logaddexp.reduce(row[allowed])
            top = _highest(scores, _LOOK_AT * self._width)
            fitting = (each for each in top if self._is_written(beams[index], int(allowed[each])))
            for each in islice(fitting, self._width):
                token = int(allowed[each])
                grown[beams[index].pool].append((float(scores[each]), index, token))
                self._known[windows[index], token] = float(row[token])
        return [
            self._extend(beams[index], token, score)
            for pool in grown.values()
            for score, index, token in sorted(pool, reverse=True)[: self._width]
        ]

    def _allowed(self, beam: _Hypothesis) -> np.ndarray:
        """The pieces that may come next, int `[allowed]`."""
        context, table, end = beam.context, self._model.table, None
        known = context.prefix[len(beam.text) :]
        if beam.missing == 1:
            # The end of the text may be the beginning of the ending; the rest of it does not matter.
            end = (beam.text[-len(context.ending) :] if context.ending else None, context.ending)
        key = beam.last, beam.syllables, context.syllables, known, end
        if key not in self._pieces:
            low, high = context.syllables
            counts = table.counts(beam.last, beam.syllables)
            allowed = table.may_follow(beam.last) & (counts <= high)
            if known:
                allowed &= table.agrees(known)
            if end is not None:
                allowed &= (counts >= low) & table.may_end(*end)
            self._pieces[key] = np.flatnonzero(allowed)
        return self._pieces[key]

    def _is_written(self, beam: _Hypothesis, token: int) -> bool:
        """Whether the punctuation is as it is written, and as the gap allows it, once a piece is appended."""
        known = len(beam.context.prefix)
        text = beam.text + self._model.table.pieces[token]
        if not self._gaps[beam.gap].allows_shad and has_shad_inside(text[known:]):
            return False
        return is_well_formed(text[:known], text[known:])

    def _extend(self, beam: _Hypothesis, token: int, score: float) -> _Hypothesis:
        table = self._model.table
        text = beam.text + table.pieces[token]
        return replace(
            beam,
            ids=(*beam.ids, token),
            text=text,
            last=edge(text[-1:]),
            syllables=int(table.counts(beam.last, beam.syllables)[token]),
            log_probability=score,
        )

    def _keep(self, beam: _Hypothesis) -> None:
        """Add a complete filling, or give a known one its better score."""
        found = self._found[beam.gap]
        gap, (before, after) = self._gaps[beam.gap], self._around[beam.gap]
        spelled = beam.text[len(beam.context.prefix) :].removesuffix(beam.context.ending or "")
        filling = readable(f"{gap.begins}{spelled}{gap.ends}", before=before, after=after)
        score = exp(beam.log_probability / beam.length)
        syllables = syllables_of(filling)
        fits = gap.tokens is not None or gap.syllables[0] <= len(syllables) <= gap.syllables[1]
        fits = fits and self._model.table.all_real(syllables) and is_well_formed(before, filling, after)
        if fits and (filling not in found or found[filling].score < score):
            found[filling] = Candidate(filling, score, len(syllables))

    def _rescore(self, found: Sequence[Sequence[Candidate]]) -> list[list[Candidate]]:
        """Score the candidates in the whole line, cut by the tokenizer with each of them in place, and sort them."""
        lines: list[str] = []
        for (before, after), candidates in zip(self._around, found, strict=True):
            lines += [put_in(before, filling, after) for filling in (MASK, *(each.text for each in candidates))]
        tokens = iter(self._model.tokenize(lines))
        # Of each candidate its pieces and those beside it, with the windows to predict them in.
        pieces: list[list[tuple[_Pieces, _Pieces]]] = []
        for candidates in found:
            masked = next(tokens)
            pieces.append([self._pieces_of(next(tokens), masked) for _ in candidates])
        all_pieces = dict.fromkeys(each for of_gap in pieces for inside, beside in of_gap for each in inside + beside)
        missing = [each for each in all_pieces if each not in self._known]
        for index, row in self._model.log_probabilities([window for window, _ in missing]):
            self._known[missing[index]] = float(row[missing[index][1]])
        return [
            _best(self._scored(candidate, *some) for candidate, some in zip(candidates, of_gap, strict=True))
            for candidates, of_gap in zip(found, pieces, strict=True)
        ]

    def _pieces_of(self, ids: list[int], masked: list[int]) -> tuple[_Pieces, _Pieces]:
        """Return those of a filling, masked each by itself and again each with all after it, and those beside it."""
        filling = _changed(ids, masked)
        before, after = ids[: filling.start], ids[filling.stop :]
        from_left_to_right = [
            (self._model.window(before, ids[filling.start : at], filling.stop - at, after), ids[at]) for at in filling
        ]

        def by_itself(at: int) -> tuple[MaskedWindow, int]:
            return self._model.window(ids[:at], (), 1, ids[at + 1 :]), ids[at]

        beside = [by_itself(at) for at in (filling.start - 1, filling.stop) if 0 <= at < len(ids)]
        return [*map(by_itself, filling), *from_left_to_right], beside

    def _scored(self, candidate: Candidate, inside: _Pieces, beside: _Pieces) -> Candidate:
        total = sum(self._known[each] for each in inside) / 2 + _BESIDE * sum(self._known[each] for each in beside)
        weight = candidate.syllables + _BESIDE * len(beside)
        return replace(candidate, score=exp(total / weight)) if weight else candidate


def _highest(scores: np.ndarray, number: int) -> np.ndarray:
    """Return `np.argsort(-scores, kind="stable")[:number]`, without sorting all."""
    least = np.partition(scores, -number)[-number] if len(scores) > number else -np.inf
    kept = np.flatnonzero(scores >= least)
    return kept[np.argsort(-scores[kept], kind="stable")[:number]]


def _changed(ids: list[int], masked: list[int]) -> range:
    """The pieces that differ from those of the line with a mask in its gap: the filling and its seams."""
    start = len(os.path.commonprefix([ids, masked]))
    same_at_end = len(os.path.commonprefix([ids[start:][::-1], masked[start:][::-1]]))
    return range(start, len(ids) - same_at_end)


def _best(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Sort candidates, the likeliest first."""
    return sorted(candidates, key=lambda candidate: -candidate.score)
