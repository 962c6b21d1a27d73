"""From volumes to corpus files."""

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from tibert_keras.cli.data import corpus
from tibert_keras.cli.flags import parse
from tibert_keras.corpus.build import CorpusConfig, build_corpus
from tibert_keras.corpus.report import CorpusReport
from tibert_keras.corpus.volumes import read_documents
from tibert_keras.errors import InputError
from tibert_keras.storage import read_json


def volume(number: int, *, markup: str = "") -> str:
    return (
        f"[1a]\n[1b.1]{{D{number}}}༄༅༅། །ཀ་{number * 'ཁ་'}ག། །{{མྱི་,མི་}}{markup}ལ།\n[1b.2]ང་པོ། །{{D{number + 1}}}ཅ་བོ།\n"
    )


@pytest.fixture
def config(tmp_path: Path) -> CorpusConfig:
    """Three volumes of a canon, two of them of the same partition."""
    folder = tmp_path / "derge-kangyur"
    folder.mkdir()
    for number in (9, 21, 1):
        (folder / f"{number:03}_a.txt").write_text(volume(number), encoding="utf-8")
    return CorpusConfig(input_file=f"{folder}/*.txt", output_dir=str(tmp_path / "corpus"), workers=1)


def names(config: CorpusConfig) -> list[str]:
    folder = Path(config.output_dir)
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def contents(config: CorpusConfig) -> dict[str, bytes]:
    return {name: (Path(config.output_dir) / name).read_bytes() for name in names(config)}


def test_partitions(config: CorpusConfig) -> None:
    report = build_corpus(config)
    assert names(config) == ["corpus.json", "train_kangyur1.txt", "train_kangyur9.txt"]
    text = (Path(config.output_dir) / "train_kangyur1.txt").read_text(encoding="utf-8")
    assert text == ("༄༅༅། །ཀ་ཁ་ག།\n།མྱི་ལ།\nང་པོ། །\n\nཅ་བོ།\n\n" + f"༄༅༅། །ཀ་{'ཁ་' * 21}ག།\n།མྱི་ལ།\nང་པོ། །\n\nཅ་བོ།\n")
    counts = report.files["train_kangyur1.txt"]
    assert (counts.volumes, counts.documents, counts.sections) == ([1, 21], 4, 8)
    assert counts.characters == len(text.replace("\n", ""))
    assert counts.tshegs == text.count("\u0f0b")
    assert counts.sha256 == hashlib.sha256(text.encode()).hexdigest()
    assert report.reading.markup["archaic spelling"] == 3


def test_one_spelling_if_asked(config: CorpusConfig, tmp_path: Path) -> None:
    (tmp_path / "derge-kangyur/030_a.txt").write_text(volume(30, markup="ཧ\u0f74\u0f71༌\u0f00"), encoding="utf-8")
    assert "normalization" not in build_corpus(config).options
    changed = replace(config, output_dir=f"{tmp_path}/changed", normalization="tibetan")
    assert build_corpus(changed).options["normalization"] == "tibetan"
    texts = [(Path(each.output_dir) / "train_kangyur10.txt").read_text(encoding="utf-8") for each in (config, changed)]
    assert "ཧ\u0f74\u0f71༌\u0f00" in texts[0] and texts[1] == texts[0].replace(
        "ཧ\u0f74\u0f71༌\u0f00", "ཧ\u0f71\u0f74་ཨོཾ"
    )
    with pytest.raises(InputError, match="No such normalization. Received: normalization='nfkc'"):
        replace(config, normalization="nfkc")


def test_the_files_hold_the_documents_of_the_volumes(config: CorpusConfig) -> None:
    build_corpus(config)
    files = sorted(Path(config.output_dir).glob("train_*.txt"))
    written = [
        block.split("\n") for file in files for block in file.read_text(encoding="utf-8").strip("\n").split("\n\n")
    ]
    assert sorted(written) == sorted(read_documents(config.input_file))


def test_corrected_reading_and_fewer_documents(config: CorpusConfig) -> None:
    build_corpus(replace(config, reading="corrected", tohoku_documents=False))
    text = (Path(config.output_dir) / "train_kangyur9.txt").read_text(encoding="utf-8")
    assert text == f"༄༅༅། །ཀ་{'ཁ་' * 9}ག།\n།མི་ལ།\nང་པོ།\n།ཅ་བོ།\n"


def test_held_out_volumes(config: CorpusConfig) -> None:
    report = build_corpus(replace(config, validation_volumes=[21]))
    assert sorted(report.files) == ["train_kangyur1.txt", "train_kangyur9.txt", "validation_kangyur1.txt"]
    assert report.files["validation_kangyur1.txt"].volumes == [21]
    with pytest.raises(InputError, match=r"validation_volumes=\[5\].*\[1, 9, 21\]"):
        build_corpus(replace(config, validation_volumes=[5, 9]))


@pytest.mark.parametrize("given", ["tengyur:1,Kangyur:09", ["kangyur:9", "tengyur:1", "tengyur:1"]])
def test_volumes_of_one_canon_are_held_out(tmp_path: Path, given: str | list[str]) -> None:
    for canon in ("kangyur", "tengyur"):
        (tmp_path / "in" / canon).mkdir(parents=True)
        for number in (1, 9):
            (tmp_path / f"in/{canon}/{number}.txt").write_text("ཀ།\n", encoding="utf-8")
    config = CorpusConfig(
        input_file=f"{tmp_path}/in/*/*.txt", output_dir=str(tmp_path / "out"), validation_volumes=given, workers=1
    )
    assert config.validation_volumes == ["kangyur:9", "tengyur:1"]
    assert sorted(build_corpus(config).files) == [
        "train_kangyur1.txt", "train_tengyur9.txt", "validation_kangyur9.txt", "validation_tengyur1.txt",
    ]  # fmt: skip
    with pytest.raises(InputError, match=r"\['kangyur:5'\]. The input has kangyur: \[1, 9\], tengyur: \[1, 9\]"):
        build_corpus(replace(config, validation_volumes="kangyur:5", output_dir=str(tmp_path / "other")))
    with pytest.raises(InputError, match="A volume is a number, or a collection and a number.*'x-5'"):
        replace(config, validation_volumes="x-5")


def test_the_command_line_takes_volumes_in_any_spelling() -> None:
    for given, volumes in (
        ("[62,90]", [62, 90]),
        ("90,62", [62, 90]),
        ("62", [62]),
        ("kangyur:62", ["kangyur:62"]),
        ("['kangyur:62', 'tengyur:1']", ["kangyur:62", "tengyur:1"]),
    ):
        config = parse(
            corpus, ["--input_file=x", "--output_dir=y", f"--validation_volumes={given}"], name="tibert corpus"
        )
        assert config.validation_volumes == volumes


def test_foreign_markup_is_never_taken_for_text_silently(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text('<pb n="1"/>ཀ་ཁ་ག་ང། ཅ\u00a0ཆ།\n' * 5, encoding="utf-8")
    config = CorpusConfig(input_file=f"{tmp_path}/a.txt", output_dir=str(tmp_path / "out"), workers=1)
    report = build_corpus(config)
    assert re.search(r"a.txt: 4\d% of the characters are not Tibetan: .*`<`.*--edition", report.summary())
    assert "No-break spaces between two letters, in 5 places" in report.summary()
    assert build_corpus(config).summary() == report.summary()  # read from corpus.json
    assert read_json(str(tmp_path / "out/corpus.json"), what="", advice="")["notes"]


def test_manifest(config: CorpusConfig) -> None:
    report = build_corpus(config)
    manifest = json.loads((Path(config.output_dir) / "corpus.json").read_text(encoding="utf-8"))
    assert manifest["options"] == {
        "edition": "auto",
        "reading": "original",
        "tohoku_documents": True,
        "validation_volumes": [],
    }
    assert list(manifest["inputs"]) == ["kangyur/1/001_a.txt", "kangyur/9/009_a.txt", "kangyur/21/021_a.txt"]
    assert manifest["files"]["train_kangyur9.txt"]["sections"] == 4
    assert manifest["dropped_characters"] == dict(report.reading.dropped)
    assert config.output_dir not in json.dumps(manifest)


def test_the_same_corpus_is_kept_and_a_damaged_one_built_again(config: CorpusConfig) -> None:
    report = build_corpus(config)
    before = contents(config)
    path = Path(config.output_dir) / "train_kangyur9.txt"
    time = path.stat().st_mtime_ns
    assert build_corpus(config) == report
    assert path.stat().st_mtime_ns == time
    path.write_text("ཀ", encoding="utf-8")
    assert build_corpus(config) == report
    path.unlink()
    build_corpus(config)
    assert contents(config) == before


def test_a_folder_with_another_corpus_is_refused(config: CorpusConfig) -> None:
    build_corpus(config)
    before = contents(config)
    with pytest.raises(InputError, match="reading='original' there, 'corrected' now"):
        build_corpus(replace(config, reading="corrected"))
    with pytest.raises(InputError, match="Received: kangyur/21"):
        build_corpus(replace(config, input_file=config.input_file.replace("*", "0[01]*")))
    assert contents(config) == before


def test_stray_corpus_files_and_broken_manifests_are_refused(config: CorpusConfig) -> None:
    folder = Path(config.output_dir)
    folder.mkdir()
    (folder / "notes.txt").touch()
    (folder / "train_tengyur3.txt").touch()
    with pytest.raises(InputError, match=r"train_tengyur3\.txt"):
        build_corpus(config)
    (folder / "train_tengyur3.txt").unlink()
    whole = {"markup": {}, "dropped_characters": {}, "unknown_markup": [], "num_unknown_markup": 0, "files": {}}
    for content in ({}, whole | {"options": 1.5, "inputs": {}}, whole | {"options": {}, "inputs": "x"}):
        (folder / "corpus.json").write_text(json.dumps(content))
        with pytest.raises(InputError, match="Not a manifest"):
            build_corpus(config)


def test_nothing_is_written_if_a_volume_is_bad(config: CorpusConfig) -> None:
    bad = Path(config.input_file).parent / "021_a.txt"
    for content, message in (
        (b"", "empty"),
        (b"[1a]\n[1a.1]\n", "no Tibetan"),
        (volume(21).encode() + b"\xff", "Not a UTF-8"),
        ("ཀ།\n".encode("utf-16"), "it is in UTF-16"),
    ):
        bad.write_bytes(content)
        with pytest.raises(InputError, match=message):
            build_corpus(replace(config, edition="esukhia"))
        assert names(config) == [] and not Path(config.output_dir).exists()


def test_bad_options(config: CorpusConfig) -> None:
    with pytest.raises(InputError, match="edition='narthang'.*esukhia"):
        replace(config, edition="narthang")
    with pytest.raises(InputError, match="reading='best'"):
        replace(config, reading="best")
    with pytest.raises(InputError, match="No file matches"):
        build_corpus(replace(config, input_file="/nowhere/*.txt"))


def test_summary(config: CorpusConfig) -> None:
    (Path(config.input_file).parent / "009_a.txt").write_text(volume(9, markup="<×"), encoding="utf-8")
    report = build_corpus(config)
    summary = report.summary()
    assert "2 files of 3 volumes: 6 documents, 12 sections" in summary
    assert "archaic spelling" in summary
    assert "009_a.txt:2: '<×'" in summary
    assert CorpusReport(options={}, inputs={}).summary().startswith("0 files")


def test_same_input_gives_the_same_bytes(config: CorpusConfig, tmp_path: Path) -> None:
    build_corpus(config)
    again = replace(config, output_dir=str(tmp_path / "again"))
    build_corpus(again)
    assert contents(config) == contents(again)


def test_real_volumes(kangyur: Path, tmp_path: Path) -> None:
    config = CorpusConfig(
        input_file=f"{kangyur}/*.txt", output_dir=str(tmp_path / "corpus"), validation_volumes=[74], workers=1
    )
    report = build_corpus(config)
    assert sorted(report.files) == ["train_kangyur1.txt", "validation_kangyur14.txt"]
    assert report.total("documents") == 10
    assert report.total("sections") == 18511 + 21105
    assert report.reading.num_unknown == 0
