"""Files found by pattern, read with clear errors, written whole or not at all."""

import hashlib
import os
from pathlib import Path

import pytest

from tibert_keras.errors import InputError
from tibert_keras.storage import (
    atomic_output,
    exists,
    expand_glob,
    is_remote,
    join,
    list_folder,
    local_folder,
    open_binary,
    read_bytes,
    read_json,
    read_lines,
    remove,
    sha256,
    size,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of files with awkward names."""
    for name in ("b.txt", "a.txt", "c,d.txt", "[e].txt", "f/g.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(name, encoding="utf-8")
    return tmp_path


class TestExpandGlob:
    @pytest.mark.parametrize(
        ("pattern", "names"),
        [
            ("*.txt", ["[e].txt", "a.txt", "b.txt", "c,d.txt"]),
            ("b.txt", ["b.txt"]),
            ("b.txt, */a.txt, b.txt", ["a.txt", "b.txt"]),
            ("**/g.txt", ["f/g.txt"]),
            ("[e].txt", ["[e].txt"]),
            ("c,d.txt", ["c,d.txt"]),
            ("[ab].txt,", ["a.txt", "b.txt"]),
        ],
    )
    def test_patterns(self, folder: Path, pattern: str, names: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(folder)
        assert expand_glob(pattern.replace("*/a", "./a")) == sorted(
            f"./{name}" if f"*/{name}" in pattern else name for name in names
        )

    @pytest.mark.parametrize("pattern", ["none-*.txt", "a.txt,none.txt", "f", "", " , "])
    def test_no_file(self, folder: Path, pattern: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(folder)
        with pytest.raises(InputError, match="Received: "):
            expand_glob(pattern)


class TestReadLines:
    def test_only_newlines_end_lines(self, tmp_path: Path) -> None:
        path = tmp_path / "a.txt"
        path.write_bytes("\ufeffཀ\r\nཁ\u2028ག\x85ང\x0b\n\nཅ".encode())
        assert list(read_lines(path)) == ["ཀ", "ཁ\u2028ག\x85ང\x0b", "", "ཅ"]

    def test_a_byte_order_mark_goes_at_the_start_only(self, tmp_path: Path) -> None:
        path = tmp_path / "a.txt"
        path.write_bytes("\ufeffཀ\n\ufeffཁ\n".encode())
        assert list(read_lines(path)) == ["ཀ", "\ufeffཁ"]

    @pytest.mark.parametrize(
        ("content", "message"),
        [(b"", "The file is empty"), (b"ab\ncd\xffe\n", "at byte 5"), ("ཀ".encode("utf-16"), "at byte 0")],
    )
    def test_bad_files(self, tmp_path: Path, content: bytes, message: str) -> None:
        path = tmp_path / "a.txt"
        path.write_bytes(content)
        with pytest.raises(InputError, match=message) as caught:
            list(read_lines(path))
        assert str(path) in str(caught.value)

    def test_missing_file_and_folder(self, tmp_path: Path) -> None:
        for path in (tmp_path / "none", tmp_path):
            with pytest.raises(InputError, match="Cannot read the file"):
                list(read_lines(path))

    def test_memory_is_one_line(self, tmp_path: Path) -> None:
        path = tmp_path / "a.txt"
        path.write_bytes(b"a\n" * 10 + b"\xff")
        assert next(read_lines(path)) == "a"


class TestAtomicOutput:
    def test_a_file_appears_when_it_is_whole(self, tmp_path: Path) -> None:
        target = tmp_path / "new/folder/a.txt"
        with atomic_output(target) as path:
            path.write_text("one", encoding="utf-8")
            assert not target.exists()
        assert target.read_text(encoding="utf-8") == "one"
        assert os.listdir(target.parent) == ["a.txt"]

    def test_nothing_has_its_name_before_it_is_on_the_disk(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The files are synced first, then moved, then the folder that has the names."""
        calls = []
        fsync, replace = os.fsync, os.replace
        monkeypatch.setattr(os, "fsync", lambda file: (calls.append(os.readlink(f"/proc/self/fd/{file}")), fsync(file)))
        monkeypatch.setattr(os, "replace", lambda *paths: (calls.append("move"), replace(*paths)))
        with atomic_output(tmp_path / "run") as path:
            path.mkdir()
            (path / "a.txt").write_text("a", encoding="utf-8")
        parts = [str(path / "a.txt"), str(path)]
        assert sorted(calls[:-2]) == sorted(parts) and calls[-2:] == ["move", str(tmp_path)]

    def test_a_failure_leaves_the_old_file(self, tmp_path: Path) -> None:
        target = tmp_path / "a.txt"
        target.write_text("old", encoding="utf-8")
        with pytest.raises(RuntimeError), atomic_output(target) as path:
            path.write_text("half", encoding="utf-8")
            raise RuntimeError
        assert target.read_text(encoding="utf-8") == "old"
        assert os.listdir(tmp_path) == ["a.txt"]

    def test_folders(self, tmp_path: Path) -> None:
        target = tmp_path / "run"
        for content in ("one", "two"):
            with atomic_output(target) as path:
                (path / "deep").mkdir(parents=True)
                (path / f"deep/{content}.txt").write_text(content, encoding="utf-8")
        assert [str(path.relative_to(target)) for path in sorted(target.rglob("*"))] == ["deep", "deep/two.txt"]
        with pytest.raises(RuntimeError), atomic_output(target) as path:
            path.mkdir()
            raise RuntimeError
        assert os.listdir(tmp_path) == ["run"]
        assert (target / "deep/two.txt").exists()

    def test_what_a_killed_process_left_is_no_hindrance(self, tmp_path: Path) -> None:
        for leftover in (".run.part", ".run.replaced.part", ".run.123.part"):
            (tmp_path / leftover).mkdir()
            (tmp_path / leftover / "old.txt").write_text("old", encoding="utf-8")
        assert list_folder(tmp_path) == []
        with atomic_output(tmp_path / "run") as path:
            path.mkdir()
            (path / "new.txt").write_text("new", encoding="utf-8")
        assert os.listdir(tmp_path) == ["run"]
        assert os.listdir(tmp_path / "run") == ["new.txt"]


class TestWhereTheOutputIs:
    def test_of_a_link_what_it_points_to_is_replaced(self, tmp_path: Path) -> None:
        (tmp_path / "disk").mkdir()
        for name in ("folder", "file", "nothing yet"):
            (tmp_path / name).symlink_to(tmp_path / "disk" / name)
        (tmp_path / "disk/folder").mkdir()
        (tmp_path / "disk/folder/old.txt").touch()
        (tmp_path / "disk/file").touch()
        # What an older version moved aside.
        (tmp_path / "disk/.folder.replaced.part").symlink_to(tmp_path / "disk")
        for content in ("one", "two"):
            for name in ("folder", "file", "nothing yet"):
                with atomic_output(tmp_path / name) as path:
                    assert path.parent == tmp_path / "disk"
                    if name == "folder":
                        path.mkdir()
                    (path / "new.txt" if name == "folder" else path).write_text(content, encoding="utf-8")
        assert all((tmp_path / name).is_symlink() for name in ("folder", "file", "nothing yet"))
        assert sorted(os.listdir(tmp_path)) == ["disk", "file", "folder", "nothing yet"]
        assert sorted(os.listdir(tmp_path / "disk")) == ["file", "folder", "nothing yet"]
        assert os.listdir(tmp_path / "disk/folder") == ["new.txt"]
        assert (tmp_path / "disk/file").read_text(encoding="utf-8") == "two"

    def test_a_link_is_removed_without_what_it_points_to(self, tmp_path: Path) -> None:
        (tmp_path / "disk").mkdir()
        (tmp_path / "old").symlink_to(tmp_path / "disk")
        remove(tmp_path / "old")
        assert os.listdir(tmp_path) == ["disk"]

    def test_what_a_file_or_folder_may_not_replace(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        (tmp_path / "loop").symlink_to(tmp_path / "loop")
        (tmp_path / "folder").mkdir()
        (tmp_path / "file").touch()
        before = sorted(os.listdir(tmp_path))
        for name in before:
            refused = pytest.raises(InputError, match=f"The output is a.* Received: '.*{name}'")
            with refused, atomic_output(tmp_path / name) as path:
                path.mkdir() if name == "file" else path.touch()
        assert sorted(os.listdir(tmp_path)) == before
        reader, writer = os.pipe()
        with pytest.raises(InputError, match="is a pipe"), atomic_output(f"/dev/fd/{writer}"):
            pytest.fail("begun")
        os.close(reader)
        os.close(writer)


def test_outputs_of_similar_names_can_be_written_at_once(tmp_path: Path) -> None:
    with atomic_output(tmp_path / "run2") as second:
        second.write_text("2", encoding="utf-8")
        with atomic_output(tmp_path / "run") as first:
            first.write_text("1", encoding="utf-8")
    assert [(tmp_path / name).read_text(encoding="utf-8") for name in ("run", "run2")] == ["1", "2"]


def test_json(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"a": 1}', encoding="utf-8")
    assert read_json(path, what="a manifest", advice="Go.") == {"a": 1}
    for content in ("", "[1]", "{"):
        path.write_text(content, encoding="utf-8")
        with pytest.raises(InputError, match=r"Not a manifest: .* Received: .*a\.json'\. Go\."):
            read_json(path, what="a manifest", advice="Go.")


def test_small_helpers(folder: Path) -> None:
    assert list_folder(folder) == ["[e].txt", "a.txt", "b.txt", "c,d.txt", "f"]
    assert list_folder(folder / "none") == []
    assert list_folder(folder / "a.txt") == []
    assert read_bytes(folder / "a.txt") == b"a.txt"
    assert sha256(folder / "a.txt") == hashlib.sha256(b"a.txt").hexdigest()
    assert size(folder / "a.txt") == 5
    assert exists(folder / "f")
    assert not exists(folder / "none")
    assert is_remote("gs://bucket/a")
    assert not is_remote(folder)
    with pytest.raises(InputError):
        open_binary(folder / "none")


class TestRemote:
    """Remote paths, on TensorFlow's in-memory file system."""

    @pytest.fixture
    def remote(self) -> str:
        gfile = pytest.importorskip("tensorflow").io.gfile
        path = "ram://tibert-storage"
        if gfile.exists(path):
            gfile.rmtree(path)
        return path

    def test_write_list_read(self, remote: str) -> None:
        with atomic_output(f"{remote}/run") as path:
            (path / "deep").mkdir(parents=True)
            (path / "deep/a.txt").write_text("ཀ\nཁ\n", encoding="utf-8")
        with atomic_output(f"{remote}/b.txt") as path:
            path.write_text("b", encoding="utf-8")
        assert list(read_lines(f"{remote}/run/deep/a.txt")) == ["ཀ", "ཁ"]
        assert expand_glob(f"{remote}/*.txt") == [f"{remote}/b.txt"]
        assert list_folder(remote) == ["b.txt", "run"]
        assert list_folder(f"{remote}/none") == []
        with pytest.raises(InputError, match="No file matches"):
            expand_glob(f"{remote}/none*")

    def test_missing_file(self, remote: str) -> None:
        for read in (read_bytes, lambda path: list(read_lines(path))):
            with pytest.raises(InputError, match="The remote path cannot be used: .*none.txt"):
                read(f"{remote}/none.txt")

    def test_unknown_scheme(self) -> None:
        for call in (read_bytes, expand_glob, remove):
            with pytest.raises(InputError, match="The remote path cannot be used: .*nowhere"):
                call("nowhere://bucket/a")

    def test_a_slash_at_the_end_changes_nothing(self, remote: str) -> None:
        with atomic_output(f"{remote}/run/") as path:
            path.mkdir()
            (path / "a.txt").write_text("a", encoding="utf-8")
        assert list_folder(f"{remote}/run/") == list_folder(f"{remote}/run") == ["a.txt"]
        assert read_bytes(join(f"{remote}/run/", "a.txt")) == b"a"

    def test_the_mark_of_a_whole_folder_comes_last(self, remote: str, monkeypatch: pytest.MonkeyPatch) -> None:
        gfile = pytest.importorskip("tensorflow").io.gfile
        copied: list[str] = []
        copy = gfile.copy
        monkeypatch.setattr(
            gfile, "copy", lambda source, *rest, **kw: (copied.append(source), copy(source, *rest, **kw))
        )
        with atomic_output(f"{remote}/run", last="a.json") as path:
            path.mkdir()
            for name in ("a.json", "b.h5", "c.txt"):
                (path / name).write_text(name, encoding="utf-8")
        assert [Path(source).name for source in copied][-1] == "a.json"
        assert len(copied) == 3

    def test_local_copy(self, remote: str) -> None:
        with atomic_output(f"{remote}/run") as path:
            (path / "deep").mkdir(parents=True)
            (path / "deep/a.txt").write_text("a", encoding="utf-8")
        with local_folder(f"{remote}/run") as local:
            assert (Path(local) / "deep/a.txt").read_text(encoding="utf-8") == "a"
        assert not Path(local).exists()
