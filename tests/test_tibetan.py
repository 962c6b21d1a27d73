"""What counts as Tibetan."""

from __future__ import annotations

import pytest

from tibert_keras.tibetan import has_tibetan


@pytest.mark.parametrize(
    "text, expected",
    [("x ཀ", True), ("ༀ", True), ("ྐ", True), ("ི", True), ("༄༅། །༡༢", False), ("x", False)],
)
def test_has_tibetan(text, expected):
    assert has_tibetan(text) is expected
