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
    assert documents == [["ཀ་དང་།", "།ཁ", "ག་པ"], ["ང།"]]
    assert not report.dropped


def test_one_document_without_blank_lines() -> None:
    assert read("ཀ།", "ཁ།")[0] == [["ཀ།", "ཁ།"]]


def test_nothing_is_markup_but_control_characters_go() -> None:
    documents, report = read("{ཀ་,ཁ་}#\x07 Latin\u00a0123", "༄༅༅། །ག")
    assert documents == [["{ཀ་,ཁ་}#", "Latin", "123"], ["༄༅༅། །ག"]]
    assert report.dropped == {"control character": 1}


def test_carriage_returns_and_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes("\ufeffཀ།\r\n\r\nཁ།\r\n".encode())
    assert list(read_documents(str(path))) == [["ཀ།"], ["ཁ།"]]


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
