"""Files found by pattern, each once, whatever links lead to it."""

import glob
from pathlib import Path

import pytest

from tibert_keras.errors import InputError
from tibert_keras.globs import check_name, find_matches
from tibert_keras.storage import expand_glob


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("a.txt", "b/c.txt", "b/[d]/e.txt", "b/.hidden/f.txt", "b/g/h/i.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "pattern", ["*.txt", "**/*.txt", "b/**/*.txt", "**/[[]d]/*", "**", "b/**", "*/**/h/**/*.md", "**.txt", "./**/c.txt"]
)
def test_the_same_as_glob(tree: Path, pattern: str) -> None:
    def files(found: list[str]) -> list[str]:
        return sorted({name for name in found if Path(name).is_file()})

    expected = files(glob.glob(pattern, recursive=True))
    assert files(list(find_matches(pattern))) == expected != []
    absolute = files(list(find_matches(f"{glob.escape(str(tree))}/{pattern}")))
    assert absolute == files(glob.glob(f"{glob.escape(str(tree))}/{pattern}", recursive=True))


def test_links_to_folders_above(tree: Path) -> None:
    """With two of them, `glob` would find 2 to the power of 40 paths."""
    for name in ("b/up", "b/g/up", "b/g/h/up"):
        (tree / name).symlink_to(tree)
    assert [path.name for path in map(Path, expand_glob(f"{tree}/**/*.txt"))] == ["a.txt", "e.txt", "c.txt"]
    (tree / "again.txt").symlink_to(tree / "a.txt")
    assert expand_glob("*.txt") == ["a.txt"]


def test_a_name_that_is_not_utf_8(tree: Path) -> None:
    name = b"\xff.txt".decode(errors="surrogateescape")
    (tree / name).write_text("x", encoding="utf-8")
    with pytest.raises(InputError, match=r"A name or text is not UTF-8. Received: .*udcff\.txt"):
        expand_glob("*.txt")
    with pytest.raises(InputError):
        check_name(name)
