"""The manifest of a folder of records: read, written, or refused."""

from __future__ import annotations

import json

import pytest

from tibert_keras.errors import InputError
from tibert_keras.records.manifest import Manifest


@pytest.fixture
def manifest():
    counts = {"documents": 2, "tokens": 1500, "unknown_tokens": 3, "examples": 12, "bytes": 2_000_000, "sha256": "ab"}
    return Manifest(
        options={"max_seq_length": 128, "masked_lm_prob": 0.15},
        tokenizer={"sha256": "cd", "vocabulary_size": 400},
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
