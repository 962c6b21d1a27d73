"""Editions, collections and volume numbers of files."""

from pathlib import Path

import pytest

from tibert_keras.corpus.report import ReadingReport
from tibert_keras.corpus.volumes import Edition, detect_edition, find_volumes, read_documents
from tibert_keras.errors import InputError

ESUKHIA = "[1a]\n[1b.1]{{D{id}}}༄༅༅། །ཀ་ཁ།\n"


def write(folder: Path, name: str, text: str = "ཀ་ཁ།\n") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_editions_are_told_apart(tmp_path: Path) -> None:
    assert detect_edition(str(write(tmp_path, "001_a.txt", ESUKHIA.format(id=1)))) == "esukhia"
    assert detect_edition(str(write(tmp_path, "P9.opf/base/v001.txt"))) == "openpecha"
    assert detect_edition(str(write(tmp_path, "001.txt"))) == "plain"


def test_formats_are_told_apart(tmp_path: Path) -> None:
    assert detect_edition(str(write(tmp_path, "a.txt", '\ufeff<?xml version="1.0"?><TEI/>'))) == "tei"
    assert detect_edition(str(write(tmp_path, "a.xml", "<TEI><text/></TEI>"))) == "tei"
    assert detect_edition(str(write(tmp_path, "a.CSV", "id,text\n"))) == "table"
    assert detect_edition(str(write(tmp_path, "b.txt", "<ཀ་ཁ>\n"))) == "plain"


@pytest.mark.parametrize(
    ("name", "text", "edition", "sections"),
    [
        ("001_a.txt", "[1a.1]ཀ{ཁ,ག}།\n", "plain", ["ཀ{ཁ,ག}།"]),
        ("001_a.txt", "ཀ{ཁ,ག}།\n", "esukhia", ["ཀཁ།"]),
        ("base/v001.txt", "ཀ{ཁ,ག}།\n", "plain", ["ཀ{ཁ,ག}།"]),
        ("a.csv", "ཀ,ཁ\n", "plain", ["ཀ,ཁ"]),
        ("a.txt", "a;b\nཀ;ཁ\n", "table", ["ཀ"]),
        ("a.xml", "<alto><String>ཀ</String></alto>", "tei", ["ཀ"]),
    ],
)
def test_an_edition_can_be_forced(tmp_path: Path, name: str, text: str, edition: Edition, sections: list[str]) -> None:
    path = str(write(tmp_path, name, text))
    assert list(read_documents(path, edition=edition)) == [sections]


def test_nothing_is_learnt_of_gaps(tmp_path: Path) -> None:
    """`[MASK]` in a corpus would be the mask of its records."""
    text = 'ཀ་[GAP:1–2]་ཁ [MASK][MASK]ག་ཐོ[?]་ང་[GAP]<gap unit="syllable"/>ཅ [12a]'
    for name, content in (("a.txt", f"{text}།"), ("a.csv", f"n,text\n1,{text}།")):
        (tmp_path / name).write_text(content, encoding="utf-8")
        report = ReadingReport()
        (sections,) = read_documents(str(tmp_path / name), report=report)
        assert sections[:4] == ["ཀ་", "ཁ", "ག་", "ང་"] and sections[4].startswith("ཅ")
        assert report.markup["gap"] == 5


def test_openpecha_needs_its_folders(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a file base/vNNN.txt. Received: edition='openpecha'"):
        find_volumes(str(write(tmp_path, "001.txt")), edition="openpecha")


@pytest.mark.parametrize(
    ("name", "text", "collection", "number"),
    [
        ("derge-kangyur/text/012_a.txt", ESUKHIA.format(id=1), "kangyur", 12),
        ("Derge-Tengyur/text/012_a.txt", ESUKHIA.format(id=1), "tengyur", 12),
        ("x/y/z/003_a.txt", ESUKHIA.format(id=1108), "kangyur", 3),
        ("x/y/z/003_a.txt", ESUKHIA.format(id=1109), "tengyur", 3),
        ("x/P000001.opf/base/v023.txt", "ཀ།", "kangyur", 23),
        ("x/P000002.opf/base/v210.txt", "ཀ།", "tengyur", 210),
        ("x/y/z/007.txt", "ཀ།", "text", 7),
        ("x/y/z/story.txt", "ཀ།", "text", 1),
    ],
)
def test_collection_and_number(tmp_path: Path, name: str, text: str, collection: str, number: int) -> None:
    (volume,) = find_volumes(str(write(tmp_path, name, text)))
    assert (volume.collection, volume.number) == (collection, number)


def test_a_volume_without_ids_goes_with_its_neighbours(tmp_path: Path) -> None:
    write(tmp_path, "x/y/z/001_a.txt", ESUKHIA.format(id=1200))
    write(tmp_path, "x/y/z/002_b.txt", "[1a]\nཀ།\n")
    assert {volume.collection for volume in find_volumes(f"{tmp_path}/x/y/z/*.txt")} == {"tengyur"}


def test_volumes_are_in_numeric_order(tmp_path: Path) -> None:
    for name in ("10_a.txt", "9_a.txt", "101_a.txt"):
        write(tmp_path, name, ESUKHIA.format(id=1))
    assert [volume.number for volume in find_volumes(f"{tmp_path}/*.txt")] == [9, 10, 101]


def test_plain_files_without_numbers_are_numbered_from_one(tmp_path: Path) -> None:
    for name in ("b.txt", "7.txt", "a.txt"):
        write(tmp_path, name)
    found = [(Path(volume.path).name, volume.number) for volume in find_volumes(f"{tmp_path}/*.txt")]
    assert found == [("7.txt", 1), ("a.txt", 2), ("b.txt", 3)]


def test_an_opf_folder_stands_for_its_volumes(tmp_path: Path) -> None:
    for name in ("base/v001.txt", "base/v002.txt", "index.txt"):
        write(tmp_path, f"P000001.opf/{name}")
    for pattern in (f"{tmp_path}/P000001.opf", f"{tmp_path}/P000001.opf/", f"{tmp_path}/*.opf"):
        assert [volume.number for volume in find_volumes(pattern)] == [1, 2]


def test_the_same_volume_twice(tmp_path: Path) -> None:
    write(tmp_path, "a/kangyur/001_a.txt", ESUKHIA.format(id=1))
    write(tmp_path, "P000001.opf/base/v001.txt")
    with pytest.raises(InputError, match="same volume"):
        find_volumes(f"{tmp_path}/a/kangyur/*.txt,{tmp_path}/P000001.opf")
