"""Lists of files with sizes and hashes, and what they notice."""

import json
import os
from pathlib import Path

import pytest

from tibert_keras.errors import InputError
from tibert_keras.integrity import MANIFEST_FILE, check_manifest, write_manifest
from tibert_keras.storage import sha256


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a list of its files."""
    root = tmp_path / "model"
    (root / "assets").mkdir(parents=True)
    (root / "weights").write_bytes(b"weights")
    (root / "assets/words").write_bytes("བོད".encode())
    write_manifest(root)
    return root


def check(folder: Path) -> bool:
    return check_manifest(folder, what="The model", advice="Copy it anew.")


def test_a_list_has_every_file_in_the_form_of_the_manifest_of_records(folder: Path) -> None:
    listed = json.loads((folder / MANIFEST_FILE).read_text(encoding="utf-8"))
    assert listed["files"]["weights"] == {"bytes": 7, "sha256": sha256(folder / "weights")}
    assert set(listed["files"]) == {"weights", "assets/words"}
    assert check(folder)


def test_without_a_list_nothing_is_known(tmp_path: Path) -> None:
    assert not check(tmp_path)


def test_other_files_do_not_matter(folder: Path) -> None:
    (folder / "README.md").write_text("mine", encoding="utf-8")
    assert check(folder)


@pytest.mark.parametrize("name", ["weights", "assets/words"])
def test_what_is_missing_or_changed_is_named(folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[0] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(InputError, match=rf"The model cannot be loaded: its size or hash .*{name}'\. Copy it anew\."):
        check(folder)
    (folder / name).unlink()
    with pytest.raises(InputError, match=rf"The model cannot be loaded: a file is missing.*{name}'"):
        check(folder)
    (folder / name).mkdir()
    with pytest.raises(InputError, match=rf"no file that can be read.*{name}'"):
        check(folder)


def test_a_pipe_is_refused_and_not_read(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    with pytest.raises(InputError, match="The model cannot be loaded: pipe is neither a file nor a folder. Received: "):
        check(folder)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{}",
        '{"files": []}',
        '{"files": {"weights": 7}}',
        '{"files": {"weights": {"bytes": 7}}}',
        '{"files": {"../weights": {"bytes": 7, "sha256": ""}}}',
        '{"files": {"/etc/passwd": {"bytes": 7, "sha256": ""}}}',
        '{"files": {"weights": {"bytes": "7", "sha256": 7}}}',
        '{"files": ' + '{"a": ' * 100_000,
    ],
    ids=range(9),
)
def test_a_list_that_is_none(folder: Path, content: str) -> None:
    (folder / MANIFEST_FILE).write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match="Received: "):
        check(folder)
