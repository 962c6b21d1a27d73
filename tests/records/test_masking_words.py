"""Masking of whole words, and tokens that are exchanged: how many, which, in what order."""

import itertools

import numpy as np
import pytest

from tests.support.masking import (
    CLS,
    SEP,
    assert_well_formed,
    chosen,
    mask,
    masked_and_exchanged,
    run_lengths,
    sequences,
)
from tibert_keras.records.masking import MaskingPolicy


class TestWholeWords:
    """Words of one to three tokens, all of them masked by [MASK], so that they can be told apart."""

    def mask(self, lengths, count, **options):
        """Mask `count` rows of words of these lengths; gives bool `[count, words]`."""
        starts = np.zeros(sum(lengths) + 2, bool)
        starts[np.cumsum([1, *lengths])] = starts[0] = True
        options |= {"do_whole_word_mask": True, "mask_token_rate": 1.0, "random_token_rate": 0.0}
        token_ids, starts_word = sequences([len(starts)] * count), np.tile(starts, (count, 1))
        masked = mask(token_ids, starts_word=starts_word, **options)
        few = type(masked)(*(array[:100] for array in masked))
        assert_well_formed(token_ids[:100], few, MaskingPolicy(**options), starts_word[:100])
        return chosen(masked, len(starts))[:, starts][:, 1:-1]

    @pytest.mark.parametrize(("shorter", "law"), [(True, [6 / 11, 3 / 11, 2 / 11]), (False, [2 / 11, 3 / 11, 6 / 11])])
    def test_law_of_lengths(self, shorter, law):
        sizes = np.random.default_rng(0).integers(1, 4, 15_000)
        flags = self.mask(
            sizes, 20, masked_lm_prob=0.02, max_predictions_per_seq=600, ngram=3, favor_shorter_ngram=shorter
        )
        lengths = run_lengths(flags)
        assert len(lengths) > 1900
        assert np.mean(lengths > 3) < 0.06
        np.testing.assert_allclose(np.bincount(lengths)[1:4] / len(lengths), law, atol=0.04)

    def test_single_words(self):
        flags = self.mask([2] * 5000, 10, masked_lm_prob=0.02, max_predictions_per_seq=200, ngram=1)
        assert np.mean(run_lengths(flags) == 1) > 0.95
        assert flags.sum(axis=1).tolist() == [100] * 10

    def test_every_word_is_as_likely(self):
        share = self.mask([2] * 20, 20_000, masked_lm_prob=0.2, ngram=1).mean(axis=0)
        np.testing.assert_allclose(share, 0.2, atol=0.015)
        share = self.mask([2] * 20, 20_000, masked_lm_prob=0.2, ngram=3).mean(axis=0)
        # Fewer spans reach the first words.
        np.testing.assert_allclose(share[2:], 0.2, atol=0.015)
        assert share[0] > 0.1

    def test_long_words_are_almost_as_likely(self):
        share = self.mask([1, 2, 3] * 20, 10_000, masked_lm_prob=0.15, ngram=1).mean(axis=0).reshape(20, 3).mean(axis=0)
        # Only where little of the number is left they do not fit.
        assert share[0] > share[1] > share[2]
        np.testing.assert_allclose(share, 0.155, atol=0.025)

    def test_a_word_that_does_not_fit(self):
        # Two of 14 tokens are wanted: the word of four is never masked, and one of the short ones is not enough.
        flags = self.mask([4, 1, 4, 1, 2], 500, masked_lm_prob=0.15)
        assert {tuple(row) for row in flags.tolist()} == {(False, True, False, True, False), (False,) * 4 + (True,)}
        assert not self.mask([4, 4], 10, masked_lm_prob=0.2).any()

    def test_a_separator_parts_a_word(self):
        rows = np.tile([CLS, 7, 8, SEP, 9, 10, SEP], (200, 1))
        starts_word = np.tile([True, True, False, False, False, False, False], (200, 1))
        masked = mask(rows, starts_word=starts_word, masked_lm_prob=0.3, do_whole_word_mask=True)
        assert np.unique(masked.mask_positions[:, :3], axis=0).tolist() == [[1, 2, 0], [4, 5, 0]]


class TestPermutation:
    def exchange(self, count=500, length=40, whole_word=False, **options):
        """Tokens before and after, and what was masked and exchanged."""
        token_ids = np.tile(np.arange(100, 100 + length), (count, 1))
        token_ids[:, 0], token_ids[:, -1] = CLS, SEP
        policy = MaskingPolicy(
            do_permutation=True,
            do_whole_word_mask=whole_word,
            mask_token_rate=1.0,
            random_token_rate=0.0,
            **options,
        )
        starts_word = np.random.default_rng(3).random(token_ids.shape) < 0.5
        masked = mask(token_ids, starts_word=starts_word, **vars(policy))
        few = type(masked)(*(array[:500] for array in masked))
        assert_well_formed(token_ids[:500], few, policy, starts_word[:500])
        return token_ids, masked, *masked_and_exchanged(token_ids, masked)

    @pytest.mark.parametrize("whole_word", [False, True])
    def test_as_many_again_are_exchanged(self, whole_word):
        token_ids, masked, is_masked, is_exchanged = self.exchange(whole_word=whole_word)
        assert masked.mask_positions.shape == (500, 40)
        assert is_masked.sum(axis=1).max() == is_exchanged.sum(axis=1).max() == 6
        if not whole_word:
            assert is_masked.sum(axis=1).min() == is_exchanged.sum(axis=1).min() == 6
        # Apart from masks the same tokens, most of them elsewhere; all predicted as they were.
        for row in range(500):
            kept = ~is_masked[row]
            assert sorted(masked.token_ids[row, kept]) == sorted(token_ids[row, kept])
        assert np.mean(masked.token_ids[is_exchanged] != token_ids[is_exchanged]) > 0.7
        used = masked.mask_weights == 1
        assert np.array_equal(masked.mask_ids[used], masked.mask_positions[used] + 100)

    def test_every_place_is_as_likely(self):
        _, _, is_masked, is_exchanged = self.exchange(count=20_000)
        for flags in (is_masked, is_exchanged):
            # But for the ends, which fewer spans reach.
            np.testing.assert_allclose(flags.mean(axis=0)[4:-4], 6.3 / 38, atol=0.015)
            assert run_lengths(flags).mean() > 1.5

    def test_every_order_is_as_likely(self):
        _, masked, _, is_exchanged = self.exchange(count=12_000, length=12, masked_lm_prob=0.25)
        # The ids rise from left to right, so the rank of each says where it came from.
        orders = np.argsort(masked.token_ids[is_exchanged].reshape(12_000, 3), axis=1)
        found, counts = np.unique(orders, axis=0, return_counts=True)
        assert found.tolist() == [list(order) for order in itertools.permutations(range(3))]
        np.testing.assert_allclose(counts / 12_000, 1 / 6, atol=0.015)

    def test_too_few_tokens(self):
        masked = mask(sequences([2, 3, 6]), masked_lm_prob=0.5, do_permutation=True)
        assert masked.mask_weights.sum(axis=1).tolist() == [0, 1, 4]
