r"""Writes canonically equal Tibetan text in one way, before it is encoded.

Unicode has several spellings for many stacks, which look alike: `ཧཱུྃ` is U+0F67 with U+0F71 U+0F74 U+0F83 in any order,
or with U+0F75. A tokenizer records the name of its rules, and the model sees one spelling; the text itself keeps its
own. There are three sets of rules:

- `none`: nothing here, only SentencePiece's own rules (`nmt_nfkc`), as in older tokenizers.
- `nfc`: Unicode's canonical form, within the Tibetan block. It decomposes all precomposed signs of the block.
- `tibetan`: `nfc` and the `REPLACEMENTS`. They include those of Botok (`botok/utils/unicode_normalization.py`), but
  vowels keep Unicode's canonical order, and a letter subjoined after a vowel stays there: Hugging Face's library could
  not do the same.

The same rules run in Python (here), in a TensorFlow graph (`models/text_in_graph.py`) and in Hugging Face's library
(`formats/hugging_face_tokenizer.py`).
"""

import re
import unicodedata
from typing import Literal, get_args

from tibert_keras.errors import InputError
from tibert_keras.tibetan import BLOCK, SIGNS, TSHEG

Normalization = Literal["none", "nfc", "tibetan"]
NORMALIZATIONS: tuple[str, ...] = get_args(Normalization)

# Signs without width, which no one sees: soft hyphen, joiners, marks of direction, variation selectors.
ZERO_WIDTH = "[\u00ad\u034f\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufe00-\ufe0f\ufeff]"
# The decompositions of `nfc`, in full.
DECOMPOSITIONS = {
    sign: unicodedata.normalize("NFD", sign) for sign in SIGNS if unicodedata.normalize("NFD", sign) != sign
}
# The canonical order of signs on a letter; 0 for all that stay where they are.
ORDER = [unicodedata.combining(chr(code)) for code in range(0x0F00, 0x1000)]

# Vowel signs come before those at the end of a syllable; in canonical order, so that each moves past a whole run.
_VOWELS = sorted("\u0f71\u0f72\u0f74\u0f7a\u0f7b\u0f7c\u0f7d\u0f80", key=lambda sign: (ORDER[ord(sign) - 0x0F00], sign))
_FINAL_SIGNS = "\N{TIBETAN SIGN RJES SU NGA RO}\N{TIBETAN SIGN RNAM BCAD}"

# The rules of `tibetan`, in order, each applied to the whole text, with `nfc` before and after.
REPLACEMENTS = {
    "\N{NO-BREAK SPACE}": " ",
    "\N{TIBETAN MARK DELIMITER TSHEG BSTAR}": TSHEG,
    "\N{TIBETAN SYLLABLE OM}": "\N{TIBETAN LETTER A}\N{TIBETAN VOWEL SIGN O}\N{TIBETAN SIGN RJES SU NGA RO}",
    "\N{TIBETAN LETTER FIXED-FORM RA}": "\N{TIBETAN LETTER RA}",
    # Deprecated by Unicode, with compatibility decompositions only.
    "\N{TIBETAN VOWEL SIGN VOCALIC RR}": "\N{TIBETAN SUBJOINED LETTER RA}\u0f71\u0f80",
    "\N{TIBETAN VOWEL SIGN VOCALIC LL}": "\N{TIBETAN SUBJOINED LETTER LA}\u0f71\u0f80",
    **{f"{final}{vowel}": f"{vowel}{final}" for final in _FINAL_SIGNS for vowel in _VOWELS},
}

_RUN = re.compile(f"[{BLOCK}]+")
_ZERO_WIDTH = re.compile(ZERO_WIDTH)
# The first sign of each: nearly all text has none of them.
_REPLACED = re.compile(f"[{ZERO_WIDTH[1:-1]}{''.join(sorted({old[0] for old in REPLACEMENTS}))}]")


def normalize_text(text: str, normalization: str = "tibetan") -> str:
    r"""Write a text by the rules `none`, `nfc` or `tibetan`.

    Example:
        >>> normalize_text("\u0f67\u0f83\u0f74\u0f71") == normalize_text("\u0f67\u0f75\u0f83") == "ཧཱུྃ"
        True
    """
    if normalization not in NORMALIZATIONS:
        shown = ", ".join(NORMALIZATIONS)
        raise InputError(f"No such normalization. Received: normalization={normalization!r}. Choose one of {shown}.")
    if normalization == "none":
        return text
    text = _canonical(text)
    if normalization == "tibetan" and _REPLACED.search(text):
        text = _ZERO_WIDTH.sub("", text)
        for old, new in REPLACEMENTS.items():
            text = text.replace(old, new)
        text = _canonical(text)
    return text


def _canonical(text: str) -> str:
    # What nearly all text is already.
    if unicodedata.is_normalized("NFC", text):
        return text
    return _RUN.sub(lambda run: unicodedata.normalize("NFC", run[0]), text)
