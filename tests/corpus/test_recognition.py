"""Files that are no texts, or in another encoding, each by its name."""

import io
import zipfile
from pathlib import Path

import pytest

from tibert_keras.corpus.recognition import check_kind
from tibert_keras.errors import InputError


def zipped(*names: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name in names:
            archive.writestr(name, "application/vnd.oasis.opendocument.text" if name == "mimetype" else "x")
    return content.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"%PDF-1.7\n", "a PDF file.*pdftotext"),
        (zipped("[Content_Types].xml", "word/document.xml"), r"a Word file \(.docx\).*Plain Text"),
        (zipped("[Content_Types].xml", "xl/workbook.xml"), r"an Excel file \(.xlsx\).*CSV"),
        (zipped("[Content_Types].xml"), "a Word or Excel file"),
        (zipped("mimetype", "content.xml"), "an OpenDocument file"),
        (zipped("a.txt"), "an archive or compressed file.*Unpack"),
        (b"\x1f\x8b\x08", "an archive or compressed file"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", r"a Word or Excel file \(.doc, .xls\)"),
        (b"{\\rtf1\\ansi", "an RTF file"),
        ("ཀ་ཁ།".encode("utf-16"), "in UTF-16.*iconv"),
        ("ཀ་ཁ། ག་ང་།".encode("utf-16-le"), "in UTF-16.*UTF-16LE"),
        ("Title\nཀ་ཁ།".encode("utf-16-be"), "in UTF-16.*UTF-16BE"),
        ("ཀ་ཁ།".encode("utf-32"), "in UTF-32"),
        (b"\xef\xbb\xbf<!DOCTYPE html><html>", "an HTML page"),
    ],
)
def test_other_kinds(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"Not a UTF-8 file: it is {message}") as caught:
        check_kind(str(path))
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content", ["", "ཀ་ཁ། ག་ང་།", "\ufeffཀ", "{ཀ,ཁ}", "Plain words.", "<ཀ>", "PK", "\n" * 20 + "ཀ"]
)
def test_texts(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.txt").write_text(content, encoding="utf-8")
    check_kind(f"{tmp_path}/a.txt")
