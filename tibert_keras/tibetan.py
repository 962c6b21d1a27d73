"""The Tibetan script: its signs by their Unicode names, and how they make syllables."""

from __future__ import annotations

import re
import unicodedata

# Bounds of the Unicode block, for a character class.
BLOCK = "\u0f00-\u0fff"
_SIGNS_OF_BLOCK = [chr(code) for code in range(0x0F00, 0x1000)]


def _named(prefix: str) -> str:
    return "".join(sign for sign in _SIGNS_OF_BLOCK if unicodedata.name(sign, "").startswith(prefix))


def _of_categories(*categories: str) -> str:
    return "".join(sign for sign in _SIGNS_OF_BLOCK if unicodedata.category(sign) in categories)


# === Letters ===

CONSONANTS = _named("TIBETAN LETTER ")
SUBJOINED_LETTERS = _named("TIBETAN SUBJOINED LETTER ")
VOWEL_SIGNS = _named("TIBETAN VOWEL SIGN ")
DIGITS = _named("TIBETAN DIGIT ")
# Signs that stand on another one: vowel signs, subjoined letters, anusvara, halanta and the like.
COMBINING_SIGNS = _of_categories("Mn", "Mc")
# For a character class: the syllable om, consonants, and all that is written above, below or like them.
LETTERS = "\N{TIBETAN SYLLABLE OM}\N{TIBETAN LETTER KA}-\N{TIBETAN SUBJOINED LETTER FIXED-FORM RA}"
_LETTER = re.compile(f"[{LETTERS}]")

# === Marks ===

TSHEG = "\N{TIBETAN MARK INTERSYLLABIC TSHEG}"
# The second one does not break lines.
TSHEGS = TSHEG + "\N{TIBETAN MARK DELIMITER TSHEG BSTAR}"

SHAD = "\N{TIBETAN MARK SHAD}"
# The marks that end a section. The last one stands for a shad in treasure texts.
SHADS = (
    SHAD
    + "\N{TIBETAN MARK NYIS SHAD}"
    + "\N{TIBETAN MARK TSHEG SHAD}"
    + "\N{TIBETAN MARK NYIS TSHEG SHAD}"
    + "\N{TIBETAN MARK RIN CHEN SPUNGS SHAD}"
    + "\N{TIBETAN MARK RGYA GRAM SHAD}"
    + "\N{TIBETAN MARK GTER TSHEG}"
)

# The marks that begin a document.
YIG_MGO = "\N{TIBETAN MARK INITIAL YIG MGO MDUN MA}\N{TIBETAN MARK CLOSING YIG MGO SGAB MA}"

# The marks after which a piece ends under `tsheg_pretokenization`, as in the original. Token ids and saved models
# depend on this set and its order: it stays as it is.
INTERSYLLABIC_MARKS = (
    YIG_MGO
    + "\N{TIBETAN MARK SBRUL SHAD}"
    + TSHEGS
    + SHAD
    + "\N{TIBETAN MARK RIN CHEN SPUNGS SHAD}"
    + "\N{TIBETAN MARK GTER TSHEG}"
    + "\N{TIBETAN SIGN RDEL DKAR GSUM}"
    + "\N{TIBETAN KU RU KHA}"
)
# Those that are units of their own; a tsheg belongs to the syllable before it.
SEPARATE_MARKS = "".join(mark for mark in INTERSYLLABIC_MARKS if mark not in TSHEGS)

# All marks, symbols and brackets of the block, so everything that cannot be part of a syllable. The paluta can.
PUNCTUATION = _of_categories("Po", "Ps", "Pe", "So").replace("\N{TIBETAN MARK PALUTA}", "")

# === Spaces ===

# All that SentencePiece's normalization turns into a space, as a pattern. Spelled out because `\s` means something
# else to Python, to RE2 and to SentencePiece. Token ids depend on it.
TOKENIZER_SPACES = "[ \t\n\f\r\u00a0\u1680\u2000-\u200c\u200e\u200f\u2028\u2029\u202f\u205f\u2581\u3000\ufeff\ufffd]+"
# The spaces that may surround a syllable of tagged text. Saved models depend on it.
SYLLABLE_SPACES = " \t\n\v\f\r\u00a0\u3000"
# What becomes a plain space in the text of an edition, as a pattern.
EDITION_SPACES = "[\t\v\f\r\u00a0\u2000-\u200a\u202f\u3000]"

# === Syllables ===

_IN_SYLLABLE = f"[^{TSHEGS}{SEPARATE_MARKS}{SYLLABLE_SPACES}]"
# A unit of `split_syllables`, in a form that RE2 accepts. The last alternative matches a text of nothing but spaces.
SYLLABLE_PATTERN = (
    f"[{SYLLABLE_SPACES}]*"
    f"(?:{_IN_SYLLABLE}*[{TSHEGS}]|{_IN_SYLLABLE}+|[{SEPARATE_MARKS}])"
    f"[{SYLLABLE_SPACES}]*|[{SYLLABLE_SPACES}]+"
)

# The letters that may stand before the root letter of a syllable, after its vowel, and after that one.
PREFIXES, SUFFIXES, SECOND_SUFFIXES = "གདབམའ", "གངདནབམའརལས", "སད"
# A number, or a syllable of Tibetan spelling with the particles that are written as one with it. Does not check which
# letters go together.
NATIVE_SYLLABLE = (
    f"[{PREFIXES}]?[{CONSONANTS}][{SUBJOINED_LETTERS}]*[{VOWEL_SIGNS}]?[{SUFFIXES}]?[{SECOND_SUFFIXES}]?"
    f"(འ([ིོུ]|[ིུ]ས|ང|མ))*|[{DIGITS}]+"
)


def has_tibetan(text: str) -> bool:
    """Whether a text has a Tibetan letter; digits and punctuation alone do not count."""
    return _LETTER.search(text) is not None
