"""Packing: what of a document goes where, nothing lost, nothing cut that need not be."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tibert_keras.data import ExamplePolicy, pack_document
from tibert_keras.errors import InputError

PAD, CLS, SEP = 0, 2, 3


def pack(sections, seed=0, **options):
    return pack_document(
        sections,
        policy=ExamplePolicy(**options),
        cls_token_id=CLS,
        sep_token_id=SEP,
        pad_token_id=PAD,
        rng=np.random.default_rng(seed),
    )


def contents(rows):
    """The tokens of each sequence, without its special tokens, whose places are checked."""
    result = []
    for row in rows.tolist():
        end = row.index(SEP)
        assert row[0] == CLS and set(row[end + 1 :]) <= {PAD}
        assert not {CLS, SEP, PAD} & set(row[1:end])
        result.append(row[1:end])
    return result


def document(lengths, start=10):
    """Sections of these lengths of tokens that are all different."""
    numbers = itertools.count(start)
    return [list(itertools.islice(numbers, length)) for length in lengths]


def flat(sections):
    return [token for section in sections for token in section]


class TestOneWalk:
    def test_layout(self):
        rows = pack([[10, 11], [12], [13, 14, 15], [16, 17]], max_seq_length=7)
        assert rows.dtype == np.int32
        assert rows.tolist() == [[2, 10, 11, 12, 3, 0, 0], [2, 13, 14, 15, 16, 17, 3]]

    def test_nothing_is_lost(self):
        random = np.random.default_rng(0)
        for trial in range(200):
            sections = document(random.integers(1, random.choice([3, 10, 40]), random.integers(1, 30)))
            options = {"max_seq_length": int(random.integers(4, 20)), "short_seq_prob": random.choice([0.0, 0.5, 1.0])}
            packed = contents(pack(sections, seed=trial, **options))
            tokens, joined = flat(sections), flat(packed)
            assert joined in (tokens, tokens[:-1])
            assert all(2 <= len(part) <= options["max_seq_length"] - 2 for part in packed)

    def test_sections_stay_whole(self):
        random = np.random.default_rng(1)
        for trial in range(100):
            sections = document(random.integers(2, 11, random.integers(1, 40)))
            ends = np.cumsum([len(section) for section in sections]).tolist()
            for short in (0.0, 0.5):
                packed = contents(pack(sections, seed=trial, max_seq_length=12, short_seq_prob=short))
                assert set(np.cumsum([len(part) for part in packed]).tolist()) <= set(ends)

    def test_as_many_as_fit(self):
        sections = document(np.random.default_rng(2).integers(2, 11, 200))
        lengths = iter([len(section) for section in sections])
        expected = [[next(lengths)]]
        for length in lengths:
            if sum(expected[-1]) + length <= 30:
                expected[-1].append(length)
            else:
                expected.append([length])
        packed = contents(pack(sections, max_seq_length=32))
        assert [len(part) for part in packed] == [sum(lengths) for lengths in expected]

    @pytest.mark.parametrize(
        ("lengths", "packed"),
        [
            ([25], [10, 10, 5]),
            ([3, 25, 4], [3, 10, 10, 9]),  # What is left over goes on with the next section.
            ([21], [10, 10]),
            ([21, 3], [10, 10, 4]),
            ([1, 10, 4], [10, 5]),  # A single token is no sequence, so the next section is cut after all.
            ([10, 1], [10]),
            ([9, 1], [10]),
            ([1, 1], [2]),
        ],
    )
    def test_long_sections_and_single_tokens(self, lengths, packed):
        assert [len(part) for part in contents(pack(document(lengths), max_seq_length=12))] == packed

    @pytest.mark.parametrize("sections", [[], [[]], [[10]], [[], [10], []]])
    def test_too_little_for_a_sequence(self, sections):
        assert pack(sections, max_seq_length=8, offset_steps=3).shape == (0, 8)

    def test_empty_sections_do_not_matter(self):
        assert np.array_equal(pack([[], [10, 11], [], [12], []]), pack([[10, 11], [12]]))


class TestOffsets:
    def test_walk_k_starts_at_section_k_times_stride(self):
        sections = document([3, 4, 5, 2, 6, 3, 4])
        rows = pack(sections, max_seq_length=10, offset_steps=3, offset_stride=2)
        expected = [pack(sections[start:], max_seq_length=10) for start in (0, 2, 4)]
        assert np.array_equal(rows, np.concatenate(expected))

    def test_no_more_walks_than_there_are_starts(self):
        sections = document([4, 4, 4])
        rows = pack(sections, max_seq_length=6, offset_steps=9, offset_stride=2)
        assert [part[0] for part in contents(rows)] == [10, 14, 18, 18]
        # The last of these walks has one token.
        assert len(pack(document([4, 4, 1]), max_seq_length=6, offset_steps=3)) == 3


class TestShortSequences:
    """Documents of 20,000 sections of 2 tokens, so that any even length can be had."""

    def lengths(self, probability, seed=0):
        rows = pack(document([2] * 20_000), seed=seed, max_seq_length=42, short_seq_prob=probability)
        return np.array([len(part) for part in contents(rows)][:-1])

    def test_never(self):
        assert set(self.lengths(0.0)) == {40}

    def test_drawn_for_each_sequence_of_a_document(self):
        # Google draws once a document, and all of its sequences are long or short.
        lengths = self.lengths(0.1)
        assert np.mean(lengths < 40) == pytest.approx(0.1 * 38 / 39, abs=0.02)

    def test_any_length(self):
        # Aiming at 2 to 40: two aims give each even length, but one gives 40.
        lengths, counts = np.unique(self.lengths(1.0), return_counts=True)
        assert lengths.tolist() == list(range(2, 41, 2))
        np.testing.assert_allclose(counts / counts.sum(), [2 / 39] * 19 + [1 / 39], atol=0.015)

    def test_the_seed_decides(self):
        assert np.array_equal(self.lengths(0.5, seed=1), self.lengths(0.5, seed=1))
        assert self.lengths(0.5, seed=1).tolist() != self.lengths(0.5, seed=2).tolist()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_seq_length": 3}, "max_seq_length must be at least 4. Received: 3"),
        ({"short_seq_prob": 1.5}, "Received: 1.5"),
        ({"offset_steps": 0}, "Received: offset_steps=0, offset_stride=1"),
        ({"offset_stride": 0}, "Received: offset_steps=1, offset_stride=0"),
    ],
)
def test_bad_policy(options, message):
    with pytest.raises(InputError, match=message):
        ExamplePolicy(**options)
