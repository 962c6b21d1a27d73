"""The Tibetan script."""

from __future__ import annotations

import re

# The syllable om, consonants, vowel signs and other marks above and below, and subjoined letters.
_LETTER = re.compile("[\u0f00\u0f40-\u0fbc]")


def has_tibetan(text: str) -> bool:
    """Whether a text has a Tibetan letter in it: digits and punctuation alone are no text."""
    return _LETTER.search(text) is not None
