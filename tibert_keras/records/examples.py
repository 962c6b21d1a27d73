"""Pack documents into sequences of one length: `[CLS] A [SEP]`, or `[CLS] A [SEP] B [SEP]` with `sop`."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple, Self

import numpy as np

from tibert_keras.errors import InputError, check_options
from tibert_keras.records.masking import MAX_LENGTH, span_places

# Memory holds this many tokens of a document, or `offset_steps` x `offset_stride` sections if that is more.
_WINDOW = 1 << 18


@dataclass(frozen=True, kw_only=True)
class ExamplePolicy:
    """Options for cutting documents into sequences, named as the original's flags.

    Args:
        max_seq_length: Length of every sequence, including [CLS], [SEP] and padding.
        short_seq_prob: Probability, for each sequence, of a random shorter target length.
        offset_steps: Number of walks through each document.
        offset_stride: Walk k starts at section k x `offset_stride`.
        dupe_factor: Number of repetitions of the whole, with other masks.
        sop: Split each sequence into two segments, and swap them in half of the cases, for the
            sentence-order prediction (SOP) of the ALBERT paper.
    """

    max_seq_length: int = 128
    short_seq_prob: float = 0.0
    offset_steps: int = 1
    offset_stride: int = 1
    dupe_factor: int = 1
    sop: bool = False

    def __post_init__(self) -> None:
        if not 5 <= self.max_seq_length <= MAX_LENGTH:
            raise InputError(f"max_seq_length must be from 5 to {MAX_LENGTH}. Received: {self.max_seq_length}.")
        if not 0 <= self.short_seq_prob <= 1:
            raise InputError(f"short_seq_prob must lie between 0 and 1. Received: {self.short_seq_prob}.")
        check_options(self, positive=("offset_steps", "offset_stride", "dupe_factor"))

    @property
    def max_num_tokens(self) -> int:
        """The number of text tokens that fit into a sequence."""
        return self.max_seq_length - (3 if self.sop else 2)


class Sections(NamedTuple):
    """Consecutive sections of a document."""

    token_ids: np.ndarray  # int32 [tokens], one section after the other, without special tokens
    ends: np.ndarray  # int64 [sections], the number of tokens up to the end of each section

    @classmethod
    def join(cls, encoded: Sequence[Sequence[int]]) -> Self:
        """Join the token ids of each section."""
        ends = np.fromiter(map(len, encoded), np.int64, len(encoded)).cumsum()
        return cls(np.fromiter(chain.from_iterable(encoded), np.int32, int(ends[-1]) if len(ends) else 0), ends)


class Cuts(NamedTuple):
    """Begin and end of each sequence of a walk."""

    token_ids: np.ndarray  # int32 [tokens], the tokens that the bounds index
    bounds: np.ndarray  # int64 [sequences, segments, 2], begin and end of each segment
    is_swapped: np.ndarray  # bool [sequences], whether the second segment was the first in the text


class Sequences(NamedTuple):
    """Sequences of one length."""

    token_ids: np.ndarray  # int32 [sequences, max_seq_length]
    segment_ids: np.ndarray  # int32 [sequences, max_seq_length], 1 in the second segment, 0 elsewhere
    is_swapped: np.ndarray  # int32 [sequences], the label of the sentence order: 1 where the segments are swapped


def cut_document(parts: Iterable[Sections], *, policy: ExamplePolicy, rng: np.random.Generator) -> Iterator[Cuts]:
    """Cut a document into sequences, in bounded memory.

    A sequence takes as many whole consecutive sections as fit. A section is cut, and continues in the next sequence,
    only if it is longer than a sequence, or does not fit after a single token, which alone would be no sequence. Only
    a single token at the end of the document is dropped. With `sop` a sequence is split between two of its sections,
    or within its only one. The walks come one after the other, in a long document those of each stretch.
    """
    token_ids, ends = np.zeros(0, np.int32), np.zeros(0, np.int64)
    last_start = (policy.offset_steps - 1) * policy.offset_stride
    walks: list[int] | None = None
    parts = iter(parts)
    is_last = False
    while not is_last:
        part = next(parts, None)
        if part is None:
            is_last = True
        else:
            ends = np.concatenate([ends, len(token_ids) + part.ends])
            token_ids = np.concatenate([token_ids, part.token_ids])
        if not is_last and (len(token_ids) < _WINDOW or (walks is None and len(ends) <= last_start)):
            continue
        section_ends = ends.tolist()
        if walks is None:
            starts = [0, *section_ends[:-1]][: last_start + 1 : policy.offset_stride]
            walks = [start for _ in range(policy.dupe_factor) for start in starts]
        for number, start in enumerate(walks):
            cuts = list(_walk(start, section_ends, is_last, policy, rng))
            walks[number] = cuts[-1][1] if cuts else start
            if cuts:
                yield _segments(token_ids, cuts, section_ends, policy, rng)
        passed = min(walks, default=0)
        token_ids, ends = token_ids[passed:], ends[ends > passed] - passed
        walks = [start - passed for start in walks]


def _walk(
    position: int, ends: list[int], is_last: bool, policy: ExamplePolicy, rng: np.random.Generator
) -> Iterator[tuple[int, int]]:
    """Yield begin and end of each sequence of a walk that does not depend on sections not read yet."""
    longest, total = policy.max_num_tokens, ends[-1] if ends else 0
    needed = 2 if is_last else longest + 1
    while total - position >= needed:
        target = longest
        if policy.short_seq_prob and rng.random() < policy.short_seq_prob:
            target = int(rng.integers(2, longest + 1))
        # Up to the last section that fits or, if none does, one section or the part of it that fits.
        last = bisect_right(ends, position + target) - 1
        end = ends[last] if last >= 0 else position
        if end - position < 2:
            following = bisect_right(ends, position + 1)
            end = min(ends[following], position + longest)
        yield position, end
        position = end


def _segments(
    token_ids: np.ndarray, cuts: list[tuple[int, int]], ends: list[int], policy: ExamplePolicy, rng: np.random.Generator
) -> Cuts:
    """Split the sequences into segments, if the policy has them."""
    bounds = np.array(cuts)
    if not policy.sop:
        return Cuts(token_ids, bounds[:, None], np.zeros(len(cuts), bool))
    middles = []
    for (begin, end), draw in zip(cuts, rng.random(len(cuts)).tolist(), strict=True):
        first, past = bisect_right(ends, begin), bisect_left(ends, end)
        inside = ends[first + int(draw * (past - first))] if past > first else begin + 1 + int(draw * (end - begin - 1))
        middles.append(inside)
    segments = np.stack([bounds[:, 0], middles, middles, bounds[:, 1]], axis=1).reshape(-1, 2, 2)
    is_swapped = rng.random(len(cuts)) < 0.5
    segments[is_swapped] = segments[is_swapped, ::-1]
    return Cuts(token_ids, segments, is_swapped)


def lay_out(
    cuts: Sequence[Cuts],
    *,
    policy: ExamplePolicy,
    cls_token_id: int,
    sep_token_id: int,
    pad_token_id: int,
    space_token_id: int | None = None,
) -> Sequences:
    """Lay out the sequences of any number of walks and documents, at least one, in the order of the cuts.

    Segments that begin with the token `space_token_id`, if there is one, begin with the next instead.
    """
    # Walks over the same tokens share them.
    pools = {id(cut.token_ids): cut.token_ids for cut in cuts}
    offsets = dict(zip(pools, np.cumsum([0, *map(len, pools.values())]), strict=False))
    pool = np.concatenate(list(pools.values()))
    bounds = np.concatenate([cut.bounds + offsets[id(cut.token_ids)] for cut in cuts])
    if space_token_id is not None:
        bounds[..., 0] += (pool[bounds[..., 0]] == space_token_id) & (bounds[..., 1] - bounds[..., 0] > 1)

    shape = (len(bounds), policy.max_seq_length)
    token_ids, segment_ids = np.full(shape, pad_token_id, np.int32), np.zeros(shape, np.int32)
    token_ids[:, 0] = cls_token_id
    rows, columns, start = np.arange(shape[0]), np.arange(shape[1]), np.ones(shape[0], np.int64)
    for segment in range(bounds.shape[1]):
        begin, end = bounds[:, segment].T
        length = end - begin
        inside = (columns >= start[:, None]) & (columns < (start + length)[:, None])
        token_ids[inside] = pool[span_places(begin, length)]
        token_ids[rows, start + length] = sep_token_id
        segment_ids[inside] = segment
        segment_ids[rows, start + length] = segment
        start += length + 1
    return Sequences(token_ids, segment_ids, np.concatenate([cut.is_swapped for cut in cuts]).astype(np.int32))
