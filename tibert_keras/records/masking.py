"""Mask n-grams of token ids: one policy and one pure function, used everywhere."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from tibert_keras.errors import InputError

# No model has so many positions.
MAX_LENGTH = 1 << 16
# The features of Google's schema that masks decide, in the order of `MaskedTokens`.
LABEL_FEATURES = ("input_ids", "masked_lm_positions", "masked_lm_ids", "masked_lm_weights")

# Shapes below: B sequences, L tokens a sequence, P = max_predictions_per_seq, S prediction slots a sequence.
# "Flat" arrays list tokens, words or spans row by row, in ascending order of columns.


@dataclass(frozen=True, kw_only=True)
class MaskingPolicy:
    """Options for choosing and replacing tokens, named as the original's flags.

    Args:
        masked_lm_prob: Share of a sequence's tokens, including [CLS] and [SEP], that are predicted.
        max_predictions_per_seq: Maximum number of masked tokens in a sequence.
        ngram: Length of the longest masked span, in tokens or, with `do_whole_word_mask`, in syllables.
        favor_shorter_ngram: Draw span lengths n with probability proportional to 1/n, as in the ALBERT paper.
            If false, reverse these probabilities, so that the longest spans are the most likely.
        do_whole_word_mask: Mask whole syllables.
        do_permutation: Predict as many tokens again that are not masked but exchanged with each other. A sequence
            then has twice `max_predictions_per_seq` prediction slots.
        mask_token_rate: Share of the chosen tokens that become [MASK].
        random_token_rate: Share that become a random ordinary token. The rest stay as they are.
    """

    masked_lm_prob: float = 0.15
    max_predictions_per_seq: int = 20
    ngram: int = 3
    favor_shorter_ngram: bool = False
    do_whole_word_mask: bool = False
    do_permutation: bool = False
    mask_token_rate: float = 0.8
    random_token_rate: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.masked_lm_prob <= 1:
            raise InputError(f"masked_lm_prob must lie between 0 and 1. Received: {self.masked_lm_prob}.")
        if not 1 <= min(sizes := (self.ngram, self.max_predictions_per_seq)) <= max(sizes) <= MAX_LENGTH:
            raise InputError(
                f"ngram and max_predictions_per_seq must be from 1 to {MAX_LENGTH}. "
                f"Received: ngram={self.ngram}, max_predictions_per_seq={self.max_predictions_per_seq}."
            )
        if not 0 <= self.mask_token_rate <= 1 - self.random_token_rate <= 1:
            raise InputError(
                "mask_token_rate and random_token_rate must be shares that add up to 1 at most. "
                f"Received: mask_token_rate={self.mask_token_rate}, random_token_rate={self.random_token_rate}."
            )

    @property
    def ngram_probabilities(self) -> np.ndarray:
        """The distribution of span lengths: element n-1 is the probability of n."""
        weights = 1.0 / np.arange(1, self.ngram + 1)
        return (weights if self.favor_shorter_ngram else weights[::-1]) / weights.sum()

    @property
    def prediction_slots(self) -> int:
        """The number of prediction slots: `max_predictions_per_seq`, or twice that with `do_permutation`."""
        return self.max_predictions_per_seq * (1 + self.do_permutation)

    def num_draws(self, length: int) -> int:
        """Return how many random numbers `mask_tokens` needs for a sequence of `length` tokens, including padding."""
        return sum(self._draws(length))

    def _draws(self, length: int) -> list[int]:
        slots = self.max_predictions_per_seq
        selection = [length, length] if self.do_whole_word_mask else [slots, slots, 1]
        return [*selection, slots, slots] + [*selection, slots] * self.do_permutation


class MaskedTokens(NamedTuple):
    """Masked sequences and their labels.

    Attributes:
        token_ids: int32 `[B, L]`, the input with the chosen tokens replaced.
        mask_positions: int32 `[B, S]`, ascending; 0 in unused slots.
        mask_ids: int32 `[B, S]`, the original ids at these positions; 0 in unused slots.
        mask_weights: float32 `[B, S]`, 1 in used slots and 0 in unused ones.
    """

    token_ids: np.ndarray
    mask_positions: np.ndarray
    mask_ids: np.ndarray
    mask_weights: np.ndarray


def mask_tokens(token_ids: np.ndarray, *, policy: MaskingPolicy, tokenizer: Any, draws: np.ndarray) -> MaskedTokens:
    """Choose spans of tokens in each sequence, and replace them by the 80/10/10 rule of BERT.

    A sequence of `len` tokens gives `round(len x masked_lm_prob)` predictions, at least 1 unless the share is 0, and
    at most `max_predictions_per_seq` (and at most as many as it has ordinary tokens). Span lengths are drawn until
    they add up to that number, with the last one cut to fit, and all placements of the spans without overlap are
    equally likely. A special token inside a span, as between two segments, splits it.

    With `do_whole_word_mask` the words are visited in random order, and each word not masked yet starts a span. The
    words of the span are masked up to the first that is masked already or exceeds the number of predictions. The total
    may fall short of that number by less than the shortest remaining word.

    Args:
        token_ids: int `[B, L]`, padded after the last token.
        policy: Rates and span lengths.
        tokenizer: A `SentencePieceEncoder` or `TibertTokenizer`, for its `special_token_ids`, which are never chosen,
            the `ordinary_token_ids`, of which random replacements are drawn, `mask_token_id`, `pad_token_id` and, for
            `do_whole_word_mask`, `starts_syllable`.
        draws: float64 `[B, policy.num_draws(L)]`, uniform in [0, 1): the only source of randomness. A row of the
            result depends only on the same row of the input and of the draws.

    Returns:
        The masked sequences, as new arrays.
    """
    token_ids = np.asarray(token_ids, np.int32)
    parts = iter(np.split(draws, np.cumsum(policy._draws(token_ids.shape[1]))[:-1], axis=1))
    maskable = ~np.isin(token_ids, tokenizer.special_token_ids)
    lengths = np.count_nonzero(token_ids != tokenizer.pad_token_id, axis=1)
    fewest = 1 if policy.masked_lm_prob else 0
    wanted = np.rint(lengths * policy.masked_lm_prob).clip(fewest, policy.max_predictions_per_seq).astype(np.int64)

    def select(candidates: np.ndarray) -> np.ndarray:
        budget = np.minimum(wanted, candidates.sum(axis=1))
        if policy.do_whole_word_mask:
            starts_word = tokenizer.starts_syllable(token_ids)
            return _select_words(candidates, starts_word, budget, policy, next(parts), next(parts))
        return _select_tokens(candidates, budget, policy, next(parts), next(parts), next(parts))

    chosen = select(maskable)
    masked = token_ids.copy()
    row, column, slot = _flat(chosen)
    dice, random_id = next(parts)[row, slot], next(parts)[row, slot]
    replacement = masked[row, column]
    replacement[dice < policy.mask_token_rate] = tokenizer.mask_token_id
    random, ordinary = dice >= 1 - policy.random_token_rate, np.asarray(tokenizer.ordinary_token_ids)
    replacement[random] = ordinary[(random_id[random] * len(ordinary)).astype(np.int64)]
    masked[row, column] = replacement
    if policy.do_permutation:
        exchanged = select(maskable & ~chosen)
        row, column, slot = _flat(exchanged)
        order = np.lexsort((next(parts)[row, slot], row))
        masked[row, column] = token_ids[row, column[order]]
        chosen |= exchanged

    row, column, slot = _flat(chosen)
    shape = (len(token_ids), policy.prediction_slots)
    positions, ids, weights = np.zeros(shape, np.int32), np.zeros(shape, np.int32), np.zeros(shape, np.float32)
    positions[row, slot], ids[row, slot], weights[row, slot] = column, token_ids[row, column], 1
    return MaskedTokens(masked, positions, ids, weights)


def original_tokens(token_ids: np.ndarray, positions: np.ndarray, ids: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return masked sequences `[B, L]` as they were before, by their labels `[B, S]`."""
    original = token_ids.copy()
    row, slot = np.nonzero(weights)
    original[row, positions[row, slot]] = ids[row, slot]
    return original


@dataclass(frozen=True, kw_only=True)
class DynamicMasking:
    """Masks the examples of records anew, with their tokenizer, from the tokens that they had before."""

    policy: MaskingPolicy
    tokenizer: Any
    seed: int

    def __call__(self, features: Mapping[str, np.ndarray], first: int) -> dict[str, np.ndarray]:
        """Mask a batch of Google's schema, arrays `[B, values]`, and return it with other `LABEL_FEATURES`.

        The masks of an example depend on the seed and its place alone. `first` is the place of the first example in an
        endless stream of epochs.
        """
        token_ids = original_tokens(*(features[name] for name in LABEL_FEATURES))
        num_draws = self.policy.num_draws(token_ids.shape[1])
        # Three numbers: the order of the examples takes two. Each example has its own draws of one endless sequence.
        bits = np.random.PCG64([self.seed, 0, 1]).advance(first * num_draws)
        draws = np.random.Generator(bits).random((len(token_ids), num_draws))
        masked = mask_tokens(token_ids, policy=self.policy, tokenizer=self.tokenizer, draws=draws)
        return {**features, **dict(zip(LABEL_FEATURES, masked, strict=True))}


def _flat(flags: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return row, column, and number within the row of each flag of `[B, L]` that is set."""
    row, column = np.nonzero(flags)
    count = np.bincount(row, minlength=len(flags))
    return row, column, np.arange(len(row)) - (count.cumsum() - count)[row]


def span_places(begin: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Return the places of all tokens of flat spans, one span after the other."""
    return np.arange(length.sum()) - np.repeat(length.cumsum() - length - begin, length)


def _span_lengths(policy: MaskingPolicy, draws: np.ndarray) -> np.ndarray:
    return 1 + np.searchsorted(policy.ngram_probabilities.cumsum()[:-1], draws, side="right")


def _select_tokens(
    candidates: np.ndarray,
    budget: np.ndarray,
    policy: MaskingPolicy,
    length_draws: np.ndarray,
    place_draws: np.ndarray,
    exchange_draws: np.ndarray,
) -> np.ndarray:
    """Choose exactly `budget` `[B]` of the candidates `[B, L]`, in spans.

    With every span shrunk to one token `free` places are left. Choosing the places of the spans among these is the
    same as choosing an arrangement of the whole.
    """
    drawn = _span_lengths(policy, length_draws)
    spans = np.minimum(drawn, budget[:, None] - (drawn.cumsum(axis=1) - drawn)).clip(0)
    num_spans = np.count_nonzero(spans, axis=1)
    # Exchange the span that was cut to fit, the last one, so that it is equally likely anywhere in the sequence.
    rows, last = np.arange(len(spans)), (num_spans - 1).clip(0)
    other = (exchange_draws[:, 0] * num_spans).astype(np.int64)
    spans[rows, last], spans[rows, other] = spans[rows, other], spans[rows, last]

    free = candidates.sum(axis=1) - budget + num_spans
    row, place, slot = _flat(_choose_places(free, num_spans, candidates.shape[1], place_draws))
    # Back to full size: the start of a span moves by as much as the spans before it were shrunk.
    size = spans[row, slot]
    start = place + (spans.cumsum(axis=1) - spans)[row, slot] - slot

    # Places count only candidates: map them to columns.
    row = np.repeat(row, size)
    column = np.nonzero(candidates)[1]
    count = candidates.sum(axis=1)
    chosen = np.zeros_like(candidates)
    chosen[row, column[(count.cumsum() - count)[row] + span_places(start, size)]] = True
    return chosen


def _choose_places(places: np.ndarray, wanted: np.ndarray, width: int, draws: np.ndarray) -> np.ndarray:
    """Choose `wanted` `[B]` of the first `places` `[B]` columns by Floyd's algorithm, and return bool `[B, width]`."""
    taken = np.zeros((len(places), width), bool)
    for step in range(wanted.max(initial=0)):
        rows = np.flatnonzero(step < wanted)
        newest = places[rows] - wanted[rows] + step
        place = (draws[rows, step] * (newest + 1)).astype(np.int64)
        taken[rows, np.where(taken[rows, place], newest, place)] = True
    return taken


def _select_words(
    candidates: np.ndarray,
    starts_word: np.ndarray,
    budget: np.ndarray,
    policy: MaskingPolicy,
    order_draws: np.ndarray,
    length_draws: np.ndarray,
) -> np.ndarray:
    """Choose at most `budget` `[B]` of the candidates `[B, L]`, in spans of whole words."""
    before, after = (np.roll(np.pad(candidates, ((0, 0), (1, 1))), shift, axis=1)[:, 1:-1] for shift in (1, -1))
    first = candidates & (starts_word | ~before)
    last = candidates & (np.roll(first, -1, axis=1) | ~after)
    last[:, -1] = candidates[:, -1]
    row, begin, word = _flat(first)
    size = np.nonzero(last)[1] + 1 - begin
    sizes = np.zeros((len(candidates), candidates.shape[1] + policy.ngram), np.int64)
    sizes[row, word] = size
    num_words = np.count_nonzero(sizes, axis=1)

    order = np.argsort(np.where(sizes[:, : order_draws.shape[1]] > 0, order_draws, 2.0), axis=1)
    lengths, left, taken = _span_lengths(policy, length_draws), budget.copy(), sizes == 0
    for step in range(num_words.max(initial=0)):
        rows = np.flatnonzero((step < num_words) & (left > 0))
        if not len(rows):
            break
        start, open_ = order[rows, step], np.ones(len(rows), bool)
        for n in range(policy.ngram):
            cost = sizes[rows, start + n]
            open_ &= (n < lengths[rows, step]) & ~taken[rows, start + n] & (cost <= left[rows])
            taken[rows[open_], start[open_] + n] = True
            left[rows] -= cost * open_
    chosen = np.zeros_like(candidates)
    picked = taken[row, word]
    row, begin, size = row[picked], begin[picked], size[picked]
    chosen[np.repeat(row, size), span_places(begin, size)] = True
    return chosen
