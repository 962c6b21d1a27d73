"""The fillings of a whole text, for its editor."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET

import pytest

from tibert_keras.errors import InputError
from tibert_keras.inference.conjectures import certainty, write_conjectures

TEXT = "<[1a] བཅོམ་[GAP:1]་འདས་\r\n\tཐོ[?]་ & [GAP:0-1]\n[MASK]"
FILLINGS = [[("ལྡན", 0.6), ("ཀ", 0.2)], [("ཐོས", 0.1)], [], [("ལ", 0.01)]]


def test_table(tmp_path):
    write_conjectures(TEXT, FILLINGS, tmp_path / "a.tsv")
    rows = [line.split("\t") for line in (tmp_path / "a.tsv").read_text(encoding="utf-8").splitlines()]
    assert rows == [
        ["line", "gap", "rank", "guess", "score", "before", "written", "after"],
        ["1", "1", "1", "ལྡན", "0.6", "<[1a] བཅོམ་", "[GAP:1]", "་འདས་"],
        ["1", "1", "2", "ཀ", "0.2", "<[1a] བཅོམ་", "[GAP:1]", "་འདས་"],
        ["2", "2", "1", "ཐོས", "0.1", " ", "ཐོ[?]", "་ & [GAP:0-1]"],
        ["3", "4", "1", "ལ", "0.01", "", "[MASK]", ""],
    ]


def test_json(tmp_path):
    write_conjectures(TEXT, FILLINGS, tmp_path / "a.json")
    found = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert [(row["line"], row["gap"], row["written"], len(row["candidates"])) for row in found] == [
        (1, 1, "[GAP:1]", 2), (2, 2, "ཐོ[?]", 1), (2, 3, "[GAP:0-1]", 0), (3, 4, "[MASK]", 1),
    ]  # fmt: skip
    assert found[0]["candidates"][0] == {"text": "ལྡན", "score": 0.6, "cert": "high"}


def test_wylie(tmp_path):
    for name in ("a.tsv", "a.json"):
        write_conjectures(TEXT, FILLINGS, tmp_path / name, show_wylie=True)
    header, first, *_ = (tmp_path / "a.tsv").read_text(encoding="utf-8").splitlines()
    assert header.endswith("\tafter\twylie") and first.endswith("\tldan")
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))[0]["candidates"][1]["wylie"] == "ka"


def test_tei(tmp_path):
    write_conjectures(TEXT, FILLINGS, tmp_path / "a.xml")
    name = "{http://www.tei-c.org/ns/1.0}"
    root = ET.parse(tmp_path / "a.xml").getroot()
    block = next(root.iter(f"{name}ab"))
    assert "".join(block.itertext()).strip() == "<[1a] བཅོམ་ལྡན་འདས་\n\tཐོས་ & \nལ"
    supplied = [(each.text, each.get("cert")) for each in block.iter(f"{name}supplied")]
    assert supplied == [("ལྡན", "high"), ("ས", "medium"), ("ལ", "low")]
    write_conjectures("ཀ\0\ufffe[MASK]", [[]], tmp_path / "b.xml")
    assert "ཀ\ufffd\ufffd" in "".join(ET.parse(tmp_path / "b.xml").getroot().itertext())
    assert len(list(block.iter(f"{name}gap"))) == 1 and len(list(block.iter(f"{name}lb"))) == 2


def test_certainty():
    assert [certainty(score) for score in (1, 0.5, 0.4999, 0.1, 0.0999, 0)] == [
        "high", "high", "medium", "medium", "low", "low",
    ]  # fmt: skip


def test_another_format(tmp_path):
    with pytest.raises(InputError, match=r"conjectures_file='\S*a.docx'. Let it end in .tsv, .json or .xml"):
        write_conjectures(TEXT, FILLINGS, tmp_path / "a.docx")
