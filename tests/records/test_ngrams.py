"""Guesses by n-grams, against counting in dictionaries, and the texts that they are counted in."""

from collections import Counter

import numpy as np
import pytest

from tibert_keras.records import ngrams
from tibert_keras.records.ngrams import PARTS, contexts_in, contexts_of, guess_by_ngrams
from tibert_keras.records.pipeline import Records

NUM_IDS = 12


def by_dictionaries(contexts: np.ndarray, seen: list[tuple[np.ndarray, np.ndarray]], number: int) -> list[list[int]]:
    pairs = [pair for others, tokens in seen for pair in zip(others.tolist(), tokens.tolist(), strict=True)]
    guesses = []
    for context in contexts.tolist():
        kept: list[int] = []
        for part in PARTS:
            counts = Counter(token for other, token in pairs if all(other[each] == context[each] for each in part))
            ranked = sorted(counts, key=lambda token: (-counts[token], token))
            kept += [token for token in ranked if token not in kept]
        guesses.append((kept + [-1] * number)[:number])
    return guesses


class TestGuessByNgrams:
    @pytest.mark.parametrize(("number", "waiting"), [(1, 0), (5, 0), (5, 10_000)])
    def test_by_dictionaries(self, number, waiting, monkeypatch):
        """However often the counts are merged."""
        monkeypatch.setattr(ngrams, "_MOST_WAITING", waiting)
        rng = np.random.default_rng(1)

        def draw(*shape: int) -> np.ndarray:
            # Frequent and rare tokens, so that every part is known in some contexts and unknown in others.
            return rng.geometric(0.4, shape).clip(max=NUM_IDS - 1)

        seen = [(draw(size, 4), draw(size)) for size in (300, 1, 200)]
        contexts = draw(200, 4)
        guesses = guess_by_ngrams(contexts, seen, num_ids=NUM_IDS, num_guesses=number)
        assert guesses.tolist() == by_dictionaries(contexts, seen, number)

    def test_as_many_ids_as_fit(self):
        """Four of 16 bits fill a key."""
        contexts = np.array([[65535, 65535, 65535, 65534], [65535, 65535, 65535, 65535]])
        guesses = guess_by_ngrams(contexts, [(contexts, np.array([7, 8]))], num_ids=65536, num_guesses=2)
        assert guesses.tolist() == [[7, 8], [8, 7]]

    def test_too_few_tokens(self):
        seen = np.full((1, 4), 3), np.array([3])
        assert guess_by_ngrams(np.zeros((2, 4), int), [seen], num_ids=4, num_guesses=3).tolist() == [[3, -1, -1]] * 2

    def test_nothing_is_wanted(self):
        seen = np.full((1, 4), 3), np.array([3])
        assert guess_by_ngrams(np.zeros((0, 4), int), [seen], num_ids=4).shape == (0, 5)


def test_contexts():
    contexts = contexts_of(np.array([[2, 7, 8, 3], [2, 9, 4, 3]]))
    assert contexts[:, 1].tolist() == [[0, 2, 8, 3], [0, 2, 4, 3]]
    assert contexts[1, 2].tolist() == [2, 9, 3, 0]


def test_contexts_are_those_before_masking(sample_records):
    records = Records.find(f"{sample_records}/held_out/*.tf_record")
    contexts, tokens = map(np.concatenate, zip(*contexts_in(records, batch_size=10), strict=True))
    ((x, labels, weights),) = records.evaluation_batches(records.num_examples).as_numpy_iterator()
    lengths = x["padding_mask"].sum(axis=1)
    assert len(contexts) == len(tokens) == (lengths - 2).sum()
    starts = np.cumsum(lengths - 2) - (lengths - 2)
    for row, (positions, ids, used) in enumerate(zip(x["mask_positions"], labels, weights > 0, strict=True)):
        text = x["token_ids"][row].copy()
        text[positions[used]] = ids[used]
        own = slice(starts[row], starts[row] + lengths[row] - 2)
        assert tokens[own].tolist() == text[1 : lengths[row] - 1].tolist()
        # The token before each, and the one after it.
        assert contexts[own, 1].tolist() == text[: lengths[row] - 2].tolist()
        assert contexts[own, 2].tolist() == text[2 : lengths[row]].tolist()
