"""The ranks of right tokens and syllables among the guesses."""

import numpy as np

from tibert_keras.training.guesses import MaskedPlaces, syllable_ranks

MASK = 4


def tokens(*sequences: list[tuple[int, int]]) -> MaskedPlaces:
    """Sequences of pairs of the token that is shown and the right one; masked are those that differ."""
    shown, right = np.moveaxis(np.array(sequences), -1, 0)
    rows, columns = np.nonzero(shown != right)
    return MaskedPlaces(token_ids=shown, rows=rows, columns=columns, labels=right[rows, columns])


def test_what_was_there():
    masked = tokens([(2, 2), (MASK, 7), (9, 8)], [(2, 2), (6, 6), (MASK, 5)])
    assert masked.shown.tolist() == [MASK, 9, MASK]
    assert masked.original.tolist() == [[2, 7, 8], [2, 6, 5]]
    assert masked.token_ids[0].tolist() == [2, MASK, 9]


def test_syllables():
    """Four syllables in each: a hidden one of two tokens, one that is shown, a half-hidden one, a hidden one."""
    masked = tokens(*[[(MASK, 7), (MASK, 8), (9, 9), (5, 5), (MASK, 6), (MASK, 11)]] * 2)
    starts = np.array([[True, False, True, True, False, True]] * 2)
    hidden = np.ones(8, bool)
    ranks = np.array([1, 3, 1, 6, 2, 3, 1, 1])
    assert syllable_ranks(masked, ranks, hidden, starts).tolist() == [3, 6, 6, 1]
    # A token that is shown as another is not hidden, nor is its syllable.
    hidden[[1, 7]] = False
    assert syllable_ranks(masked, ranks, hidden, starts).tolist() == [6, 6]


def test_no_syllable():
    masked = tokens([(2, 2), (7, 8)])
    assert syllable_ranks(masked, np.array([1]), np.array([False]), np.ones((1, 2), bool)).tolist() == []
