"""The signs of the Tibetan script, one by one against their Unicode names."""

from __future__ import annotations

import re
import unicodedata

import pytest

from tibert_keras import tibetan
from tibert_keras.tibetan import (
    BLOCK,
    COMBINING_SIGNS,
    CONSONANTS,
    DIGITS,
    EDITION_SPACES,
    INTERSYLLABIC_MARKS,
    LETTERS,
    NATIVE_SYLLABLE,
    PREFIXES,
    PUNCTUATION,
    SECOND_SUFFIXES,
    SEPARATE_MARKS,
    SHAD,
    SHADS,
    SUBJOINED_LETTERS,
    SUFFIXES,
    SYLLABLE_PATTERN,
    SYLLABLE_SPACES,
    TOKENIZER_SPACES,
    TSHEG,
    TSHEGS,
    VOWEL_SIGNS,
    YIG_MGO,
    has_tibetan,
)

SIGNS = [chr(code) for code in range(0x0F00, 0x1000) if unicodedata.name(chr(code), "")]


@pytest.mark.parametrize("sign", SIGNS, ids=unicodedata.name)
def test_each_sign_is_what_its_name_says(sign):
    name = unicodedata.name(sign)
    assert re.fullmatch(f"[{BLOCK}]", sign)
    assert (sign in CONSONANTS) is name.startswith("TIBETAN LETTER")
    assert (sign in SUBJOINED_LETTERS) is name.startswith("TIBETAN SUBJOINED LETTER")
    assert (sign in VOWEL_SIGNS) is name.startswith("TIBETAN VOWEL SIGN")
    assert (sign in DIGITS) is name.startswith("TIBETAN DIGIT")
    short = name.removeprefix("TIBETAN MARK ")
    assert (sign in TSHEGS) is (short in {"INTERSYLLABIC TSHEG", "DELIMITER TSHEG BSTAR"})
    # The snake shad begins a text, as a yig mgo does.
    is_shad = short.endswith("SHAD") and short != "SBRUL SHAD"
    assert (sign in SHADS) is (is_shad or short == "GTER TSHEG")
    assert (sign in YIG_MGO) is (short in {"INITIAL YIG MGO MDUN MA", "CLOSING YIG MGO SGAB MA"})


@pytest.mark.parametrize("sign", SIGNS, ids=unicodedata.name)
def test_each_sign_is_punctuation_or_can_be_in_a_syllable(sign):
    """A letter, a digit and a sign on a letter is no punctuation, everything else is."""
    name = unicodedata.name(sign)
    assert (sign in COMBINING_SIGNS) is (unicodedata.category(sign) in ("Mn", "Mc"))
    in_syllable = (
        bool(re.fullmatch(f"[{LETTERS}]", sign))
        or sign in DIGITS
        or sign in COMBINING_SIGNS
        or name == "TIBETAN MARK PALUTA"
    )
    assert (sign in PUNCTUATION) is not in_syllable
    if re.search("SHAD|TSHEG|YIG MGO|MGO RGYAN|RTAGS G|ANG KHANG|MCHAN RTAGS|SVASTI|CANTILLATION|RDEL", name):
        assert sign in PUNCTUATION
    if sign in INTERSYLLABIC_MARKS + SHADS + YIG_MGO + TSHEGS:
        assert sign in PUNCTUATION
    assert has_tibetan(sign) is bool(re.fullmatch(f"[{LETTERS}]", sign))


def test_letters_are_the_syllable_om_and_what_is_written_like_consonants():
    assert {sign for sign in SIGNS if re.fullmatch(f"[{LETTERS}]", sign)} == {
        sign
        for sign in SIGNS
        if sign == "ༀ" or "\u0f40" <= sign <= "\u0fbc"  # TIBETAN LETTER KA ... SUBJOINED LETTER FIXED-FORM RA
    }


def test_sets_that_ids_and_saved_models_depend_on():
    """Character by character what they have always been: a change would give other ids and other syllables."""
    assert INTERSYLLABIC_MARKS == "\u0f04\u0f05\u0f08\u0f0b\u0f0c\u0f0d\u0f11\u0f14\u0f1c\u0fbe"
    assert SEPARATE_MARKS == "\u0f04\u0f05\u0f08\u0f0d\u0f11\u0f14\u0f1c\u0fbe"
    assert TSHEGS == "\u0f0b\u0f0c"
    assert SHADS == "\u0f0d\u0f0e\u0f0f\u0f10\u0f11\u0f12\u0f14"
    assert YIG_MGO == "\u0f04\u0f05"
    assert SYLLABLE_PATTERN == (
        "[ \t\n\v\f\r\u00a0\u3000]*(?:[^་༌༄༅༈།༑༔༜྾ \t\n\v\f\r\u00a0\u3000]*[་༌]|[^་༌༄༅༈།༑༔༜྾ \t\n\v\f\r\u00a0\u3000]+"
        "|[༄༅༈།༑༔༜྾])[ \t\n\v\f\r\u00a0\u3000]*|[ \t\n\v\f\r\u00a0\u3000]+"
    )
    assert TOKENIZER_SPACES == (
        "[ \t\n\f\r\u00a0\u1680\u2000-\u200c\u200e\u200f\u2028\u2029\u202f\u205f\u2581\u3000\ufeff\ufffd]+"
    )


def test_single_marks():
    assert unicodedata.name(TSHEG) == "TIBETAN MARK INTERSYLLABIC TSHEG"
    assert unicodedata.name(SHAD) == "TIBETAN MARK SHAD"


@pytest.mark.parametrize("name", ["PREFIXES", "SUFFIXES", "SECOND_SUFFIXES"])
def test_letters_around_the_root_letter(name):
    letters = {unicodedata.name(letter).removeprefix("TIBETAN LETTER ") for letter in getattr(tibetan, name)}
    assert (
        letters
        == {
            "PREFIXES": {"GA", "DA", "BA", "MA", "-A"},
            "SUFFIXES": {"GA", "NGA", "DA", "NA", "BA", "MA", "-A", "RA", "LA", "SA"},
            "SECOND_SUFFIXES": {"SA", "DA"},
        }[name]
    )
    assert set(PREFIXES) <= set(SUFFIXES) > set(SECOND_SUFFIXES)


@pytest.mark.parametrize("space", SYLLABLE_SPACES)
def test_spaces_around_syllables_are_spaces(space):
    assert space.isspace()
    # SentencePiece does not know the vertical tab; an edition keeps plain spaces and line feeds.
    assert bool(re.fullmatch(TOKENIZER_SPACES, space)) is (space != "\v")
    assert bool(re.fullmatch(EDITION_SPACES, space)) is (space not in " \n")


@pytest.mark.parametrize(
    ("syllable", "native"),
    [
        ("བསྒྲུབས", True),
        ("དེའི", True),
        ("ངའོ", True),
        ("ཀཱྀ", False),  # two vowel signs
        ("ཀ\u0f81", True),  # the same ones as a single sign
        ("༡༠༨", True),
        ("ཏདྱཐཱ", False),
        ("སོ༎", False),
        ("སོ༒", False),
        ("om", False),
    ],
)
def test_native_syllables(syllable, native):
    assert bool(re.fullmatch(NATIVE_SYLLABLE, syllable)) is native


@pytest.mark.parametrize(
    "text, expected",
    [("x ཀ", True), ("ༀ", True), ("ྐ", True), ("ི", True), ("༄༅། །༡༢", False), ("x 2026", False)],
)
def test_has_tibetan(text, expected):
    assert has_tibetan(text) is expected
