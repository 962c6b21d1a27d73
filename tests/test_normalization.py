"""The spellings of a text that are one to the model."""

import itertools
import random
import unicodedata

import pytest

from tibert_keras.errors import InputError
from tibert_keras.normalization import REPLACEMENTS, normalize_text
from tibert_keras.tibetan import SIGNS


@pytest.mark.parametrize(
    "spellings",
    [
        ["ཧ" + "".join(order) for order in itertools.permutations("\u0f74\u0f71\u0f83")]
        + ["ཧ\u0f75\u0f83", "ཧ\u0f83\u0f75"],
        ["ཧ" + "".join(order) for order in itertools.permutations("\u0f74\u0f71\u0f7e")] + ["ཧ\u0f75\u0f7e"],
        ["\u0f00", "ཨ\u0f7c\u0f7e", "ཨ\u0f7e\u0f7c"],
        ["ཀ\u0f71\u0f72", "ཀ\u0f72\u0f71", "ཀ\u0f73"],
        ["ཀ\u0fb2\u0f80", "ཀ\u0f76"],
        ["ཀ\u0fb2\u0f71\u0f80", "ཀ\u0fb2\u0f81", "ཀ\u0f77", "ཀ\u0fb2\u0f80\u0f71"],
        ["ཀ\u0fb3\u0f80", "ཀ\u0f78"],
        ["ཀ\u0fb3\u0f71\u0f80", "ཀ\u0fb3\u0f81", "ཀ\u0f79"],
        ["ག\u0fb7", "\u0f43"],
        ["རྐ", "\u0f6aྐ"],
        ["ང་", "ང༌"],
        ["བོད་ཡིག", "བོད་\u200bཡིག", "བོ\u200dད་ཡིག\ufeff", "\u2060བོད་ཡི\u00adག"],
        ["ང །", "ང\u00a0།"],
        ["ཀ\u0f71\u0f74", "ཀ\u0f74\u200d\u0f71"],
    ],
)
def test_spellings_of_one_text(spellings: list[str]) -> None:
    assert len({normalize_text(spelling) for spelling in spellings}) == 1


def test_canonically_equal_text_is_equal() -> None:
    draw = random.Random(0)
    for _ in range(2000):
        text = "".join(draw.choices([*SIGNS, " "], k=draw.randrange(1, 12)))
        for form in ("NFC", "NFD"):
            other = unicodedata.normalize(form, text)
            assert normalize_text(other, "nfc") == normalize_text(text, "nfc") == unicodedata.normalize("NFC", text)
            assert normalize_text(other) == normalize_text(text)


def test_what_changes_nothing() -> None:
    for text in ("", "བཀྲ་ཤིས། །", "e\u0301 \ufb01 [MASK]", "ཧཱུྃ"):
        assert normalize_text(text, "nfc") == normalize_text(text) == text
    assert normalize_text("\u0f00\u0f0c", "none") == "\u0f00\u0f0c" == normalize_text("\u0f00\u0f0c", "nfc")
    # What replaces a sign is canonical itself.
    assert all(unicodedata.is_normalized("NFC", new) for new in REPLACEMENTS.values())


def test_a_name_that_is_none() -> None:
    with pytest.raises(InputError, match="Received: normalization='nfkc'. Choose one of none, nfc, tibetan"):
        normalize_text("ཀ", "nfkc")
