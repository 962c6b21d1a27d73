"""The manifest of a folder of records: read, written, or refused, with the origin of texts and tokenizer."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from tibert_keras.corpus.build import CorpusConfig, build_corpus
from tibert_keras.corpus.sample import write_sample
from tibert_keras.errors import InputError
from tibert_keras.records.build import build_records
from tibert_keras.records.config import RecordsConfig
from tibert_keras.records.manifest import Manifest, describe_corpora, describe_tokenizer
from tibert_keras.runs.environment import hash_records
from tibert_keras.storage import sha256


@pytest.fixture
def manifest():
    counts = {"documents": 2, "tokens": 1500, "unknown_tokens": 3, "examples": 12, "bytes": 2_000_000, "sha256": "ab"}
    return Manifest(
        options={"max_seq_length": 128, "masked_lm_prob": 0.15},
        tokenizer={"sha256": "cd", "vocabulary_size": 400, "options": {}},
        files={"ཀ.tf_record": counts, "b.tf_record": counts},
    )


def test_written_and_read(manifest, tmp_path):
    manifest.write(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]
    assert Manifest.read(tmp_path) == Manifest.read(str(tmp_path)) == manifest
    assert list(json.loads((tmp_path / "manifest.json").read_bytes())["files"]) == sorted(manifest.files)


def test_folder_without_one(tmp_path):
    assert Manifest.read(tmp_path) is None
    assert Manifest.read(tmp_path / "none") is None


@pytest.mark.parametrize("content", [b"", b"[1]", b"{", b'{"options": {}}', b'{"more": 1}', b"\xff"])
def test_not_a_manifest(tmp_path, content):
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(InputError, match="Not a manifest of records: .*manifest.json'. Build the records again"):
        Manifest.read(tmp_path)


def test_one_that_cannot_be_read_is_not_none(tmp_path):
    (tmp_path / "manifest.json").mkdir()
    with pytest.raises(InputError, match="Cannot read the file.*manifest.json"):
        Manifest.read(tmp_path)


def test_totals(manifest):
    assert (manifest.total("examples"), manifest.total("tokens")) == (24, 3000)
    assert manifest.summary() == "2 files, 4 documents, 3,000 tokens (0.200% unknown), 24 examples, 4.0 MB"


# === The origin of texts and tokenizer ===


@pytest.fixture
def corpus(tmp_path, monkeypatch) -> CorpusConfig:
    """A corpus in `corpus/` of two volumes in `sample/`, both in the working folder."""
    monkeypatch.chdir(tmp_path)
    write_sample("sample", num_documents=8, num_files=2)
    config = CorpusConfig(input_file="sample/*.txt", output_dir="corpus", validation_volumes=[2], workers=1)
    build_corpus(config)
    return config


@pytest.fixture
def records(corpus, spm_models) -> RecordsConfig:
    shutil.copytree(Path(spm_models["bpe"]).parent, "tokenizer")
    return RecordsConfig(
        input_file="corpus/train_*.txt", output_dir="records", spm_model_file="tokenizer/spiece.model", workers=1,
        max_seq_length=32, max_predictions_per_seq=5,
    )  # fmt: skip


@pytest.mark.parametrize("shuffle", [False, True])
def test_records_note_the_corpus_and_the_tokenizer(records, shuffle):
    manifest = build_records(dataclasses.replace(records, shuffle_examples=shuffle))
    noted, (source,) = manifest.made_from["corpora"]["corpus"], manifest.sources.values()
    assert (noted["input_file"], noted["options"]["validation_volumes"]) == ("sample/*.txt", [2])
    assert noted["sha256"] == sha256("corpus/corpus.json")
    assert source["folder"] == "corpus" and noted["files"][source["file"]] == source["sha256"]
    assert manifest.made_from["tokenizer"] == {
        "spm_model_file": "tokenizer/spiece.model",
        "manifest": json.loads(Path("tokenizer/tokenizer_manifest.json").read_text(encoding="utf-8")),
    }
    assert Manifest.read("records") == manifest


def test_what_was_noted_stays(records):
    first = build_records(records)
    Path("corpus").rename("elsewhere")
    Path("tokenizer").rename("other")
    again = dataclasses.replace(records, input_file="elsewhere/train_*.txt", spm_model_file="other/spiece.model")
    second = build_records(again)
    assert second.sources == first.sources and second.made_from["tokenizer"] == first.made_from["tokenizer"]
    assert second.made_from["corpora"]["corpus"] == first.made_from["corpora"]["corpus"]
    # The records are the same, and a run that read them is told so.
    assert second.made_from != first.made_from and second.digest() == first.digest()


def test_the_digest_is_the_hash_of_an_older_manifest(records):
    manifest = build_records(records)
    content = json.loads(Path("records/manifest.json").read_text(encoding="utf-8"))
    del content["made_from"]
    for source in content["sources"].values():
        del source["folder"]
    Path("records/manifest.json").write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")
    assert manifest.digest() == sha256("records/manifest.json") == Manifest.read("records").digest()
    (noted,) = hash_records(["records/train_text1.tf_record"]).values()
    assert noted == manifest.digest()
    # Files of others have that name too.
    Path("records/manifest.json").write_text("[]", encoding="utf-8")
    (noted,) = hash_records(["records/train_text1.tf_record"]).values()
    assert noted == sha256("records/manifest.json")


def test_files_of_others(records):
    """Folders of Hugging Face have a `tokenizer.json`, as the manifest was called in older folders."""
    Path("corpus/corpus.json").write_text("[]")
    Path("tokenizer/tokenizer_manifest.json").unlink()
    for name in ("tokenizer.json", "tokenizer_manifest.json"):
        for content in ("{", "{}", json.dumps({"model": {}, "sha256": "0" * 64})):
            Path("tokenizer", name).write_text(content)
            assert describe_tokenizer("tokenizer/spiece.model")["manifest"] is None
    assert describe_corpora(["corpus/train_text1.txt", "sample/001_a.txt"]) == {}
    Path("tokenizer/tokenizer_manifest.json").unlink()
    assert build_records(records).made_from == {
        "corpora": {},
        "tokenizer": {"spm_model_file": "tokenizer/spiece.model", "manifest": None},
    }


def test_an_older_tokenizer(records):
    expected = describe_tokenizer("tokenizer/spiece.model")
    assert expected["manifest"] is not None
    Path("tokenizer/tokenizer_manifest.json").rename("tokenizer/tokenizer.json")
    assert describe_tokenizer("tokenizer/spiece.model") == expected


def test_an_older_corpus(corpus, records):
    content = json.loads(Path("corpus/corpus.json").read_text(encoding="utf-8"))
    del content["input_file"]
    Path("corpus/corpus.json").write_text(json.dumps(content), encoding="utf-8")
    assert build_records(records).made_from["corpora"]["corpus"]["input_file"] is None
    build_corpus(corpus)
    assert build_records(records).made_from["corpora"]["corpus"]["input_file"] == "sample/*.txt"
