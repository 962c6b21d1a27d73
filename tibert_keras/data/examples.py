"""Documents of token ids to sequences of one length: `[CLS] sections [SEP]`, without sentence-order pairs."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tibert_keras.errors import InputError


@dataclass(frozen=True, kw_only=True)
class ExamplePolicy:
    """How a document is cut into sequences, under the names of the original's flags.

    Args:
        max_seq_length: Length of every sequence, [CLS], [SEP] and padding included.
        short_seq_prob: Probability, for each sequence, of a random shorter length to aim at.
        offset_steps: How often a document is walked through.
        offset_stride: Walk k starts at section k x `offset_stride`.
    """

    max_seq_length: int = 128
    short_seq_prob: float = 0.0
    offset_steps: int = 1
    offset_stride: int = 1

    def __post_init__(self) -> None:
        if self.max_seq_length < 4:
            raise InputError(f"max_seq_length must be at least 4. Received: {self.max_seq_length}.")
        if not 0 <= self.short_seq_prob <= 1:
            raise InputError(f"short_seq_prob must lie between 0 and 1. Received: {self.short_seq_prob}.")
        if min(self.offset_steps, self.offset_stride) < 1:
            raise InputError(
                "offset_steps and offset_stride must be at least 1. "
                f"Received: offset_steps={self.offset_steps}, offset_stride={self.offset_stride}."
            )


def pack_document(
    sections: Sequence[Sequence[int]],
    *,
    policy: ExamplePolicy,
    cls_token_id: int,
    sep_token_id: int,
    pad_token_id: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Pack the sections of one document into sequences.

    A sequence takes whole sections in order, as many as fit; only a section longer than a sequence is cut, and
    goes on in the next. So is one that does not fit after a single token, which is no sequence by itself. Nothing
    is left out but a single token at the end of the document.

    Args:
        sections: Token ids of each section, without special tokens.
        policy: Lengths and walks.
        cls_token_id: Id of [CLS].
        sep_token_id: Id of [SEP].
        pad_token_id: Id of the padding.
        rng: Draws the short sequences.

    Returns:
        int32 `[num_sequences, max_seq_length]`, the walks one after the other.
    """
    tokens = np.fromiter((token for section in sections for token in section), np.int32)
    ends = np.cumsum([len(section) for section in sections]).tolist() or [0]
    starts = [0, *ends[:-1]][: policy.offset_steps * policy.offset_stride : policy.offset_stride]
    cuts = [cut for start in starts for cut in _cuts(start, ends, policy, rng)]
    begin, end = np.array(cuts, np.int64).reshape(-1, 2, 1).swapaxes(0, 1)

    index = begin + np.arange(policy.max_seq_length - 2)
    inside = index < end
    sequences = np.full((len(cuts), policy.max_seq_length), pad_token_id, np.int32)
    sequences[:, 0] = cls_token_id
    sequences[:, 1:-1][inside] = tokens[index[inside]]
    np.put_along_axis(sequences, end - begin + 1, sep_token_id, axis=1)
    return sequences


def _cuts(
    position: int, ends: Sequence[int], policy: ExamplePolicy, rng: np.random.Generator
) -> Iterator[tuple[int, int]]:
    """Yield where each sequence of one walk begins and ends, counted in tokens of the document."""
    longest, total = policy.max_seq_length - 2, ends[-1]
    while total - position >= 2:
        target = longest
        if policy.short_seq_prob and rng.random() < policy.short_seq_prob:
            target = int(rng.integers(2, longest + 1))
        # The last section that still fits; if none does, one section, or what fits of it.
        last = bisect_right(ends, position + target) - 1
        end = ends[last] if last >= 0 else position
        if end - position < 2:
            following = bisect_right(ends, position + 1)
            end = min(ends[following], position + longest)
        yield position, end
        position = end
