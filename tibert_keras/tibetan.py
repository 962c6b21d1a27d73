"""The Tibetan script: its signs by their Unicode names, and how they make syllables."""

import re
import unicodedata
from enum import StrEnum

# Bounds of the Unicode block, for a character class.
BLOCK = "\u0f00-\u0fff"
SIGNS = [chr(code) for code in range(0x0F00, 0x1000) if unicodedata.name(chr(code), "")]


class SignClass(StrEnum):
    """The use of a sign of the script. Each sign of the Unicode block has one class."""

    LETTER = "letter"
    SUBJOINED = "subjoined letter"
    VOWEL = "vowel sign"
    DIACRITIC = "other sign on, below or beside a letter"
    DIGIT = "digit"
    HALF_DIGIT = "half digit"
    TSHEG = "tsheg"
    SHAD = "shad"
    HEAD = "head mark"
    OPENING = "opening bracket"
    CLOSING = "closing bracket"
    CANTILLATION = "cantillation sign"
    SYMBOL = "other mark or symbol"


def sign_class(sign: str) -> SignClass:
    """Classify a sign of the block by its Unicode name and category."""
    name, category = unicodedata.name(sign, ""), unicodedata.category(sign)
    if sign not in SIGNS:
        raise ValueError(f"Not a sign of the Tibetan block. Received: {sign!r}.")
    # The first that fits: `YIG MGO TSHEG SHAD MA` is a head mark, `NYIS TSHEG SHAD` a shad, and `GTER TSHEG` the shad
    # of treasure texts. The snake shad (`SBRUL SHAD`) opens a topic, as a head mark does.
    classes = {
        SignClass.LETTER: category == "Lo",
        SignClass.SUBJOINED: " SUBJOINED " in name,
        SignClass.VOWEL: " VOWEL SIGN " in name,
        SignClass.DIACRITIC: category in ("Mn", "Mc") or name.endswith(" PALUTA"),
        SignClass.HALF_DIGIT: " DIGIT HALF " in name,
        SignClass.DIGIT: " DIGIT " in name,
        SignClass.HEAD: bool(re.search(" (YIG MGO|MGO RGYAN|SBRUL SHAD)", name)),
        SignClass.SHAD: name.endswith((" SHAD", " GTER TSHEG")),
        SignClass.TSHEG: " TSHEG" in name,
        SignClass.OPENING: category == "Ps" or " LEADING " in name,
        SignClass.CLOSING: category == "Pe" or " TRAILING " in name,
        SignClass.CANTILLATION: " CANTILLATION " in name,
        SignClass.SYMBOL: True,
    }
    return next(each for each, fits in classes.items() if fits)


def _signs(*classes: SignClass) -> str:
    return "".join(sign for sign in SIGNS if sign_class(sign) in classes)


def _named(prefix: str) -> str:
    return "".join(sign for sign in SIGNS if unicodedata.name(sign).startswith(prefix))


# === Letters ===

CONSONANTS = _named("TIBETAN LETTER ")
SUBJOINED_LETTERS = _named("TIBETAN SUBJOINED LETTER ")
VOWEL_SIGNS = _signs(SignClass.VOWEL)
DIGITS = _signs(SignClass.DIGIT, SignClass.HALF_DIGIT)
# Signs that stand on another one: vowel signs, subjoined letters, anusvara, halanta and the like.
COMBINING_SIGNS = "".join(sign for sign in SIGNS if unicodedata.category(sign) in ("Mn", "Mc"))
# For a character class: the syllable om, consonants, and all that is written above, below or like them.
LETTERS = "\N{TIBETAN SYLLABLE OM}\N{TIBETAN LETTER KA}-\N{TIBETAN SUBJOINED LETTER FIXED-FORM RA}"
_LETTER = re.compile(f"[{LETTERS}]")

# === Marks ===

TSHEG = "\N{TIBETAN MARK INTERSYLLABIC TSHEG}"
# The first of them may break lines. The last one, two dots, is that of old manuscripts.
TSHEGS = _signs(SignClass.TSHEG)

SHAD = "\N{TIBETAN MARK SHAD}"
# The marks that end a section. The last one is the shad of treasure texts.
SHADS = _signs(SignClass.SHAD)

# The marks that begin a document.
YIG_MGO = "\N{TIBETAN MARK INITIAL YIG MGO MDUN MA}\N{TIBETAN MARK CLOSING YIG MGO SGAB MA}"

# The marks after which a piece ends under `tsheg_pretokenization`, as in the original. Token ids and saved models
# depend on this set and its order: it stays as it is.
INTERSYLLABIC_MARKS = (
    YIG_MGO
    + "\N{TIBETAN MARK SBRUL SHAD}"
    + "\N{TIBETAN MARK INTERSYLLABIC TSHEG}\N{TIBETAN MARK DELIMITER TSHEG BSTAR}"
    + SHAD
    + "\N{TIBETAN MARK RIN CHEN SPUNGS SHAD}"
    + "\N{TIBETAN MARK GTER TSHEG}"
    + "\N{TIBETAN SIGN RDEL DKAR GSUM}"
    + "\N{TIBETAN KU RU KHA}"
)

_LETTERS_AND_DIGITS = {"LETTER", "SUBJOINED", "VOWEL", "DIACRITIC", "DIGIT", "HALF_DIGIT"}
# All marks, symbols and brackets of the block, so everything that cannot be part of a syllable.
PUNCTUATION = _signs(*(each for each in SignClass if each.name not in _LETTERS_AND_DIGITS))
# Those that are units of their own; a tsheg belongs to the syllable before it.
SEPARATE_MARKS = "".join(mark for mark in PUNCTUATION if mark not in TSHEGS)

# === Spaces ===

# All that SentencePiece's normalization turns into a space, as a pattern. Spelled out because `\s` means something
# else to Python, to RE2 and to SentencePiece. Token ids depend on it.
TOKENIZER_SPACES = "[ \t\n\f\r\u00a0\u1680\u2000-\u200c\u200e\u200f\u2028\u2029\u202f\u205f\u2581\u3000\ufeff\ufffd]+"
# The spaces that may surround a syllable of tagged text. Saved models depend on it.
SYLLABLE_SPACES = " \t\n\v\f\r\u00a0\u3000"
# What becomes a plain space in the text of an edition, as a pattern.
EDITION_SPACES = "[\t\v\f\r\u00a0\u2000-\u200a\u202f\u3000]"

# === Markers of folios and lines ===

_NUMBER = "[0-9\N{TIBETAN DIGIT ZERO}-\N{TIBETAN DIGIT NINE}]{1,5}"
_LINE = r"(?:[.:]?[0-9]{1,3})?"
# Between strokes, which are shads in transliterations, only a page and its side can be nothing else.
SIDE_BETWEEN_STROKES = rf"/[0-9]{{1,5}}[abrvABRV]{_LINE}/|\|[0-9]{{1,5}}[abrvABRV]{_LINE}\|"
# What editions and transcriptions count a text with, by its shape: `[2a.1]`, `(༡༢ན་)`, `{D12}`, `[fol. 3r]`, `/12b/`,
# `|12|`. A pattern that RE2 accepts, as those below.
BRACKETED_NUMBER = (
    rf"[\[({{<⟨‹〈⟦【](?:[A-Za-z]{{1,6}}\.? ?)?{_NUMBER} ?(?:[A-Za-z]{{0,2}}|[ནབ]་?)"
    rf"(?:[.:,/ -]{{0,2}}(?:[A-Za-z]{{1,5}}\.? ?)?{_NUMBER} ?[A-Za-z]?){{0,3}}[\])}}>⟩›〉⟧】]"
)
MARKER = rf"(?:{BRACKETED_NUMBER}|{SIDE_BETWEEN_STROKES}|\|[0-9]{{1,5}}{_LINE}\|)"

# === Gaps ===

_GAP_BETWEEN_SYLLABLES = (
    r"(?:\[MASK\])+|\[GAP(?::(?P<range>[^\]\n]*))?\]?|<gap\b(?P<attributes>[^<>]*?)(?:/>|>\s*</gap>)"
)
# In the notations that `find_gaps` describes. The legible letters around `[?]` are of its syllable.
GAP = (
    rf"{_GAP_BETWEEN_SYLLABLES}|(?P<begins>[{LETTERS}{COMBINING_SIGNS}]{{0,16}})\[\?\]"
    rf"(?P<ends>[{LETTERS}{COMBINING_SIGNS}]{{0,16}})"
)

# === Syllables ===

_NOT_IN_SYLLABLE = f"{TSHEGS}{SEPARATE_MARKS}{SYLLABLE_SPACES}"
# Not the beginning of a gap. RE2 cannot look ahead.
_IN_SYLLABLE = rf"(?:[^\[<{_NOT_IN_SYLLABLE}]|\[[^GM\[<{_NOT_IN_SYLLABLE}]|<[^g\[<{_NOT_IN_SYLLABLE}])"
_AROUND = f"(?:[{SYLLABLE_SPACES}]|{MARKER})"
# A unit of `split_syllables`. The last alternative matches a text of nothing but spaces and markers.
SYLLABLE_PATTERN = (
    rf"{_AROUND}*(?:(?:{GAP})[{TSHEGS}]?|{_IN_SYLLABLE}+?{MARKER}|{_IN_SYLLABLE}*[{TSHEGS}]|{_IN_SYLLABLE}+"
    rf"|[{SEPARATE_MARKS}]|[\[<][{TSHEGS}]?){_AROUND}*|{_AROUND}+"
)
# A unit that is a mark, one that is a tsheg without a syllable, and one of neither syllables nor marks: a gap, or
# text in another script.
MARK_PATTERN = f"{_AROUND}*[{SEPARATE_MARKS}]{_AROUND}*"
LONE_TSHEG_PATTERN = f"{_AROUND}*[{TSHEGS}]{_AROUND}*"
FOREIGN_PATTERN = (
    f"{_AROUND}*(?:{_GAP_BETWEEN_SYLLABLES}|[^0-9{LETTERS}{DIGITS}{_NOT_IN_SYLLABLE}]+)[{TSHEGS}]?{_AROUND}*"
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
