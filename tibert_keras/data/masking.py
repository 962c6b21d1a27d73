"""N-gram masking of token ids: one policy, one pure function. Change the masking here and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from tibert_keras.errors import InputError

# Shapes below: B sequences, L tokens a sequence, P predictions a sequence.


@dataclass(frozen=True, kw_only=True)
class MaskingPolicy:
    """How tokens are chosen and replaced, under the names of the original's flags.

    Args:
        masked_lm_prob: Share of a sequence's tokens, [CLS] and [SEP] counted, that are predicted.
        max_predictions_per_seq: Most tokens predicted in one sequence.
        ngram: Longest span that is masked as one.
        favor_shorter_ngram: Draw span lengths n with probability proportional to 1/n, as in the ALBERT paper.
            If false the same probabilities are taken in reverse, so that the longest spans are the most likely.
        mask_token_rate: Share of the chosen tokens that become [MASK].
        random_token_rate: Share that become a random ordinary token. The rest stay as they are.
    """

    masked_lm_prob: float = 0.15
    max_predictions_per_seq: int = 20
    ngram: int = 3
    favor_shorter_ngram: bool = False
    mask_token_rate: float = 0.8
    random_token_rate: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.masked_lm_prob < 1:
            raise InputError(f"masked_lm_prob must lie between 0 and 1. Received: {self.masked_lm_prob}.")
        if min(self.ngram, self.max_predictions_per_seq) < 1:
            raise InputError(
                "ngram and max_predictions_per_seq must be at least 1. "
                f"Received: ngram={self.ngram}, max_predictions_per_seq={self.max_predictions_per_seq}."
            )
        if not 0 <= self.mask_token_rate <= 1 - self.random_token_rate <= 1:
            raise InputError(
                "mask_token_rate and random_token_rate must be shares that add up to 1 at most. "
                f"Received: mask_token_rate={self.mask_token_rate}, random_token_rate={self.random_token_rate}."
            )

    @property
    def ngram_probabilities(self) -> np.ndarray:
        """The law of the span length: element n-1 is the probability of n."""
        weights = 1.0 / np.arange(1, self.ngram + 1)
        return (weights if self.favor_shorter_ngram else weights[::-1]) / weights.sum()


class MaskedTokens(NamedTuple):
    """Masked sequences and what was masked in them.

    Attributes:
        token_ids: int32 `[B, L]`, the input with the chosen tokens replaced.
        mask_positions: int32 `[B, P]`, ascending; 0 in unused slots.
        mask_ids: int32 `[B, P]`, the original ids at these positions; 0 in unused slots.
        mask_weights: float32 `[B, P]`, 1 in used slots and 0 in unused ones.
    """

    token_ids: np.ndarray
    mask_positions: np.ndarray
    mask_ids: np.ndarray
    mask_weights: np.ndarray


def mask_tokens(
    token_ids: np.ndarray,
    *,
    policy: MaskingPolicy,
    special_token_ids: Sequence[int],
    ordinary_token_ids: Sequence[int] | np.ndarray,
    mask_token_id: int,
    pad_token_id: int,
    rng: np.random.Generator,
) -> MaskedTokens:
    """Choose spans of tokens in each sequence, and replace them by the 80/10/10 rule of BERT.

    A sequence of `len` tokens gives `round(len x masked_lm_prob)` predictions, at least 1 and at most
    `max_predictions_per_seq` (and no more than it has ordinary tokens). Span lengths are drawn until they fill
    that number, the last cut to fit, and every way of placing the spans without overlap is equally likely.
    A span that falls across a special token, as between two segments, is parted by it.

    Args:
        token_ids: int `[B, L]`, padded after the last token.
        policy: Rates and span lengths.
        special_token_ids: Ids that are never chosen, padding among them.
        ordinary_token_ids: Ids that a random replacement is drawn from.
        mask_token_id: Id of [MASK].
        pad_token_id: Id of the padding.
        rng: The only source of randomness: the same generator state gives the same masks.

    Returns:
        The masked sequences, as new arrays.
    """
    maskable = ~np.isin(token_ids, special_token_ids)
    lengths = np.count_nonzero(token_ids != pad_token_id, axis=1)
    budget = np.rint(lengths * policy.masked_lm_prob).clip(1, policy.max_predictions_per_seq)
    budget = np.minimum(budget, maskable.sum(axis=1)).astype(np.int64)
    spans = _draw_spans(budget, policy, rng)
    chosen = _place_spans(spans, maskable, rng)

    # A stable sort moves the chosen columns to the front and keeps their order.
    slots = policy.max_predictions_per_seq
    positions = np.argsort(~chosen, axis=1, kind="stable")[:, :slots]
    positions = np.pad(positions, ((0, 0), (0, slots - positions.shape[1])))
    used = np.arange(slots) < budget[:, None]
    positions = np.where(used, positions, 0)
    mask_ids = np.where(used, np.take_along_axis(token_ids, positions, axis=1), 0)

    masked = token_ids.astype(np.int32)
    dice = rng.random(int(chosen.sum()))
    replacement = masked[chosen]
    replacement[dice < policy.mask_token_rate] = mask_token_id
    random = dice >= 1 - policy.random_token_rate
    replacement[random] = rng.choice(np.asarray(ordinary_token_ids, np.int32), size=int(random.sum()))
    masked[chosen] = replacement
    return MaskedTokens(masked, positions.astype(np.int32), mask_ids.astype(np.int32), used.astype(np.float32))


def _draw_spans(budget: np.ndarray, policy: MaskingPolicy, rng: np.random.Generator) -> np.ndarray:
    """Draw span lengths `[B, P]` that add up to the budget `[B]`, in random order, with zeros at the end."""
    shape = (len(budget), policy.max_predictions_per_seq)
    drawn = 1 + rng.choice(policy.ngram, size=shape, p=policy.ngram_probabilities)
    already = drawn.cumsum(axis=1) - drawn
    spans = np.minimum(drawn, budget[:, None] - already).clip(0)
    # The span that was cut to fit is the last: shuffled, it is as likely anywhere in the sequence.
    order = np.argsort(np.where(spans > 0, rng.random(shape), 2.0), axis=1)
    return np.take_along_axis(spans, order, axis=1)


def _place_spans(spans: np.ndarray, maskable: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Lay spans `[B, P]` over the maskable tokens `[B, L]`, without overlap, each way with equal probability.

    With every span shrunk to one token there are `free` places left, and choosing the places of the spans among
    these is the same as choosing an arrangement of the whole.

    Returns:
        bool `[B, L]`, the tokens that are covered by a span.
    """
    count, length = maskable.shape
    num_spans = np.count_nonzero(spans, axis=1)[:, None]
    free = maskable.sum(axis=1, keepdims=True) - spans.sum(axis=1, keepdims=True) + num_spans
    columns = np.arange(length)
    keys = np.where(columns < free, rng.random((count, length)), 2.0)
    rank = np.argsort(np.argsort(keys, axis=1), axis=1)
    places = np.sort(np.where(rank < num_spans, columns, length), axis=1)[:, : spans.shape[1]]
    spans = spans[:, : places.shape[1]]

    # Back to full size: a span starts as much later as the spans before it were shrunk.
    starts = places + (spans.cumsum(axis=1) - spans) - np.arange(spans.shape[1])
    row, slot = np.nonzero(spans)
    edges = np.zeros((count, length + 1), np.int64)
    np.add.at(edges, (row, starts[row, slot]), 1)
    np.add.at(edges, (row, starts[row, slot] + spans[row, slot]), -1)
    covered = edges.cumsum(axis=1)[:, :length] > 0

    # So far columns count maskable tokens only.
    index = (maskable.cumsum(axis=1) - 1).clip(0)
    return maskable & np.take_along_axis(covered, index, axis=1)
