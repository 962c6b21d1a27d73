"""Masks that are drawn anew in each epoch, from what the records were before they were masked."""

import dataclasses

import numpy as np
import pytest

from tests.support.masking import MASK, ORDINARY, PAD, SPECIAL, assert_well_formed, mask, sequences
from tibert_keras.records.masking import LABEL_FEATURES, DynamicMasking, MaskedTokens, MaskingPolicy, original_tokens

POLICY = MaskingPolicy(max_predictions_per_seq=12)


class Tokenizer:
    special_token_ids, ordinary_token_ids, mask_token_id, pad_token_id = SPECIAL, ORDINARY, MASK, PAD

    def starts_syllable(self, token_ids):
        return token_ids % 2 == 0


TOKEN_IDS = sequences(np.random.default_rng(0).integers(40, 65, 600), width=64)
RECORDS = dict(zip(LABEL_FEATURES, mask(TOKEN_IDS, seed=9, **dataclasses.asdict(POLICY)), strict=True))


def masked(first=0, *, seed=1, policy=POLICY, rows=slice(None)):
    masking = DynamicMasking(policy=policy, tokenizer=Tokenizer(), seed=seed)
    features = masking({**{name: values[rows] for name, values in RECORDS.items()}, "segment_ids": PAD}, first)
    assert features.pop("segment_ids") == PAD
    return MaskedTokens(*(features[name] for name in LABEL_FEATURES))


@pytest.mark.parametrize("options", [{}, {"do_permutation": True}, {"do_whole_word_mask": True}])
def test_from_the_original_tokens(options):
    """As a policy masks them; and what it makes can be masked again."""
    policy = dataclasses.replace(POLICY, **options)
    again = masked(policy=policy)
    assert_well_formed(TOKEN_IDS, again, policy, starts_word=TOKEN_IDS % 2 == 0)
    assert np.array_equal(original_tokens(*again), TOKEN_IDS)
    assert np.array_equal(original_tokens(*RECORDS.values()), TOKEN_IDS)


def test_seed_and_place_decide():
    """And nothing else: not the batch in which an example comes."""
    whole = masked()
    for first in range(0, 600, 200):
        part = masked(first, rows=slice(first, first + 200))
        for ours, theirs in zip(part, whole, strict=True):
            assert np.array_equal(ours, theirs[first : first + 200])
    # Another seed, the next place, and the next epoch: hardly a sequence has the masks of before.
    for other in (masked(seed=2), masked(1), masked(600), MaskedTokens(*RECORDS.values())):
        assert (other.mask_positions == whole.mask_positions).all(axis=1).mean() < 0.01


def test_shares_over_epochs():
    """In time each token is chosen as often as any other, and mostly hidden."""
    counts, hidden = np.zeros(TOKEN_IDS.shape), 0
    for epoch in range(60):
        again = masked(epoch * 600)
        row, slot = np.nonzero(again.mask_weights)
        column = again.mask_positions[row, slot]
        counts[row, column] += 1
        hidden += np.count_nonzero(again.token_ids[row, column] == MASK)
    tokens = ~np.isin(TOKEN_IDS, SPECIAL)
    assert counts[tokens].mean() / 60 == pytest.approx(0.155, abs=0.01)  # of all but [CLS] and [SEP]
    assert (counts[tokens] > 0).mean() > 0.998  # 1 - 0.845^60 of them
    assert hidden / counts.sum() == pytest.approx(0.8, abs=0.005)
