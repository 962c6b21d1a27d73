"""Masking: how many tokens, which, in what spans and by what; against laws, properties and Google's own records."""

import itertools
import json

import numpy as np
import pytest
import tensorflow as tf

from tests.support.masking import (
    CLS,
    MASK,
    ORDINARY,
    PAD,
    SEP,
    SPECIAL,
    UNK,
    assert_well_formed,
    chosen,
    draw,
    mask,
    run_lengths,
    sequences,
    tokenizer,
)
from tibert_keras.errors import InputError
from tibert_keras.records.masking import MaskingPolicy, mask_tokens


class TestCounts:
    def test_counts(self):
        # 10 x 0.15 is rounded to the even 2, as by Google's int(round()); two tokens leave none to mask.
        lengths = [2, 3, 9, 10, 17, 63, 127, 128]
        masked = mask(sequences(lengths), masked_lm_prob=0.15, max_predictions_per_seq=19)
        assert masked.mask_weights.sum(axis=1).tolist() == [0, 1, 1, 2, 3, 9, 19, 19]

    def test_no_more_than_there_are_tokens(self):
        masked = mask(sequences([2, 3, 6]), masked_lm_prob=0.9, max_predictions_per_seq=20)
        assert masked.mask_weights.sum(axis=1).tolist() == [0, 1, 4]
        assert masked.mask_positions[2, :5].tolist() == [1, 2, 3, 4, 0]

    def test_any_shape_and_policy(self):
        random = np.random.default_rng(0)
        for trial in range(400):
            policy = MaskingPolicy(
                masked_lm_prob=random.choice([0.01, 0.15, 0.5, 0.99]),
                max_predictions_per_seq=int(random.integers(1, 30)),
                ngram=int(random.integers(1, 6)),
                favor_shorter_ngram=bool(random.integers(2)),
                do_whole_word_mask=bool(random.integers(2)),
                do_permutation=bool(random.integers(2)),
                **random.choice([{}, {"mask_token_rate": 1.0, "random_token_rate": 0.0}]),
            )
            lengths = random.integers(2, random.choice([3, 8, 40]) + 1, random.integers(1, 6))
            token_ids = sequences(lengths, width=lengths.max() + random.integers(3), seed=trial)
            # Unknown tokens, masks from the text, second segments, and rows that are all padding.
            noise = random.random(token_ids.shape)
            token_ids[(noise < 0.2) & (token_ids > MASK)] = random.choice([UNK, MASK, SEP])
            token_ids[random.random(len(lengths)) < 0.1] = PAD
            before = token_ids.copy()
            starts_word = random.random(token_ids.shape) < random.choice([0.1, 0.5, 1.0])
            masked = mask(token_ids, seed=trial, starts_word=starts_word, **vars(policy))
            assert_well_formed(token_ids, masked, policy, starts_word)
            assert np.array_equal(token_ids, before)

    def test_no_sequences(self):
        assert [array.shape for array in mask(np.zeros((0, 8), int))] == [(0, 8), (0, 20), (0, 20), (0, 20)]
        options = {"do_whole_word_mask": True, "do_permutation": True}
        masked = mask(np.zeros((0, 8), int), starts_word=np.zeros((0, 8), bool), **options)
        assert [array.shape for array in masked] == [(0, 8), (0, 40), (0, 40), (0, 40)]


class TestReplacements:
    def test_80_10_10(self):
        token_ids = sequences([128] * 2000)
        masked = mask(token_ids)
        flags = chosen(masked, 128)
        old, new = token_ids[flags], masked.token_ids[flags]
        shares = [np.mean(new == MASK), np.mean(new == old), np.mean((new != MASK) & (new != old))]
        # 38,000 tokens: a standard deviation is 0.2 and 0.15 points; 1 of 10,000 is replaced by itself.
        np.testing.assert_allclose(shares, [0.8, 0.1, 0.1], atol=0.008)

    def test_other_rates(self):
        token_ids = sequences([128] * 100)
        for mask_rate, random_rate in ((1.0, 0.0), (0.0, 0.0), (0.0, 1.0)):
            masked = mask(token_ids, mask_token_rate=mask_rate, random_token_rate=random_rate)
            flags = chosen(masked, 128)
            new, old = masked.token_ids[flags], token_ids[flags]
            assert np.mean(new == MASK) == mask_rate
            assert np.mean(new != old) == pytest.approx(mask_rate + random_rate, abs=0.01)

    def test_random_tokens_are_ordinary_and_all_of_them(self):
        masked = mask(sequences([128] * 2000), mask_token_rate=0.0, random_token_rate=1.0)
        drawn = masked.token_ids[chosen(masked, 128)]
        assert np.array_equal(np.unique(drawn), ORDINARY)

    def test_special_tokens_are_never_chosen(self):
        token_ids = np.where(np.random.default_rng(1).random((500, 40)) < 0.7, SEP, sequences([40] * 500))
        masked = mask(token_ids, masked_lm_prob=0.9)
        assert not np.isin(token_ids[chosen(masked, 40)], SPECIAL).any()
        assert np.array_equal(masked.mask_weights.sum(axis=1), np.minimum((token_ids > MASK).sum(axis=1), 20))


class TestDraws:
    @pytest.mark.parametrize(("whole_word", "permutation"), [*itertools.product([False, True], repeat=2)])
    def test_a_row_depends_on_its_own_alone(self, whole_word, permutation):
        policy = MaskingPolicy(do_whole_word_mask=whole_word, do_permutation=permutation)
        token_ids = sequences(np.random.default_rng(0).integers(2, 41, 60), width=40)
        draws = draw(token_ids.shape, policy)
        starts_word = np.random.default_rng(1).random(token_ids.shape) < 0.5
        together = mask(token_ids, draws=draws, starts_word=starts_word, **vars(policy))
        order = np.random.default_rng(2).permutation(60)
        for rows in (order, order[:7], *order[:, None]):
            alone = mask(token_ids[rows], draws=draws[rows], starts_word=starts_word[rows], **vars(policy))
            for a, b in zip(alone, together, strict=True):
                assert np.array_equal(a, b[rows])

    def test_draws_at_the_ends_of_their_range(self):
        token_ids, starts_word = sequences([3, 10, 30]), np.ones((3, 30), bool)
        for options in itertools.product([False, True], repeat=2):
            policy = MaskingPolicy(**dict(zip(("do_whole_word_mask", "do_permutation"), options, strict=True)))
            for value in (0.0, np.nextafter(1.0, 0.0)):
                draws = np.full((3, policy.num_draws(30)), value)
                masked = mask(token_ids, draws=draws, starts_word=starts_word, **vars(policy))
                assert_well_formed(token_ids, masked, policy, starts_word)

    def test_the_seed_decides(self):
        token_ids = sequences([30] * 50)
        first, second, other = mask(token_ids, seed=1), mask(token_ids, seed=1), mask(token_ids, seed=2)
        for a, b in zip(first, second, strict=True):
            assert np.array_equal(a, b)
        assert np.mean(np.any(first.mask_positions != other.mask_positions, axis=1)) > 0.9

    def test_nothing_else_decides(self):
        # Google draws the lengths of the spans from NumPy's global generator.
        np.random.seed(1)
        first = mask(sequences([30] * 50))
        state = np.random.get_state()[1].copy()
        np.random.seed(2)
        assert np.array_equal(first.mask_positions, mask(sequences([30] * 50)).mask_positions)
        np.random.seed(1)
        assert np.array_equal(np.random.get_state()[1], state)


class TestSpans:
    @pytest.mark.parametrize(("shorter", "law"), [(True, [6 / 11, 3 / 11, 2 / 11]), (False, [2 / 11, 3 / 11, 6 / 11])])
    def test_law_of_lengths(self, shorter, law):
        policy = MaskingPolicy(ngram=3, favor_shorter_ngram=shorter)
        np.testing.assert_allclose(policy.ngram_probabilities, law)
        # So few masks in so long sequences that the spans can be told apart: one in fifty touches another.
        masked = mask(
            sequences([30_000] * 8), masked_lm_prob=0.02, max_predictions_per_seq=600, favor_shorter_ngram=shorter
        )
        lengths = run_lengths(chosen(masked, 30_000))
        assert len(lengths) > 1900
        shares = np.bincount(lengths, minlength=4)[1:4] / len(lengths)
        np.testing.assert_allclose(shares, law, atol=0.035)

    def test_law_of_other_ngrams(self):
        assert MaskingPolicy(ngram=1).ngram_probabilities.tolist() == [1.0]
        np.testing.assert_allclose(MaskingPolicy(ngram=2).ngram_probabilities, [1 / 3, 2 / 3])
        masked = mask(sequences([20_000] * 4), masked_lm_prob=0.01, max_predictions_per_seq=200, ngram=1)
        assert np.mean(run_lengths(chosen(masked, 20_000)) == 1) > 0.97

    def test_every_arrangement_is_as_likely(self):
        # Two of four tokens are masked: as one span in 2 of 3 cases, in 3 places; as two single ones in 6.
        masked = mask(sequences([6] * 30_000), masked_lm_prob=0.3, max_predictions_per_seq=2, ngram=2)
        places, counts = np.unique(masked.mask_positions, axis=0, return_counts=True)
        assert places.tolist() == [list(pair) for pair in itertools.combinations([1, 2, 3, 4], 2)]
        neighbours = places[:, 1] - places[:, 0] == 1
        expected = np.where(neighbours, 2 / 9 + 1 / 18, 1 / 18)
        np.testing.assert_allclose(counts / 30_000, expected, atol=0.01)

    def test_every_place_is_as_likely(self):
        # Also for the span that is cut to fit: with it always the last, the ends would be masked less.
        share = chosen(mask(sequences([42] * 20_000), masked_lm_prob=0.1, ngram=3), 42).mean(axis=0)
        assert share[0] == share[-1] == 0
        np.testing.assert_allclose(share[1:-1], share[1:-1][::-1], atol=0.01)
        assert np.ptp(share[4:-4]) < 0.015

    def test_a_separator_parts_a_span(self):
        rows = np.tile([CLS, 7, 8, SEP, 9, 10, SEP], (200, 1))
        masked = mask(rows, masked_lm_prob=0.3, max_predictions_per_seq=2, ngram=2)
        assert [2, 4] in masked.mask_positions.tolist()


class TestGoogle:
    @pytest.fixture(params=["a", "b"])
    def name(self, request):
        return request.param

    @pytest.fixture
    def golden(self, shared, name):
        """Google's examples, and what is known of how they were masked."""
        path = shared / "golden" / "records" / f"records_{name}.tfrecord"
        features = {"input_ids": 128, "masked_lm_positions": 20, "masked_lm_ids": 20}
        description = {key: tf.io.FixedLenFeature([size], tf.int64) for key, size in features.items()}
        description["masked_lm_weights"] = tf.io.FixedLenFeature([20], tf.float32)
        serialized = [record.numpy() for record in tf.data.TFRecordDataset(str(path))]
        arrays = {key: value.numpy() for key, value in tf.io.parse_example(serialized, description).items()}
        return arrays, json.loads((path.parent / "stats.json").read_text(encoding="utf-8"))[name]

    def test_same_numbers_of_masks(self, golden, name):
        arrays, stats = golden
        original = arrays["input_ids"].copy()
        rows, slots = np.nonzero(arrays["masked_lm_weights"])
        original[rows, arrays["masked_lm_positions"][rows, slots]] = arrays["masked_lm_ids"][rows, slots]
        policy = MaskingPolicy(favor_shorter_ngram=name == "b")
        draws = draw(original.shape, policy)
        masked = mask_tokens(original, policy=policy, tokenizer=tokenizer(np.arange(5, 10_000)), draws=draws)
        assert np.array_equal(masked.mask_weights, arrays["masked_lm_weights"])
        assert masked.mask_weights.sum() == stats["masked_tokens"]
        share = masked.mask_weights.sum() / np.count_nonzero(original)
        assert share == pytest.approx(stats["fraction_masked_of_real_tokens"], abs=1e-12)
        flags = chosen(masked, 128)
        old, new = original[flags], masked.token_ids[flags]
        shares = [np.mean(new == 4), np.mean(new == old), np.mean((new != 4) & (new != old))]
        google = [stats[f"fraction_{kind}"] for kind in ("mask_token", "kept", "random")]
        # Two samples of 4,842 tokens: a standard deviation of their difference is 0.8 and 0.6 points.
        np.testing.assert_allclose(shares, google, atol=0.025)

    def test_same_law_of_lengths(self, golden, name):
        _, stats = golden
        law = MaskingPolicy(favor_shorter_ngram=name == "b").ngram_probabilities
        np.testing.assert_allclose(law, list(stats["sampled_n_expected"].values()), rtol=1e-12)
        np.testing.assert_allclose(law, list(stats["sampled_n_fractions"].values()), atol=0.01)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"masked_lm_prob": -0.1}, "masked_lm_prob must lie between 0 and 1. Received: -0.1"),
        ({"masked_lm_prob": 1.5}, "Received: 1.5"),
        ({"ngram": 0}, "Received: ngram=0, max_predictions_per_seq=20"),
        ({"max_predictions_per_seq": 0}, "Received: ngram=3, max_predictions_per_seq=0"),
        ({"mask_token_rate": 0.95}, "Received: mask_token_rate=0.95, random_token_rate=0.1"),
        ({"random_token_rate": -0.1}, "Received: mask_token_rate=0.8, random_token_rate=-0.1"),
    ],
)
def test_bad_policy(options, message):
    with pytest.raises(InputError, match=message):
        MaskingPolicy(**options)
