"""Bounds texts before they are tokenized, because SentencePiece's time is quadratic in a run of unknown characters.

It makes one `<unk>` of them, character by character, and copies what it has so far each time. A megabyte of Latin
letters takes more than a minute; as much Tibetan takes 0.06 s.
"""

from __future__ import annotations

import math
import re

from tibert_keras.errors import InputError
from tibert_keras.tibetan import SHAD, TSHEG

# A megabyte is a volume of the canon, and many times what a model takes at once.
MAX_TEXT_BYTES = 2**20
# Every vocabulary of Tibetan has these, so a run of unknown characters ends here. Spaces may have no piece.
RUN_ENDS = f"[{TSHEG}{SHAD}]"
# Five pages of Latin letters, which take milliseconds; Tibetan has such a mark after at most some ten characters.
MAX_RUN = 2**14


def check_text(text: str, *, max_bytes: float = MAX_TEXT_BYTES) -> None:
    """Refuse a text that would take too long to tokenize.

    Args:
        text: The text.
        max_bytes: Its maximum size in UTF-8; infinite for a text that is tokenized in parts.

    Raises:
        InputError: If the text, or a part of it without a tsheg or shad, is too long.
    """
    if max_bytes < math.inf and (size := len(text.encode(errors="surrogatepass"))) > max_bytes:
        raise InputError(f"A text has more than {max_bytes} bytes. Received: {size}. Give it in parts.")
    if len(text) > MAX_RUN and (longest := max(map(len, re.split(RUN_ENDS, text)))) > MAX_RUN:
        raise InputError(
            f"A text has more than {MAX_RUN} characters without a tsheg or shad. Received: {longest}. "
            "Is it Tibetan? Give other text in parts."
        )
