"""Every kind of markup in Esukhia's editions, most of which OpenPecha's have too."""

import logging
from pathlib import Path

import pytest

from tibert_keras.corpus.markup import LINE_START, esukhia_text
from tibert_keras.corpus.report import ReadingReport
from tibert_keras.corpus.sections import group_documents, split_sections
from tibert_keras.storage import read_lines


def read(*lines: str, **options) -> tuple[list[list[str]], ReadingReport]:
    report = ReadingReport("volume.txt")
    return list(group_documents(split_sections(esukhia_text(lines, report, **options)))), report


@pytest.mark.parametrize(
    ("line", "original", "corrected", "markup"),
    [
        ("[1a]ཀ་ཁ", "ཀ་ཁ", "ཀ་ཁ", {"folio marker": 1}),
        ("[33xa]", "", "", {"folio marker": 1}),
        ("[33xa.1]ཀ་ཁ", "ཀ་ཁ", "ཀ་ཁ", {"line marker": 1}),
        ("[147b.4]ཀ་ཁ", "ཀ་ཁ", "ཀ་ཁ", {"line marker": 1}),
        ("[14 5a.4]ཀ་ཁ", "ཀ་ཁ", "ཀ་ཁ", {"line marker": 1}),
        ("[12.3]ཀ་ཁ", "ཀ་ཁ", "ཀ་ཁ", {"line marker": 1}),
        ("[1a.1]", "", "", {"line marker": 1}),
        ("{D1}ཀ", "ཀ", "ཀ", {"Tohoku id": 1}),
        ("{D1}{D1-1}ཀ", "ཀ", "ཀ", {"Tohoku id": 2}),
        ("{D7a}ཀ", "ཀ", "ཀ", {"Tohoku id": 1}),
        ("{T1109}ཀ", "ཀ", "ཀ", {"Tohoku id": 1}),
        ("{D1193༄༅༅། །ཀ", "༄༅༅། །ཀ", "༄༅༅། །ཀ", {"Tohoku id": 1}),
        ("ཀ་{མྱེད་,མེད་}པ", "ཀ་མྱེད་པ", "ཀ་མེད་པ", {"archaic spelling": 1}),
        ("ཀ་{ལར་}ནི", "ཀ་ལར་ནི", "ཀ་ལར་ནི", {"stray braces": 1}),
        ("ཀ་(གིས་,ཀྱིས་)པ", "ཀ་གིས་པ", "ཀ་ཀྱིས་པ", {"correction": 1}),
        ("བྱ་(,བ་)ཐེག", "བྱ་ཐེག", "བྱ་བ་ཐེག", {"correction": 1}),
        ("མི་(་,)འམ", "མི་་འམ", "མི་འམ", {"correction": 1}),
        ("ཀ་(གིས་‚ཀྱིས་)པ", "ཀ་གིས་པ", "ཀ་ཀྱིས་པ", {"correction": 1}),
        ("ཀ་<མ་‚པ་>ལ", "ཀ་མ་ལ", "ཀ་པ་ལ", {"correction in angle brackets": 1}),
        ("ཀ་(ང་,{མྱི་,མི་})པ", "ཀ་ང་པ", "ཀ་མི་པ", {"archaic spelling": 1, "correction": 1}),
        ("ཨོཾ་[ཙརྩ་]ཡ་[ཙརྩ་]ཡ", "ཨོཾ་ཙརྩ་ཡ་ཙརྩ་ཡ", "ཨོཾ་ཙརྩ་ཡ་ཙརྩ་ཡ", {"error candidate": 2}),
        (":དུ་མ་#ལ", "དུ་མ་ལ", "དུ་མ་ལ", {"note anchor :": 1, "note anchor #": 1}),
        ("ཏོ་@#ཞེས", "ཏོ་ཞེས", "ཏོ་ཞེས", {"stray sign": 1, "note anchor #": 1}),
        ("གྲང་བ\ufffd\ufffdི་", "གྲང་བི་", "གྲང་བི་", {"bad bytes": 2}),
        ("བྲིས*་སམ", "བྲིས་སམ", "བྲིས་སམ", {"stray sign": 1}),
        ("ག་p་དེ", "ག་་དེ", "ག་་དེ", {"stray letter": 1}),
        ("‘’རིན་ཤེག]པོ", "རིན་ཤེགཔོ", "རིན་ཤེགཔོ", {"stray sign": 3}),
        ("[84a.1]167ཡང་", "ཡང་", "ཡང་", {"line marker": 1, "stray digits": 1}),
        ("\ufeff[1a.1]ཀ", "ཀ", "ཀ", {"line marker": 1, "byte-order mark": 1}),
        ("ཀ་ऽ་ཁ", "ཀ་་ཁ", "ཀ་་ཁ", {"Devanagari": 1}),
        ("ཀ\x07་ཁ", "ཀ་ཁ", "ཀ་ཁ", {"control character": 1}),
    ],
)
def test_markup(line: str, original: str, corrected: str, markup: dict[str, int]) -> None:
    for reading, expected in (("original", original), ("corrected", corrected)):
        documents, report = read(line, reading=reading)
        assert "".join(" ".join(document) for document in documents) == expected
        assert dict(report.markup) == markup
        assert report.unknown == []


def test_every_dropped_character_is_counted() -> None:
    line = "[1a.1]{D1}ཀ་{མྱེད་,མེད་}པ་(,བ་)[ཙརྩ་]#@"
    documents, report = read(line)
    assert len(line) == sum(report.dropped.values()) + len(documents[0][0])
    assert report.dropped["archaic spelling"] == len("{,མེད་}")


@pytest.mark.parametrize(("reading", "expected"), [("original", "སྣའི་རྣམ་རྣམ་པར"), ("corrected", "སྣའི་རྣམ་པར")])
def test_pair_broken_over_a_line(reading: str, expected: str) -> None:
    documents, report = read("[1a.1]སྣའི་(རྣམ་", "[1b]", "[1b.1]རྣམ་,རྣམ་)པར", reading=reading)
    assert documents == [[expected]]
    assert report.markup["correction"] == 1
    assert not report.unknown


@pytest.mark.parametrize(
    ("line", "text", "left_out"),
    [
        ("ཀ་<ཁ་>ག", "ཀ་ཁ་ག", ["<", ">"]),
        ("ཀ་{ཁ་ག", "ཀ་ཁ་ག", ["{"]),
        ("ཀ་(ཁ་)ག", "ཀ་ཁ་ག", ["(", ")"]),
        ("ཀ་abc་ག", "ཀ་་ག", ["abc"]),
        ("ཀ་×་ག", "ཀ་་ག", ["×"]),
        ("ཀ་[ཁ་ག", "ཀ་ཁ་ག", ["["]),
    ],
)
def test_unknown_markup_is_reported_with_its_place(
    line: str, text: str, left_out: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="tibert_keras"):
        documents, report = read("[1a]", f"[1a.1]{line}", "[1a.2]")
    assert documents == [[text]]
    assert [(place.file, place.line, place.text) for place in report.unknown] == [
        ("volume.txt", 2, sign) for sign in left_out
    ]
    assert "volume.txt:2" in caplog.text
    assert report.dropped["unknown"] == sum(map(len, left_out))


def test_an_unclosed_pair_does_not_swallow_the_lines_after_it() -> None:
    documents, report = read("ཀ་{ཁ།", "ག་{མྱི་,མི་}ང།", "ཅ།")
    assert documents == [["ཀ་ཁ།", "ག་མྱི་ང།", "ཅ།"]]
    assert [place.text for place in report.unknown] == ["{"]


def test_a_file_full_of_unknown_markup_is_logged_briefly(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="tibert_keras"):
        _, report = read(*["ཀ་<ཁ"] * 1500)
    assert report.num_unknown == 1500
    assert len(report.unknown) == 1000
    assert len(caplog.records) < 30


def test_documents_start_at_tohoku_ids_if_wanted() -> None:
    lines = ["[1a]", "[1a.1]༄༅། །ཀ་བཞུགས་སོ། །", "[1b.1]{D1}{D1-1}༄༅༅། །ཁ་སྐད་དུ། ག་རྫོགས་སོ།། །།{D2}ང་གཞི།"]
    documents, _ = read(*lines)
    assert documents == [["༄༅། །ཀ་བཞུགས་སོ། །"], ["༄༅༅། །ཁ་སྐད་དུ།", "ག་རྫོགས་སོ།། །།"], ["ང་གཞི།"]]
    documents, report = read(*lines, tohoku_documents=False)
    assert documents == [["༄༅། །ཀ་བཞུགས་སོ། །"], ["༄༅༅། །ཁ་སྐད་དུ།", "ག་རྫོགས་སོ།།", "།།ང་གཞི།"]]
    assert report.markup["Tohoku id"] == 3


def test_words_are_joined_over_lines_and_folios() -> None:
    documents, _ = read("[1a.7]བྱང་ཆུབ་", "[1b]", "[1b.1]", "[1b.2]སེམས་དཔའ། །ཀ་སོ།", "[1b.3]ཁ་སོ། །")
    assert documents == [["བྱང་ཆུབ་སེམས་དཔའ།", "།ཀ་སོ།", "ཁ་སོ། །"]]


def test_markers_tell_the_edition() -> None:
    assert all(map(LINE_START.match, ["[1a]", "\ufeff[1a]", "[33xa.1]ཀ", "[1b.1]{D1}"]))
    assert not any(map(LINE_START.match, ["ཀ་ཁ", "[ཀ]", "", "[12]"]))


def test_excerpts_of_the_edition(shared: Path) -> None:
    folder = shared / "data/fixtures"
    for path in sorted(folder.glob("derge-*/text/*.txt")):
        report = ReadingReport(str(path))
        documents = list(group_documents(split_sections(esukhia_text(read_lines(path), report))))
        assert documents, path
        assert report.unknown == [], path
        assert all("\u0f00" <= sign <= "\u0fff" or sign == " " for section in documents[0] for sign in section)


def test_a_whole_volume(kangyur: Path) -> None:
    """Counts of markup, against an independent count over the raw file."""
    report = ReadingReport()
    (path,) = kangyur.glob("074_*.txt")
    sections = list(split_sections(esukhia_text(read_lines(path), report)))
    raw = path.read_text(encoding="utf-8")
    assert report.unknown == []
    assert report.markup["note anchor #"] == raw.count("#") == 858
    assert report.markup["note anchor :"] == raw.count(":") == 198
    assert report.markup["Tohoku id"] == raw.count("{D")
    assert report.markup["archaic spelling"] == raw.count("{") - raw.count("{D")
    assert report.markup["correction"] == raw.count("(")
    # Not a character is gone that was not counted, spaces and line ends apart.
    kept = sum(len(section.replace(" ", "")) for section in sections)
    assert kept + sum(report.dropped.values()) == len("".join(raw.split()))
