"""Made-up token ids, masked, and what holds for every policy."""

from types import SimpleNamespace

import numpy as np

from tibert_keras.records.masking import MaskingPolicy, mask_tokens

PAD, UNK, CLS, SEP, MASK = range(5)
SPECIAL = [PAD, CLS, SEP, MASK]
VOCABULARY = 1000
ORDINARY = np.arange(5, VOCABULARY)


def draw(shape, policy, seed=0):
    return np.random.default_rng(seed).random((shape[0], policy.num_draws(shape[1])))


def mask(token_ids, seed=0, starts_word=None, draws=None, **options):
    token_ids, policy = np.asarray(token_ids), MaskingPolicy(**options)
    draws = draw(token_ids.shape, policy, seed) if draws is None else draws
    return mask_tokens(token_ids, policy=policy, tokenizer=tokenizer(ORDINARY, starts_word), draws=draws)


def tokenizer(ordinary_token_ids, starts_word=None):
    """What masking must know of a tokenizer."""
    return SimpleNamespace(
        special_token_ids=SPECIAL,
        ordinary_token_ids=ordinary_token_ids,
        mask_token_id=MASK,
        pad_token_id=PAD,
        starts_syllable=lambda token_ids: starts_word,
    )


def sequences(lengths, width=None, seed=0):
    """`[CLS] tokens [SEP]` of these lengths, padded."""
    width = width or max(lengths)
    rows = np.random.default_rng(seed).integers(5, VOCABULARY, (len(lengths), width))
    columns, ends = np.arange(width), np.asarray(lengths)[:, None] - 1
    rows = np.where(columns < ends, rows, np.where(columns == ends, SEP, PAD))
    rows[:, 0] = CLS
    return rows


def chosen(masked, width):
    """bool `[B, L]`, the positions that are predicted."""
    rows, slots = np.nonzero(masked.mask_weights)
    result = np.zeros((len(masked.mask_weights), width), bool)
    result[rows, masked.mask_positions[rows, slots]] = True
    return result


def run_lengths(flags):
    """Lengths of the runs of neighbours in the rows of `[B, L]`."""
    edges = np.diff(np.pad(flags.astype(int), ((0, 0), (1, 1))), axis=1)
    (_, starts), (_, ends) = np.nonzero(edges == 1), np.nonzero(edges == -1)
    return ends - starts


def words(token_ids, starts_word):
    """int `[B, L]`, a number for each word of a row; special tokens are words of their own."""
    special = np.isin(token_ids, SPECIAL)
    after = np.pad(special, ((0, 0), (1, 0)))[:, :-1]
    return np.cumsum(starts_word | special | after, axis=1)


def masked_and_exchanged(token_ids, masked):
    """What became [MASK] and what else was chosen, each bool `[B, L]`; for a `mask_token_rate` of 1."""
    flags = chosen(masked, token_ids.shape[1])
    return flags & (masked.token_ids == MASK), flags & (masked.token_ids != MASK)


def assert_well_formed(token_ids, masked, policy, starts_word=None):
    """What holds for every policy and every input."""
    count, width = token_ids.shape
    slots = policy.prediction_slots
    assert slots == policy.max_predictions_per_seq * (2 if policy.do_permutation else 1)
    assert [(array.shape, array.dtype) for array in masked] == [
        ((count, width), np.int32),
        ((count, slots), np.int32),
        ((count, slots), np.int32),
        ((count, slots), np.float32),
    ]
    flags = chosen(masked, width)
    for row, ids in enumerate(token_ids):
        used = np.count_nonzero(flags[row])
        weights, positions, labels = masked.mask_weights[row], masked.mask_positions[row], masked.mask_ids[row]
        assert weights.tolist() == [1] * used + [0] * (slots - used)
        assert not positions[used:].any() and not labels[used:].any()
        assert np.all(np.diff(positions[:used]) > 0)
        assert labels[:used].tolist() == ids[positions[:used]].tolist()
        assert not np.isin(labels[:used], SPECIAL).any()
    assert np.array_equal(masked.token_ids[~flags], token_ids[~flags])
    assert np.isin(masked.token_ids[flags], [MASK, UNK, *ORDINARY]).all()
    if policy.mask_token_rate == 1:
        assert_counts(token_ids, masked, policy, starts_word)


def assert_counts(token_ids, masked, policy, starts_word):
    """As many are masked, and then exchanged, as the policy says; whole words if it says so."""
    parts = masked_and_exchanged(token_ids, masked)
    if not policy.do_permutation:
        assert not parts[1].any()
    assert np.array_equal(*(np.sort(np.where(parts[1], ids, -1), axis=1) for ids in (token_ids, masked.token_ids)))
    number = words(token_ids, starts_word) if policy.do_whole_word_mask else None
    for row, ids in enumerate(token_ids):
        free = ~np.isin(ids, SPECIAL)
        wanted = round(np.count_nonzero(ids != PAD) * policy.masked_lm_prob)
        wanted = max(1, min(policy.max_predictions_per_seq, wanted))
        for flags in (part[row] for part in parts[: 1 + policy.do_permutation]):
            missed = min(wanted, np.count_nonzero(free)) - np.count_nonzero(flags)
            if policy.do_whole_word_mask:
                assert not set(number[row, flags]) & set(number[row, ~flags])
                left = np.bincount(number[row])[np.unique(number[row, free & ~flags])]
                assert 0 <= missed < min(left, default=1)
            else:
                assert missed == 0
            free &= ~flags
