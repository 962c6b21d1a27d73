"""The signs of the Tibetan script, one by one against their Unicode names."""

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
    MARKER,
    NATIVE_SYLLABLE,
    PREFIXES,
    PUNCTUATION,
    SECOND_SUFFIXES,
    SHAD,
    SHADS,
    SIGNS,
    SUBJOINED_LETTERS,
    SUFFIXES,
    SYLLABLE_SPACES,
    TOKENIZER_SPACES,
    TSHEG,
    TSHEGS,
    VOWEL_SIGNS,
    YIG_MGO,
    has_tibetan,
    sign_class,
)


def test_each_sign_is_what_its_name_says():
    for sign in SIGNS:
        name = unicodedata.name(sign)
        assert re.fullmatch(f"[{BLOCK}]", sign)
        assert (sign in CONSONANTS) is name.startswith("TIBETAN LETTER")
        assert (sign in SUBJOINED_LETTERS) is name.startswith("TIBETAN SUBJOINED LETTER")
        assert (sign in VOWEL_SIGNS) is name.startswith("TIBETAN VOWEL SIGN")
        assert (sign in DIGITS) is name.startswith("TIBETAN DIGIT")
        short = name.removeprefix("TIBETAN MARK ")
        assert (sign in TSHEGS) is (short in {"INTERSYLLABIC TSHEG", "DELIMITER TSHEG BSTAR", "NYIS TSHEG"})
        # The snake shad begins a text, as a yig mgo does.
        is_shad = short.endswith("SHAD") and short != "SBRUL SHAD"
        assert (sign in SHADS) is (is_shad or short == "GTER TSHEG")
        assert (sign in YIG_MGO) is (short in {"INITIAL YIG MGO MDUN MA", "CLOSING YIG MGO SGAB MA"})


def test_each_sign_is_punctuation_or_can_be_in_a_syllable():
    """A letter, a digit and a sign on a letter is no punctuation, everything else is."""
    for sign in SIGNS:
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


# Ranges of the block's chart, with the class of the signs in them.
CHART = """
0f00 letter|0f01-0f0a head mark|0f0b-0f0c tsheg|0f0d-0f12 shad|0f13 other mark or symbol|0f14 shad
0f15-0f17 other mark or symbol|0f18-0f19 other sign on, below or beside a letter|0f1a-0f1f other mark or symbol
0f20-0f29 digit|0f2a-0f33 half digit|0f34 other mark or symbol|0f35 other sign on, below or beside a letter
0f36 other mark or symbol|0f37 other sign on, below or beside a letter|0f38 other mark or symbol
0f39 other sign on, below or beside a letter|0f3a opening bracket|0f3b closing bracket|0f3c opening bracket
0f3d closing bracket|0f3e-0f3f other sign on, below or beside a letter|0f40-0f6c letter|0f71-0f7d vowel sign
0f7e-0f7f other sign on, below or beside a letter|0f80-0f81 vowel sign
0f82-0f87 other sign on, below or beside a letter|0f88-0f8c letter|0f8d-0fbc subjoined letter
0fbe-0fbf other mark or symbol|0fc0-0fc3 cantillation sign|0fc4-0fc5 other mark or symbol
0fc6 other sign on, below or beside a letter|0fc7-0fcf other mark or symbol|0fd0-0fd1 head mark|0fd2 tsheg
0fd3-0fd4 head mark|0fd5-0fd8 other mark or symbol|0fd9 opening bracket|0fda closing bracket
"""


def test_each_sign_of_the_block_has_the_class_of_its_place_in_the_chart():
    expected = {}
    for line in CHART.strip().splitlines():
        for row in line.split("|"):
            codes, name = row.split(" ", 1)
            first, last = int(codes[:4], 16), int(codes[-4:], 16)
            expected |= {chr(code): name for code in range(first, last + 1) if unicodedata.name(chr(code), "")}
    assert {sign: sign_class(sign) for sign in SIGNS} == expected
    assert len(SIGNS) == 211


@pytest.mark.parametrize("sign", ["a", "\u0f48", "\u0fff", " ", ""])
def test_other_signs_have_no_class(sign):
    with pytest.raises((ValueError, TypeError)):
        sign_class(sign)


def test_markers():
    text = (
        "[2a.1] (12) {D12} [fol. 3r] [1-1a] <12> [12v2] [p. 12] {T1-1} [༡༢] [2a:1] [Vol. 2, p. 13] [12,3] (༡༢ན་) [D 4]"
        " /12b/ /2a.1/ /12v3/ |12| |12b| |12.3| |2r:1| ⟨12b⟩ ⟦3⟧ 【12】"
    )
    assert re.sub(MARKER, "", text).split() == []


@pytest.mark.parametrize("text", ["[MASK]", "[GAP:1]", "[GAP:1-2]", "[?]", "(ཀ)", "[ཀ་༡]", "[]", '<gap quantity="2"/>'])
def test_no_markers(text):
    assert not re.search(MARKER, text)


@pytest.mark.parametrize("text", ["lo/12/", "/ 12b /", "|ལོ|", "|༡༢|", "lo| 12 |", "//12b", "1/2", "a|b|c"])
def test_strokes_that_may_be_shads(text):
    assert not re.search(MARKER, text)


def test_letters_are_the_syllable_om_and_what_is_written_like_consonants():
    assert {sign for sign in SIGNS if re.fullmatch(f"[{LETTERS}]", sign)} == {
        sign
        for sign in SIGNS
        if sign == "ༀ" or "\u0f40" <= sign <= "\u0fbc"  # TIBETAN LETTER KA ... SUBJOINED LETTER FIXED-FORM RA
    }


def test_sets_that_ids_depend_on():
    """Character by character what they have always been: a change would give other ids."""
    assert INTERSYLLABIC_MARKS == "\u0f04\u0f05\u0f08\u0f0b\u0f0c\u0f0d\u0f11\u0f14\u0f1c\u0fbe"
    assert SHADS == "\u0f0d\u0f0e\u0f0f\u0f10\u0f11\u0f12\u0f14"
    assert YIG_MGO == "\u0f04\u0f05"
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
