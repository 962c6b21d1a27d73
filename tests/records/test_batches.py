"""The order of examples in an endless stream, and batches that are read ahead."""

import numpy as np

from tibert_keras.records.batches import shuffled_numbers


def stream(count, first=0, *, num_examples=10, seed=1):
    return shuffled_numbers(first, count, num_examples=num_examples, seed=seed).tolist()


def test_an_epoch_has_every_example_once():
    numbers = stream(40)
    epochs = [numbers[start : start + 10] for start in range(0, 40, 10)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(10))] * 4
    assert len(set(map(tuple, epochs))) == 4
    assert numbers == stream(40) != stream(40, seed=2)


def test_entered_anywhere():
    numbers = stream(60)
    for first in (0, 3, 9, 10, 11, 25):
        # Less than an epoch, and several at once.
        for count in (1, 7, 30):
            assert stream(count, first) == numbers[first : first + count]


def test_places_are_equally_likely():
    places = np.array([stream(10, seed=seed) for seed in range(3000)])
    counts = np.array([np.bincount(column, minlength=10) for column in places.T])
    # 300 expected in each, with a standard deviation of 16.
    assert abs(counts - 300).max() < 80
