"""The confusion matrix and its picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tibert_keras.errors import InputError
from tibert_keras.tagging.confusion import ConfusionMatrix


def test_counts() -> None:
    matrix = ConfusionMatrix.of(["a", "b", "b", "b"], ["b", "b", "c", "b"])
    assert matrix.labels == ["b", "a", "c"]
    assert matrix.counts.tolist() == [[2, 0, 1], [1, 0, 0], [0, 0, 0]]


def test_the_picture_shows_the_counts(tmp_path: Path) -> None:
    from matplotlib.image import imread

    pictures = []
    for name, found in (("right", ["a", "b", "b"]), ("wrong", ["b", "b", "a"])):
        ConfusionMatrix.of(["a", "b", "b"], found).plot(tmp_path / f"{name}.png")
        pictures.append(imread(tmp_path / f"{name}.png"))
    assert pictures[0].shape == pictures[1].shape
    assert np.abs(pictures[0] - pictures[1]).mean() > 0.01


def test_other_endings(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Pictures are PNG files"):
        ConfusionMatrix.of(["a", "b"], ["a", "b"]).plot(tmp_path / "a.pdf")


@pytest.mark.parametrize(("true", "found"), [(["a", "b"], ["a"]), ([], []), ([], ["a"])])
def test_labels_of_the_wrong_length(true: list[str], found: list[str]) -> None:
    with pytest.raises(InputError, match=f"Received: {len(true)} true labels and {len(found)} found"):
        ConfusionMatrix.of(true, found)
