"""Recognises the kind of a file by its first bytes, and reads the text of TEI."""

import re
from collections.abc import Iterator

from tibert_keras.corpus.report import ReadingReport
from tibert_keras.corpus.sections import DOCUMENT_BREAK
from tibert_keras.corpus.tei import tei_text
from tibert_keras.errors import InputError
from tibert_keras.storage import open_binary

_HEAD_BYTES = 4096
_XML = re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:\?xml|!DOCTYPE (?!html)|(?:\w+:)?(?:TEI|teiCorpus|text))\b", re.IGNORECASE)
_AS_TEXT = "Save it as plain text in UTF-8 (in Word: Save As, Plain Text, Encoding UTF-8)."
# Files that no reader takes: their first bytes, their kind, and advice.
_OTHERS = (
    (rb"%PDF", "a PDF file", "Extract its text with a program such as pdftotext, and check that it is Unicode."),
    (rb"PK\x03\x04.*?word/", "a Word file (.docx)", _AS_TEXT),
    (rb"PK\x03\x04.*?xl/", "an Excel file (.xlsx)", "Save it as CSV in UTF-8."),
    (rb"PK\x03\x04.*?\[Content_Types\]", "a Word or Excel file", _AS_TEXT),
    (rb"PK\x03\x04.{0,60}mimetypeapplication/vnd\.oasis", "an OpenDocument file", _AS_TEXT),
    (rb"PK\x03\x04|\x1f\x8b|\xfd7zXZ|BZh|7z\xbc\xaf|Rar!", "an archive or compressed file", "Unpack it first."),
    (rb"\xd0\xcf\x11\xe0", "a Word or Excel file (.doc, .xls)", _AS_TEXT),
    (rb"\{\\rtf", "an RTF file", _AS_TEXT),
    (rb"\xff\xfe\x00\x00|\x00\x00\xfe\xff", "in UTF-32", "Convert it to UTF-8: iconv -f UTF-32 -t UTF-8."),
    (rb"\xff\xfe|\xfe\xff", "in UTF-16", "Convert it to UTF-8: iconv -f UTF-16 -t UTF-8."),
    # Without a byte-order mark: Tibetan and Latin letters, whose other byte is one of these two.
    (rb"(?:.[\x00\x0f]){8}", "in UTF-16", "Convert it to UTF-8: iconv -f UTF-16LE -t UTF-8."),
    (rb"(?:[\x00\x0f].){8}", "in UTF-16", "Convert it to UTF-8: iconv -f UTF-16BE -t UTF-8."),
    (rb"(?:\xef\xbb\xbf)?\s*<(?:!doctype html|html)\b", "an HTML page", "Save its text in UTF-8."),
)  # fmt: skip
_KINDS = [(re.compile(sign, re.DOTALL | re.IGNORECASE), what, advice) for sign, what, advice in _OTHERS]


def check_kind(path: str) -> bool:
    """Refuse a file that is no UTF-8 text (Word, PDF, HTML, ...), and return whether it begins as XML does."""
    with open_binary(path) as file:
        head = file.read(_HEAD_BYTES)
    for sign, what, advice in _KINDS:
        if sign.match(head):
            raise InputError(f"Not a UTF-8 file: it is {what}. Received: {path!r}. {advice}")
    return _XML.match(head) is not None


def tei_lines(path: str) -> Iterator[str]:
    """Yield the lines of a TEI file's text, with an empty one between documents."""
    has_text = False
    for line in tei_text(path, ReadingReport(path)):
        *texts, last = line.split(DOCUMENT_BREAK)
        for text in texts:
            if text.strip():
                yield text.strip()
            if has_text:
                yield ""
        if last.strip():
            has_text = True
            yield last.strip()
