"""Finds the ways in which pieces may join the text around a gap."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import ceil

from tibert_keras.inference.gap_model import GapModel
from tibert_keras.inference.gaps import (
    LETTER,
    MASK,
    MAX_TOKENS,
    SIGN,
    UNMARKED,
    Gap,
    edge,
    leading_marks,
    syllables_of,
)
from tibert_keras.tibetan import COMBINING_SIGNS, LETTERS, SHAD, TSHEG, TSHEGS
from tibert_keras.transcription import join_lines, plain_marks

# An upper bound of the mean length of pieces: text further away from a gap lies outside the model's window.
_CHARACTERS_PER_TOKEN = 16

# Shads without the space after them that editions have, and models expect.
_SHADS = re.compile(rf"(?<=[{LETTERS}{COMBINING_SIGNS}{TSHEGS}\]]){SHAD}+(?=[{LETTERS}\[])")


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
