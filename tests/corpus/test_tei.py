"""TEI XML: its text, what is left out, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from tibert_keras.corpus.recognition import tei_lines
from tibert_keras.corpus.report import ReadingReport
from tibert_keras.corpus.volumes import read_documents
from tibert_keras.errors import InputError

HEAD = '<?xml version="1.0"?><TEI xmlns="http://www.tei-c.org/ns/1.0"><teiHeader><title>མིང་</title></teiHeader>'


@pytest.fixture
def write(tmp_path: Path):
    def make(body: str, *, head: str = HEAD) -> str:
        path = tmp_path / "a.xml"
        path.write_text(f"{head}<text><body>{body}</body></text></TEI>", encoding="utf-8")
        return str(path)

    return make


@pytest.mark.parametrize(
    ("body", "sections"),
    [
        ('<p>བཀྲ་<lb/>ཤི<pb n="2a"/>ས་<lb break="no"/>བདེ།</p>', ["བཀྲ་ཤིས་བདེ།"]),
        ("<p>\n  བཀྲ་\n  ཤིས།\n  བདེ།\n</p>\n<p>ལེགས</p>", ["བཀྲ་ཤིས།", "བདེ།", "ལེགས"]),
        ('<p n="1">བཀྲ་</p>\n<p n="2"><milestone unit="line"/>ཤིས</p><p>བདེ</p>', ["བཀྲ་ཤིས", "བདེ"]),
        ("<lg><l>བཀྲ་ཤིས</l><l>བདེ་</l></lg>", ["བཀྲ་ཤིས", "བདེ་"]),
        ('<p>བཀྲ་<note place="foot">ཀ<hi>ཁ</hi></note><fw>ག</fw>ཤིས <del>ང</del></p>', ["བཀྲ་ཤིས"]),
        ("<p>བཀྲ་<supplied>ཤི</supplied><unclear>ས</unclear><hi>།</hi></p>", ["བཀྲ་ཤིས།"]),
        ("<p>བོད<lb/>ཆོས<lb/>ཉིད\n of<lb/>Tibet</p>", ["བོད་ཆོས་ཉིད", "of", "Tibet"]),
        ("<p>&#x0F40;&#3905;&amp;ཀ</p>", ["ཀཁ&ཀ"]),
        ("<p>ཀ<app><lem>ཁ</lem><rdg>ག</rdg></app><app><rdg>ང</rdg><rdg>ཅ</rdg></app></p>", ["ཀཁང"]),
        ("<p>ཀ<choice><sic>ཁ</sic><corr>ག</corr></choice><corr>ང</corr></p>", ["ཀཁང"]),
    ],
)
def test_text(write, body: str, sections: list[str]) -> None:
    assert list(read_documents(write(body))) == [sections]


def test_readings_and_counts(write) -> None:
    body = "<choice><sic>ཁ</sic><corr>ག</corr></choice><choice><abbr>ང</abbr><expan>ཅ</expan></choice>"
    path, report = write(f"<p><pb/>{body}<note>ཆ</note><gap/></p>"), ReadingReport()
    assert list(read_documents(path, reading="corrected", report=report)) == [["གཅ"]]
    left_out = {"<teiHeader>": 1, "<note>": 1, "<sic>": 1, "<abbr>": 1}
    assert report.markup == {**left_out, "page marker": 1, "gap": 1}
    assert report.dropped["<teiHeader>"] == 4


@pytest.mark.parametrize(
    ("gap", "read"),
    [
        ('<gap quantity="2" unit="syllable"/>', "[GAP:2]"),
        ('<gap atLeast="1" atMost="3" unit="syllables"/>', "[GAP:1-3]"),
        ('<gap extent="4 syllables"/>', "[GAP:4]"),
        ('<gap reason="damage">ཀ<desc>ཁ<lb/></desc></gap>', "[GAP]"),
        ('<gap unit="chars" quantity="3"/>', "[GAP]"),
    ],
)
def test_gaps_are_there_to_be_filled_and_end_a_section_of_a_corpus(write, gap: str, read: str) -> None:
    path = write(f"<p>ཀ་{gap}་ཁ</p>")
    assert list(tei_lines(path)) == [f"ཀ་{read}་ཁ"]
    assert list(read_documents(path)) == [["ཀ་", "ཁ"]]


def test_each_text_is_a_document(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    group = "<teiCorpus><TEI><text><p>ཀ</p></text></TEI><TEI><text><p>ཁ</p><p>ག</p></text></TEI></teiCorpus>"
    path.write_text(group, encoding="utf-8")
    assert list(read_documents(str(path))) == [["ཀ"], ["ཁ", "ག"]]
    assert list(tei_lines(str(path))) == ["ཀ", "", "ཁ", "ག"]


def test_entities(write) -> None:
    head = '<!DOCTYPE TEI SYSTEM "tei.dtd" [<!ENTITY ts "་"><!ENTITY % iso SYSTEM "http://x/y.ent"> %iso;]><TEI>'
    assert list(read_documents(write("<p>ཀ&ts;ཁ&nbsp;ག</p>", head=head))) == [["ཀ་ཁ", "ག"]]


@pytest.mark.parametrize(
    ("body", "head", "message"),
    [
        ("<p>&b;</p>", '<!DOCTYPE TEI [<!ENTITY a "ཀཀ"><!ENTITY b "&a;&a;">]><TEI>', "may be harmful.*'b' as"),
        ("<p>&b;</p>", f'<!DOCTYPE TEI [<!ENTITY b "{"ཀ" * 500}">]><TEI>', "may be harmful.*'b' as"),
        ("<p>&b;</p>", '<!DOCTYPE TEI [<!ENTITY b SYSTEM "file:///etc/passwd">]><TEI>', "may be harmful.*SYSTEM"),
        ("<p>&foo;</p>", "<TEI>", "an entity that it does not declare. Received: 'foo', line 1"),
        ("<p>\n<q></p>", "<TEI>", "Not well-formed XML: mismatched tag, line 2"),
        ("<p>ཀ</p>", "<TEI><teiHeader>", "Not well-formed XML"),
        ("<p>ཀ</p>", '<?xml version="1.0" encoding="x-x"?><TEI>', "cannot be read: unknown encoding: x-x"),
        ("<p>ཀ</p>", '<?xml version="1.0" encoding="GB18030"?><TEI>', "multi-byte encodings are not supported"),
        ("<p>No Tibetan.</p>", "<TEI>", "no Tibetan"),
    ],
)
def test_bad_files(write, body: str, head: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        list(read_documents(write(body, head=head)))
    assert "a.xml" in str(caught.value) and "\n" not in str(caught.value)


def test_names_with_a_prefix(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text(
        '<tei:TEI xmlns:tei="http://www.tei-c.org/ns/1.0"><tei:text><tei:p>ཀ<tei:note>ཁ</tei:note></tei:p></tei:text></tei:TEI>',
        encoding="utf-8",
    )
    assert list(read_documents(f"{tmp_path}/a.xml")) == [["ཀ"]]


def test_xml_that_is_no_tei(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text('<?xml version="1.0"?><alto><String>ཀ</String></alto>', encoding="utf-8")
    with pytest.raises(InputError, match="not TEI. Received: .*a.xml' with the root <alto>.*--edition=tei"):
        list(read_documents(f"{tmp_path}/a.xml"))
