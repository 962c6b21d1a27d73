"""Transcriptions as a model reads them: without lines and markers."""

import re

import pytest

from tibert_keras.tagging.words import split_syllables
from tibert_keras.tibetan import SHADS, SIGNS, TSHEGS, SignClass, sign_class
from tibert_keras.transcription import goes_on, join_lines, plain_marks, read_syllable


@pytest.mark.parametrize(
    ("text", "joined"),
    [
        ("བྲམ་\nཟེ་", "བྲམ་ཟེ་"),
        ("བྲམ༌ \r\n  ཟེ་", "བྲམ༌ཟེ་"),
        ("བྲམ་\rཟེ་\u2028ལ་\r\rཕྱག", "བྲམ་ཟེ་ལ་ ཕྱག"),
        ("ཕྱ\nག་འཚལ", "ཕྱག་འཚལ"),  # in a syllable
        ("ཆོས\nཉིད", "ཆོས་ཉིད"),  # two syllables, and no tsheg between them
        ("བྱའོ\n།", "བྱའོ།"),
        ("བདག\n།དེ", "བདག །དེ"),  # no shad is written right after ག
        ("བོད\nTibet", "བོད Tibet"),
        ("ལོ།\nདེ་", "ལོ། དེ་"),
        ("ལོ༔\nདེ་", "ལོ༔ དེ་"),
        ("ལོ། །\nདེ་", "ལོ། །དེ་"),
        ("བྲམ་\n\nཟེ་", "བྲམ་ ཟེ་"),  # an empty line ends a paragraph
        ("Homage\nto", "Homage to"),
        ("[2a.1] བྲམ་[2a.2]ཟེ་ {D12} ལ་\n(3)\nཕྱག", "བྲམ་ཟེ་ལ་ཕྱག"),
        ("ལོ། [2a] །དེ", "ལོ། །དེ"),
        ("ལོ།[2a]།དེ", "ལོ།།དེ"),
        ("ཀ་[MASK]\n[GAP:1]\nཁ", "ཀ་[MASK][GAP:1]ཁ"),
        ("", ""),
        ("\n", ""),
    ],
)
def test_lines(text: str, joined: str) -> None:
    assert join_lines(text) == joined == join_lines(joined)


def test_a_line_goes_on_after_a_tsheg_or_in_a_syllable() -> None:
    inside = {sign for sign in SIGNS if goes_on(f"x{sign} [2a.1] ")}
    marks = {sign for sign in SIGNS if sign_class(sign) not in ("tsheg", *list(SignClass)[:6])}
    assert inside == set(SIGNS) - marks
    assert not goes_on("") and not goes_on("Homage") and not goes_on("[2a]")


def test_plain_marks() -> None:
    assert {plain_marks(sign) for sign in TSHEGS} == {"་"} and {plain_marks(sign) for sign in SHADS} == {"།"}
    others = "".join(sign for sign in SIGNS if sign not in TSHEGS + SHADS)
    assert plain_marks(others) == others


@pytest.mark.parametrize(
    "text",
    ["བྲམ་ [2a]ཟེ\nལ༎ \n[3] དེ་\n\nནས", "[1]ཀ་ {2}ཁ། (3) །ག", "ཀ [1] ཁ་[2]\n[3]\nག", "\n[1]\nཀ\r\nཁ", "བོད࿒ཡིག\n\n\nཀ"],
)
def test_syllables_are_read_as_the_whole_text_is(text: str) -> None:
    read = "".join(map(read_syllable, split_syllables(text)))
    # Two syllables without a tsheg stay two.
    expected = plain_marks(join_lines(text))
    assert re.sub(r"\s+", " ", read).replace("་", "") == expected.replace("་", "")


def test_long_lines_take_no_longer() -> None:
    for text in ("\n" * 200_000, " " * 200_000 + "x", "[1" * 100_000, "ཀ" * 200_000, "[1]" * 50_000):
        assert len(join_lines(text)) <= len(text)
