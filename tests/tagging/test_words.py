"""Words, documents and syllables."""

import random
import re
from collections.abc import Callable

import numpy as np
import pytest

from tibert_keras.errors import InputError
from tibert_keras.tagging.packing import join_syllables
from tibert_keras.tagging.words import (
    Document,
    TaggedWord,
    known_words,
    labels_of,
    split_syllables,
    syllable_labels,
    word_key,
)
from tibert_keras.tibetan import INTERSYLLABIC_MARKS, SYLLABLE_PATTERN, TSHEGS


@pytest.mark.parametrize(
    ("text", "syllables"),
    [
        ("", []),
        ("  ", ["  "]),
        ("བཀྲ་ཤིས", ["བཀྲ་", "ཤིས"]),
        ("དེ།ནས་", ["དེ", "།", "ནས་"]),
        ("ངང་། །ཀ", ["ངང་", "། ", "།", "ཀ"]),
        (" ༄༅༅།། ", [" ༄", "༅", "༅", "།", "། "]),
        ("ང༌ང༔ང་་", ["ང༌", "ང", "༔", "ང་", "་"]),
        ("\nab cd\n་", ["\nab ", "cd\n", "་"]),
        ("བསྒྲུབས་པའི་", ["བསྒྲུབས་", "པའི་"]),
        ("ཀ[GAP:1-2]ཁ་[MASK][MASK]་ག [GAP] །", ["ཀ", "[GAP:1-2]", "ཁ་", "[MASK][MASK]་", "ག ", "[GAP] ", "།"]),
        ('ཀ<gap quantity="2" unit="syllable"/>་ཁ', ["ཀ", '<gap quantity="2" unit="syllable"/>་', "ཁ"]),
        ("ཐོ[?]ས་[?]་བཅོ[མ]་ལྡ<ན>་[2a]ཀ[", ["ཐོ[?]ས་", "[?]་", "བཅོ[མ]་", "ལྡ<ན>་[2a]", "ཀ", "["]),
    ],
)
def test_syllables(text: str, syllables: list[str]) -> None:
    assert split_syllables(text) == syllables


def test_no_character_is_lost_and_units_do_not_depend_on_the_text_around() -> None:
    draw = random.Random(1)
    for _ in range(2000):
        signs = [*"ཀིྱ་༌།༔༄ x\n\u00a0\u200b[<", "[2a]", "[GAP:1]", "[?]", "<gap/>"]
        text = "".join(draw.choices(signs, k=draw.randrange(12)))
        syllables = split_syllables(text)
        assert "".join(syllables) == text
        assert all(split_syllables(syllable) == [syllable] for syllable in syllables)


def test_units_end_wherever_the_tokenizer_cuts() -> None:
    for mark in INTERSYLLABIC_MARKS:
        assert [syllable.strip() for syllable in split_syllables(f"ཀ{mark}ཁ")][-1] == "ཁ"


def test_re2_takes_the_pattern() -> None:
    import tensorflow as tf

    text = " ༄༅། །ང་ཀའི། abཀ༌ཁ[GAP:1-2]ག[མ]་[MASK]་ཐོ[?]ས་<gap n='2 3'/>[  "
    marked = tf.strings.regex_replace(text, f"({SYLLABLE_PATTERN})", r"\1#").numpy().decode()
    assert marked == re.sub(f"({SYLLABLE_PATTERN})", r"\1#", text) == "#".join([*split_syllables(text), ""])


@pytest.mark.parametrize(
    ("labels", "text", "tags"),
    [
        (["NOUN", "PUNCT", "CONT"], "་ཆོས་་ལ ་ ། ་ཀ་", "PUNCT NOUN PUNCT NOUN"),
        (["NOUN", "PUNCT", "CONT"], "༄༅། །༼ཀ༽", "PUNCT NOUN PUNCT"),
        (["n.count", "punc", "CONT"], "་ཆོས་།", "punc n.count punc"),
        # A tagger that knows no marks.
        (["NOUN", "CONT"], "ཆོས་།", "NOUN NOUN"),
        # What is foreign parts its neighbours.
        (["NOUN", "UNK", "CONT"], "བཅོམ་[GAP:2]་འདས་ལ[MASK]ཀ་…་ཁ་ॐ 吉 ག་2026་", "NOUN UNK " * 3 + "NOUN UNK UNK NOUN"),
        (["NOUN", "CONT"], "ཀ་[GAP]་ཁ", "NOUN NOUN NOUN"),
    ],
)
def test_marks_and_lone_tshegs_are_no_nouns(labels: list[str], text: str, tags: str) -> None:
    units = split_syllables(text)
    # One that likes the first label less than `CONT` only.
    words = join_syllables(units, np.array([[1.0, *([0.0] * (len(labels) - 2)), 2.0]] * len(units)), labels)
    assert "".join(word.form for word in words) == text
    assert [word.tag for word in words] == tags.split()
    assert not any(word.form[0] in TSHEGS for word in words[1:])


def test_keys_of_words() -> None:
    assert [word_key(form) for form in ("ང་", "ང", " ང་ ", "་", "།", "ང་།")] == ["ང", "ང", "ང", "་", "།", "ང་།"]


def test_labels_of_syllables(page: Callable[..., Document]) -> None:
    document = page("བཀྲ་ཤིས་|NOUN ཤོག|VERB །|PUNCT དེའི་|DET+ADP")
    assert document.text == "བཀྲ་ཤིས་ཤོག།དེའི་"
    assert syllable_labels(document.words) == ["NOUN", "CONT", "VERB", "PUNCT", "DET+ADP"]
    assert labels_of([document]) == ["DET+ADP", "NOUN", "PUNCT", "VERB", "UNK", "CONT"]
    assert known_words([document]) == {"བཀྲ་ཤིས", "ཤོག", "།", "དེའི"}


def test_a_word_that_ends_within_a_syllable_has_no_label(page: Callable[..., Document]) -> None:
    with pytest.raises(InputError, match="middle of a syllable. Received: 'དེ'"):
        syllable_labels(page("བཀྲ་ཤིས་|NOUN དེ|DET འི་|ADP").words)


def test_an_empty_sentence() -> None:
    with pytest.raises(InputError, match="is empty. Received: 'page:1'"):
        Document("page:1", ())
    assert Document("page:1", (TaggedWord("ང", "PRON"),)).text == "ང"
