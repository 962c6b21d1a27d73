"""Windows over texts: nothing lost, nothing twice, none too long, and context where it can be."""

from __future__ import annotations

import random

import pytest

from tibert_keras.tagging.windows import consecutive_windows, overlapping_windows


@pytest.mark.parametrize("seed", range(30))
def test_overlapping_windows_decide_each_syllable_once(seed):
    rng = random.Random(seed)
    size, overlap = rng.randint(4, 40), rng.randint(0, 3)
    counts = [rng.choice([0, 1, 1, 2, 3, 60 if rng.random() < 0.05 else 1]) for _ in range(rng.randint(0, 200))]
    text = [(str(index), count) for index, count in enumerate(counts)]
    windows = list(overlapping_windows(iter(text), size=size, overlap=overlap))
    assert [syllable for window in windows for syllable in window.syllables[window.first : window.last]] == [
        syllable for syllable, _ in text
    ]
    for window in windows:
        pieces = sum(counts[int(syllable)] for syllable in window.syllables)
        assert pieces <= size or sum(counts[int(syllable)] > 0 for syllable in window.syllables) == 1


def test_each_is_decided_where_it_is_farther_from_the_edge():
    windows = list(overlapping_windows(((str(index), 1) for index in range(100)), size=20, overlap=8))
    assert [len(window.syllables) for window in windows[:-1]] == [20] * (len(windows) - 1)
    for before, after in zip(windows, windows[1:], strict=False):
        # Of the eight that two windows share, four are decided by each.
        assert before.syllables[-8:] == after.syllables[:8]
        assert (len(before.syllables) - before.last, after.first) == (4, 4)


def test_no_more_of_a_text_is_read_than_is_needed():
    read = 0

    def endless():
        nonlocal read
        while True:
            read += 1
            yield "ཀ", 1

    next(overlapping_windows(endless(), size=20, overlap=8))
    assert read == 21


@pytest.mark.parametrize("head", [0, 1, 7, 500])
@pytest.mark.parametrize("seed", range(10))
def test_consecutive_windows(seed, head):
    rng = random.Random(seed)
    lengths = [rng.choice([0, 1, 2, 3, 50 if rng.random() < 0.05 else 1]) for _ in range(rng.randint(0, 120))]
    firsts = [length + rng.randint(0, 3) for length in lengths]
    windows = list(consecutive_windows(lengths, firsts, size=12, head=head))
    assert [length for window in windows for length in lengths[window]] == lengths
    for window in windows:
        assert firsts[window.start] + sum(lengths[window][1:]) <= 12 or sum(n > 0 for n in lengths[window][1:]) == 0
    if 0 < head < len(lengths) and firsts[0] + sum(lengths[1:head]) <= 12:
        assert windows[0] == slice(0, head)
