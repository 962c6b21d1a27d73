"""Running text to sections and documents."""

import pytest

from tibert_keras.corpus.sections import DOCUMENT_BREAK, group_documents, split_sections


def documents(*lines: str) -> list[list[str]]:
    return list(group_documents(split_sections(lines)))


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["ཀ་དང་། །ཁ་དང་། ག"], [["ཀ་དང་།", "།ཁ་དང་།", "ག"]]),
        (["ཀ་བོ།", "ཁ་བོ། ", "ག་བོ"], [["ཀ་བོ།", "ཁ་བོ།", "ག་བོ"]]),
        (["བྱང་", "ཆུབ་སེམ", "ས་དཔའ།"], [["བྱང་ཆུབ་སེམས་དཔའ།"]]),
        (["ཀ་བོ༔", "ཁ་བོ༎", "ག"], [["ཀ་བོ༔", "ཁ་བོ༎", "ག"]]),
        (["ཀ ", "ཁ"], [["ཀ", "ཁ"]]),
        ([], []),
        (["", " ", DOCUMENT_BREAK], []),
    ],
)
def test_sections_end_at_spaces_and_at_shads_that_end_a_line(lines: list[str], expected: list[list[str]]) -> None:
    assert documents(*lines) == expected


def test_yig_mgo_starts_a_document_and_stays_with_the_text_it_opens() -> None:
    assert documents("ཀ་རྫོགས་སོ།། །།༄༅༅། །ཁ་སྐད་དུ། ག") == [["ཀ་རྫོགས་སོ།། །།"], ["༄༅༅། །ཁ་སྐད་དུ།", "ག"]]
    assert documents("༄༅།།ཀ། ༄༅ །ཁ།") == [["༄༅།།ཀ།"], ["༄༅ །ཁ།"]]
    assert documents("༄༅༅། །", "ཀ།") == [["༄༅༅། ། ཀ།"]]


def test_punctuation_alone_is_no_section() -> None:
    assert documents("ཀ་སོ། །", "ཁ་སོ།། །། །། །།") == [["ཀ་སོ། །", "ཁ་སོ།། །། །། །།"]]
    assert documents("།། ཀ") == [["།། ཀ"]]
    assert documents(f"ཀ {DOCUMENT_BREAK}།། ", "ཁ") == [["ཀ"], ["།། ཁ"]]


def test_no_character_is_lost_when_only_punctuation_is_left() -> None:
    assert documents("ཀ།", "༄༅། །") == [["ཀ།"], ["༄༅། །"]]
    assert documents("།།") == [["།།"]]


def test_document_breaks_make_no_empty_documents() -> None:
    text = f"{DOCUMENT_BREAK}{DOCUMENT_BREAK}༄༅། །ཀ{DOCUMENT_BREAK}{DOCUMENT_BREAK}ཁ{DOCUMENT_BREAK}"
    assert list(split_sections([text])) == ["༄༅། །ཀ", "", "ཁ"]


def test_sections_are_streamed() -> None:
    def lines():
        yield "ཀ ཁ ག"
        raise RuntimeError("read too far")

    sections = split_sections(lines())
    assert next(sections) == "ཀ"
