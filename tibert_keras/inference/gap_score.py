"""The score of whole fillings in their line."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import exp

import numpy as np

from tibert_keras.inference.gap_context import surroundings
from tibert_keras.inference.gap_model import GapModel
from tibert_keras.inference.gaps import MASK, Gap


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


def best(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Sort candidates, the likeliest first."""
    return sorted(candidates, key=lambda candidate: -candidate.score)


def rescore(model: GapModel, gaps: Sequence[Gap], found: Sequence[Sequence[Candidate]]) -> list[list[Candidate]]:
    """Score the candidates of gaps in the whole line, as the tokenizer cuts it with them in it, and sort them."""
    lines: list[str] = []
    for gap, candidates in zip(gaps, found, strict=True):
        before, after = surroundings(model, gap)
        lines += [f"{before}{filling}{after}" for filling in (MASK, *(each.text for each in candidates))]
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
        best(
            replace(candidate, score=exp(np.mean(log_probabilities[number, rank])))
            for rank, candidate in enumerate(candidates)
        )
        for number, candidates in enumerate(found)
    ]


def _changed(ids: list[int], masked: list[int]) -> range:
    """Where a line's pieces differ from those of the same line with a mask in its gap: the filling, and its seams."""
    same = [a == b for a, b in zip(ids, masked, strict=False)]
    start = same.index(False) if False in same else len(same) - 1
    same = [a == b for a, b in zip(reversed(ids[start:]), reversed(masked[start:]), strict=False)]
    end = len(ids) - (same.index(False) if False in same else len(same))
    return range(min(start, end - 1), end)
