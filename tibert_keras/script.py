"""The Tibetan script."""

from __future__ import annotations

import re

# Consonants, vowel signs and subjoined letters.
_LETTER = re.compile("[\u0f40-\u0fbc]")


def has_tibetan(text: str) -> bool:
    """Whether a text has a Tibetan letter in it: digits and punctuation alone are no text."""
    return _LETTER.search(text) is not None
