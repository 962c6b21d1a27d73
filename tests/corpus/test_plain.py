"""Plain text."""

from pathlib import Path

import pytest

from tibert_keras.corpus.plain import plain_text
from tibert_keras.corpus.report import ReadingReport
from tibert_keras.corpus.sections import group_documents, split_sections
from tibert_keras.corpus.volumes import read_documents
from tibert_keras.errors import InputError


def read(*lines: str) -> tuple[list[list[str]], ReadingReport]:
    report = ReadingReport()
    return list(group_documents(split_sections(plain_text(lines, report)))), report


def test_blank_lines_part_documents_and_lines_and_spaces_sections() -> None:
    documents, report = read("", "ཀ་དང་། །ཁ", "ག་པ", "", "  ", "\t", "ང།", "")
    assert documents == [["ཀ་དང་།", "།ཁག་པ"], ["ང།"]]
    assert not report.dropped


def test_one_document_without_blank_lines() -> None:
    assert read("ཀ།", "ཁ།")[0] == [["ཀ།", "ཁ།"]]


def test_other_signs_are_no_markup_but_control_characters_go() -> None:
    documents, report = read("{ཀ་,ཁ་}#\x07 Latin\u00a0123", "༄༅༅། །ག")
    assert documents == [["{ཀ་,ཁ་}#", "Latin", "123"], ["༄༅༅། །ག"]]
    assert report.dropped == {"control character": 1}


@pytest.mark.parametrize(
    ("lines", "sections"),
    [
        (("བཅོམ་ལྡ", "ན་འདས་", "  ལ་ ", "ཕྱག་འཚལ་ལོ། །"), ["བཅོམ་ལྡན་འདས་ལ་ཕྱག་འཚལ་ལོ། །"]),
        (("བཅོམ་ལྡན་ལག", "།འདས་ ", "། །ལ།"), ["བཅོམ་ལྡན་ལག", "།འདས་།", "།ལ།"]),
        (("ཆོས", "ཉིད་ལ", "༡༢", "Ⅻ།"), ["ཆོས་ཉིད་ལ་༡༢", "Ⅻ།"]),  # two syllables, and no tsheg between them
        (("རྒྱལ། །རྒྱལ ", "པོ།"), ["རྒྱལ།", "།རྒྱལ", "པོ།"]),
        (("རྒྱལ།", "པོ༔", "ལ་"), ["རྒྱལ།", "པོ༔", "ལ་"]),
        # A list: there is no shad.
        (("རྒྱལ་", "པོ", "ལ་"), ["རྒྱལ་", "པོ", "ལ་"]),
        (("ཆོས Dharma", "of ཀ", "Latin", "text ཀ།"), ["ཆོས", "Dharma", "of", "ཀ", "Latin", "text", "ཀ།"]),
    ],
)
def test_broken_lines_are_joined(lines: tuple[str, ...], sections: list[str]) -> None:
    assert read(*lines)[0] == [sections]


def test_lines_of_a_long_document_are_joined() -> None:
    assert read("ཀ།", *["ཁ་"] * 1000, "ག།", "", "ང")[0] == [["ཀ།", "ཁ་" * 1000 + "ག།"], ["ང"]]


@pytest.mark.parametrize(
    "marker",
    [
        "[12a.3]",
        "(12)",
        "{D12}",
        "<p. 3>",
        "[fol. 3r, line 2]",
        "(༡༢ན་)",
        "@012A ",
        "[p.12]",
        "[3-5]",
        "[༡༢]",
        " i-12 ",
        "OpenPechaUUID:0a1b2c ",
        "/12b/",
        "|12|",
    ],
)
def test_page_markers_of_other_editions(marker: str) -> None:
    documents, report = read(f"བཅོམ་{marker}ལྡན་", f"{marker}འདས།")
    assert "".join(documents[0]) == "བཅོམ་ལྡན་འདས།"
    assert report.markup == {"page or line marker": 2}


def test_page_numbers_alone_on_a_line() -> None:
    documents, report = read("བཅོམ་", " - 12 - ", "ལྡན་", "13", "འདས།", "12 13")
    assert (documents, report.markup) == ([["བཅོམ་ལྡན་འདས།", "12", "13"]], {"page or line marker": 2})


def test_no_break_spaces_inside_syllables_are_counted() -> None:
    assert read("ཀ\u00a0ཁ། ག\u00a0། ང་\u00a0ཅ།")[1].markup == {"no-break space inside a syllable": 1}


def test_carriage_returns_and_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes("\ufeffཀ།\r\n\r\nཁ།\r\n".encode())
    assert list(read_documents(str(path))) == [["ཀ།"], ["ཁ།"]]
    path.write_bytes("བྲམ་\rཟེ་\u2028ལ།\rཀ།".encode())
    assert list(read_documents(str(path))) == [["བྲམ་ཟེ་ལ།", "ཀ།"]]


def test_a_file_is_read_line_by_line() -> None:
    lines = iter(["ཀ།", "", "ཁ།", "ག།", "ང།", "ཅ།"])
    documents = group_documents(split_sections(plain_text(lines, ReadingReport())))
    assert next(documents) == ["ཀ།"]
    assert list(lines), "the whole file was read for its first document"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\n \n", "no Tibetan"),
        (b"Only English here.\n", "no Tibetan"),
        ("ཀ།".encode("utf-16"), "Not a UTF-8 file"),
        ("ཀ།\n".encode() + b"\xff\n", "at byte 7"),
    ],
)
def test_bad_files(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        list(read_documents(str(path)))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No file matches"):
        list(read_documents(str(tmp_path / "none.txt")))
