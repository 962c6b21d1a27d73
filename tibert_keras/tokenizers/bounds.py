"""Bounds texts before they are tokenized, because SentencePiece's time is quadratic in a run of unknown characters.

It makes one `<unk>` of the run, and copies it for each further character. A megabyte of Latin letters takes more than a
minute; as much Tibetan takes 0.06 s.
"""

import re

from tibert_keras.errors import InputError
from tibert_keras.tibetan import SHAD, TSHEG

# As much as the server takes in a request: several volumes of the canon, tokenized in half a second.
MAX_TEXT_BYTES = 2**22
# Every vocabulary of Tibetan has these, so a run of unknown characters ends here. Spaces may have no piece.
RUN_ENDS = f"[{TSHEG}{SHAD}ཀཁགངཆདནཔབམའཡརལསིེོུ]"
# Three pages of another script, which take milliseconds.
MAX_RUN = 2**13


def check_unicode(text: str) -> int:
    """Refuse a text with half a character, and return its size in bytes."""
    try:
        return len(text.encode())
    except UnicodeEncodeError as error:
        raise InputError(
            f"A text is not Unicode. Received: {text[error.start]!r} at character {error.start}. Give UTF-8."
        ) from None


def check_text(text: str, *, max_bytes: float = MAX_TEXT_BYTES) -> None:
    """Refuse a text that is no Unicode, or would take too long to tokenize."""
    if (size := check_unicode(text)) > max_bytes:
        raise InputError(f"A text has more than {max_bytes} bytes. Received: {size}. Give it in parts.")
    if len(text) > MAX_RUN and (longest := max(map(len, re.split(RUN_ENDS, text)))) > MAX_RUN:
        raise InputError(
            f"A text has more than {MAX_RUN} characters in a row without a common Tibetan letter. Received: {longest}. "
            "Give it in parts."
        )
