"""The likeliest fillings of gaps, by beam search with a masked language model."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from math import exp
from typing import Any

import numpy as np

from tibert_keras.inference.gap_context import Context, contexts_of, surroundings
from tibert_keras.inference.gap_model import GapModel
from tibert_keras.inference.gaps import (
    MASK,
    Gap,
    edge,
    has_shad_inside,
    is_well_formed,
    put_in,
    readable,
    syllables_of,
)

# How many hypotheses to keep for each gap, length and ending.
_WIDTH = 5
# How many pieces to look at for each of them, among which some make no punctuation that is written.
_LOOK_AT = 8


@dataclass(frozen=True)
class Candidate:
    """A filling of a gap.

    Attributes:
        text: Whole syllables that replace the gap in the line; empty if nothing is missing.
        score: The geometric mean of the probabilities of its pieces, each masked by itself, from 0 to 1.
        syllables: Their number.
    """

    text: str
    score: float
    syllables: int


def search_gaps(
    model: Any, gaps: Sequence[Gap], top_k: int, *, should_stop: Callable[[], bool] = lambda: False
) -> list[list[Candidate]]:
    """Search the fillings of gaps as `fill_gaps` describes: for each gap the candidates, the likeliest first.

    Raises:
        InputError: If the model cannot search gaps, or a gap is longer than its sequences.
        SearchStopped: If `should_stop` returns `True`.
    """
    return _Search(GapModel(model, should_stop=should_stop), gaps, max(top_k, _WIDTH)).run(top_k) if gaps else []


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
    def pool(self) -> tuple[int, int, str | None]:
        """The hypotheses that it competes with have the same."""
        return self.gap, self.length, self.context.ending


class _Search:
    """A beam search that keeps `width` hypotheses of each pool."""

    def __init__(self, model: GapModel, gaps: Sequence[Gap], width: int) -> None:
        self._model, self._gaps, self._width = model, gaps, width
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
        while beams:
            grown = self._grow(beams)
            beams = [beam for beam in grown if len(beam.ids) < beam.length]
            for beam in grown:
                if len(beam.ids) == beam.length:
                    self._keep(beam)
        found = [_best(each.values())[: 2 * self._width] for each in self._found]
        return [candidates[:top_k] for candidates in _rescore(self._model, self._gaps, found)]

    def _grow(self, beams: list[_Hypothesis]) -> list[_Hypothesis]:
        """Append a piece to each hypothesis, and keep the best of each pool."""
        windows = [
            self._model.window(beam.context.before, beam.ids, beam.length - len(beam.ids), beam.context.after)
            for beam in beams
        ]
        grown: dict[Any, list[tuple[float, int, int]]] = defaultdict(list)
        for index, row in self._model.log_probabilities(windows):
            allowed = np.flatnonzero(self._allowed(beams[index]))
            if not allowed.size:
                continue
            scores = row[allowed] + beams[index].log_probability
            if len(beams[index].text) < len(beams[index].context.prefix):
                # The known text in the piece is no guess.
                scores -= np.logaddexp.reduce(row[allowed])
            top = np.argsort(-scores, kind="stable")[: _LOOK_AT * self._width]
            fitting = (each for each in top if self._is_written(beams[index], int(allowed[each])))
            grown[beams[index].pool] += [
                (float(scores[each]), index, int(allowed[each])) for each in islice(fitting, self._width)
            ]
        return [
            self._extend(beams[index], token, score)
            for pool in grown.values()
            for score, index, token in sorted(pool, reverse=True)[: self._width]
        ]

    def _allowed(self, beam: _Hypothesis) -> np.ndarray:
        """The pieces that may come next, bool `[vocabulary]`."""
        table, (low, high) = self._model.table, beam.context.syllables
        counts = table.counts(beam.last, beam.syllables)
        allowed = table.may_follow(beam.last) & (counts <= high)
        if len(beam.text) < len(beam.context.prefix):
            allowed &= table.agrees(beam.context.prefix[len(beam.text) :])
        if len(beam.ids) + 1 == beam.length:
            allowed &= (counts >= low) & table.may_end(beam.text, beam.context.ending)
        return allowed

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
        spelled = beam.text[len(beam.context.prefix) :].removesuffix(beam.context.ending or "")
        gap = self._gaps[beam.gap]
        spelled = f"{gap.begins}{spelled}{gap.ends}"
        before, after = self._around[beam.gap]
        filling = readable(spelled, before=before, after=after)
        score = exp(beam.log_probability / beam.length)
        syllables = syllables_of(filling)
        fits = gap.tokens is not None or gap.syllables[0] <= len(syllables) <= gap.syllables[1]
        fits = fits and self._model.table.all_real(syllables) and is_well_formed(before, filling, after)
        if fits and (filling not in found or found[filling].score < score):
            found[filling] = Candidate(filling, score, len(syllables))


# === Scores in the whole line ===


def _rescore(model: GapModel, gaps: Sequence[Gap], found: Sequence[Sequence[Candidate]]) -> list[list[Candidate]]:
    """Score the candidates in the whole line, cut by the tokenizer with each of them in place, and sort them."""
    lines: list[str] = []
    for gap, candidates in zip(gaps, found, strict=True):
        before, after = surroundings(model, gap)
        lines += [put_in(before, filling, after) for filling in (MASK, *(each.text for each in candidates))]
    tokens = iter(model.tokenize(lines))
    windows, wanted, owners = [], [], []
    for number, candidates in enumerate(found):
        masked = next(tokens)
        for rank in range(len(candidates)):
            ids = next(tokens)
            for index in _changed(ids, masked):
                windows.append(model.window(ids[:index], (), 1, ids[index + 1 :]))
                wanted.append(ids[index])
                owners.append((number, rank))
    log_probabilities = defaultdict(list)
    for index, row in model.log_probabilities(windows):
        log_probabilities[owners[index]].append(float(row[wanted[index]]))
    return [
        _best(
            replace(candidate, score=exp(np.mean(log_probabilities[number, rank])))
            for rank, candidate in enumerate(candidates)
        )
        for number, candidates in enumerate(found)
    ]


def _changed(ids: list[int], masked: list[int]) -> range:
    """The pieces that differ from those of the line with a mask in its gap: the filling and its seams.

    If nothing is filled in, those on each side of the seam.
    """
    same = [a == b for a, b in zip(ids, masked, strict=False)]
    start = same.index(False) if False in same else len(same) - 1
    same = [a == b for a, b in zip(reversed(ids[start:]), reversed(masked[start:]), strict=False)]
    end = len(ids) - (same.index(False) if False in same else len(same))
    return range(min(start, end - 1), end) if end > start else range(max(start - 1, 0), min(start + 1, len(ids)))


def _best(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Sort candidates, the likeliest first."""
    return sorted(candidates, key=lambda candidate: -candidate.score)
