"""OpenPecha's base texts and layers."""

from pathlib import Path

import pytest

from tibert_keras.corpus.markup import resolve_markup
from tibert_keras.corpus.openpecha import Edit, apply_edits, is_openpecha_base, read_openpecha, volume_files
from tibert_keras.corpus.report import ReadingReport
from tibert_keras.corpus.sections import DOCUMENT_BREAK, group_documents, split_sections
from tibert_keras.corpus.volumes import read_documents
from tibert_keras.errors import InputError

BASE = "༄༅། །ཀ་བཞུགས་སོ།\n\nམྱེད་པའི་\nཆོས་འདི་གིས།\n།ལེགས་སོ།། །།\nཁ་པ་ལ།"
LAYER = """\
id: 1
annotation_type: {kind}
annotations:
  a1:
    {key}: {text}
    span:
      start: {start}
      end: {end}
"""
INDEX = """\
annotations:
  w1:
    work_id: D1
    parts:
      p1:
        work_id: D1-1
        span:
        - vol: 7
          start: {part}
          end: 90
    span:
    - vol: 7
      start: 0
      end: 90
    - vol: 8
      start: 3
      end: 9
"""


def read(base: str, *edits: Edit, **options) -> tuple[list[list[str]], ReadingReport]:
    report = ReadingReport("v007.txt")
    lines = resolve_markup(apply_edits(base, edits, report).split("\n"), report, **options)
    return list(group_documents(split_sections(lines))), report


@pytest.fixture
def opf(tmp_path: Path) -> Path:
    """An OPF of one small volume, with both layers and an index."""
    folder = tmp_path / "P000002.opf"
    (folder / "layers/v007").mkdir(parents=True)
    (folder / "base").mkdir()
    (folder / "base/v007.txt").write_text(BASE, encoding="utf-8")
    for name, key, old, new in (("Archaic", "modern", "མྱེད་", "མེད་"), ("Correction", "correction", "གིས", "ཡིས")):
        start = BASE.index(old)
        layer = LAYER.format(kind=name, key=key, text=new, start=start, end=start + len(old) - 1)
        (folder / f"layers/v007/{name}.yml").write_text(layer, encoding="utf-8")
    (folder / "index.yml").write_text(INDEX.format(part=BASE.index("ཁ")), encoding="utf-8")
    return folder


def test_line_and_page_ends() -> None:
    documents, report = read(BASE)
    assert documents == [["༄༅། །ཀ་བཞུགས་སོ།", "མྱེད་པའི་ཆོས་འདི་གིས།", "།ལེགས་སོ།། །།", "ཁ་པ་ལ།"]]
    assert not report.dropped


def test_layers_and_index_are_applied(opf: Path) -> None:
    path = str(opf / "base/v007.txt")
    original = list(read_documents(path))
    assert original == [["༄༅། །ཀ་བཞུགས་སོ།", "མྱེད་པའི་ཆོས་འདི་གིས།", "།ལེགས་སོ།། །།"], ["ཁ་པ་ལ།"]]
    report = ReadingReport()
    corrected = list(read_documents(str(opf), reading="corrected", tohoku_documents=False, report=report))
    assert corrected == [["༄༅། །ཀ་བཞུགས་སོ།", "མེད་པའི་ཆོས་འདི་ཡིས།", "།ལེགས་སོ།། །།", "ཁ་པ་ལ།"]]
    assert report.markup == {"archaic spelling": 1, "correction": 1}
    assert report.dropped == {"archaic spelling": 5, "correction": 3}


def test_layers_and_index_may_be_absent(opf: Path) -> None:
    path = str(opf / "base/v007.txt")
    assert volume_files(path) == [
        path,
        str(opf / "index.yml"),
        str(opf / "layers/v007/Archaic.yml"),
        str(opf / "layers/v007/Correction.yml"),
    ]
    (opf / "index.yml").unlink()
    for layer in (opf / "layers/v007").iterdir():
        layer.unlink()
    assert volume_files(path) == [path]
    assert len(list(read_documents(path, reading="corrected"))) == 1


@pytest.mark.parametrize(
    ("at", "documents"),
    [
        ("ཁ", [["ཀ་རྫོགས་སོ།། །།"], ["ཁ་པ་དང་།", "།ག།"]]),
        ("\nཁ", [["ཀ་རྫོགས་སོ།། །།"], ["ཁ་པ་དང་།", "།ག།"]]),
        ("།\nཁ", [["ཀ་རྫོགས་སོ།། །།"], ["ཁ་པ་དང་།", "།ག།"]]),
        ("ཀ", [["ཀ་རྫོགས་སོ།། །།", "ཁ་པ་དང་།", "།ག།"]]),
        ("པ་དང", [["ཀ་རྫོགས་སོ།། །།", "ཁ་པ་དང་།"], ["།ག།"]]),
        ("ག།", [["ཀ་རྫོགས་སོ།། །།", "ཁ་པ་དང་། །"], ["ག།"]]),
    ],
)
def test_a_work_starts_where_the_next_section_can(at: str, documents: list[list[str]]) -> None:
    base = "ཀ་རྫོགས་སོ།། །།\nཁ་པ་དང་། །ག།"
    start = base.rindex(at)
    assert read(base, Edit(start, start, DOCUMENT_BREAK, ""))[0] == documents


def test_overlapping_or_impossible_spans_are_reported() -> None:
    documents, report = read(
        "ཀ་ཁ་\nག་ང།",
        Edit(0, 2, "ཅ་", "correction"),
        Edit(1, 3, "ཆ་", "correction"),
        Edit(2, 2, DOCUMENT_BREAK, ""),
        Edit(90, 95, "ཇ་", "correction"),
    )
    assert "".join(map("".join, documents)) == "ཅ་ཁ་ག་ང།"
    assert [place.text for place in report.unknown] == ["correction 1-2", "correction 90-94"]
    assert report.dropped["unknown"] == 0


def test_a_correction_over_a_line_end_keeps_line_numbers() -> None:
    documents, report = read("ཀ་\nཁ་\nག་×ང", Edit(0, 5, "ཅ་", "correction"))
    assert documents == [["ཅ་ག་ང"]]
    assert report.unknown[0].line == 3


def test_markup_left_in_the_base_is_treated_as_in_the_edition() -> None:
    documents, report = read("ཀ་<མ་‚པ་>ལ་འཛག་#པར།{D1193༄༅༅། །ཁ", reading="corrected")
    assert documents == [["ཀ་པ་ལ་འཛག་པར།"], ["༄༅༅། །ཁ"]]
    assert report.markup == {"correction in angle brackets": 1, "note anchor #": 1, "Tohoku id": 1}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: [", "Not valid YAML"),
        ("annotations: {a: {span: {start: 1, end: 2}}}", "lacks 'modern'"),
        ("annotations: {a: {modern: x, span: {start: 1, end: z}}}", "lacks the number 'end'"),
        ("annotations: {a: 3}", "Not an OPF layer"),
    ],
)
def test_bad_layers(opf: Path, content: str, message: str) -> None:
    (opf / "layers/v007/Archaic.yml").write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=message) as caught:
        list(read_openpecha(str(opf / "base/v007.txt"), ReadingReport(), reading="corrected"))
    assert "Archaic.yml" in str(caught.value)


def test_a_span_without_a_suggestion_changes_nothing(opf: Path) -> None:
    path = str(opf / "base/v007.txt")
    layer = LAYER.format(kind="Correction", key="correction", text="null", start=3, end=5)
    (opf / "layers/v007/Correction.yml").write_text(layer, encoding="utf-8")
    (opf / "layers/v007/Archaic.yml").unlink()
    assert list(read_documents(path, reading="corrected")) == list(read_documents(path))


@pytest.mark.parametrize("span", ["{vol: 7}", "7", "{start: 1}"])
def test_bad_index(opf: Path, span: str) -> None:
    (opf / "index.yml").write_text(f"annotations: {{a: {{span: [{span}]}}}}", encoding="utf-8")
    with pytest.raises(InputError, match="A span lacks the number.*index.yml"):
        list(read_openpecha(str(opf / "base/v007.txt"), ReadingReport()))


def test_paths() -> None:
    assert is_openpecha_base("P000001.opf/base/v001.txt")
    assert is_openpecha_base("base/v001.txt")
    assert not is_openpecha_base("text/001_a.txt")
    with pytest.raises(InputError, match="base/vNNN"):
        volume_files("text/001_a.txt")


def test_both_forms_of_a_volume_agree(kangyur: Path, kangyur_opf: Path) -> None:
    """Volume 74 was converted from the same text: one section of 21,105 was edited since."""
    ours = list(read_documents(str(next(kangyur.glob("074_*")))))
    theirs = list(read_documents(str(kangyur_opf / "base/v074.txt")))
    assert [len(document) for document in ours] == [len(document) for document in theirs]
    pairs = [pair for mine, other in zip(ours, theirs, strict=True) for pair in zip(mine, other, strict=True)]
    assert len(pairs) == 21105
    assert sum(one != two for one, two in pairs) == 1
