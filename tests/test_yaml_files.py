"""YAML that somebody has made up."""

import time
from pathlib import Path

import pytest

from tibert_keras.errors import InputError
from tibert_keras.yaml_files import load_yaml, read_yaml

BOMB = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdefghi", "bcdefghij", strict=True)
)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (BOMB, "repeats a part by an alias"),
        ("a: " + "[" * 100_000, "nest"),
        ("a: " + "{a: " * 100_000, "nest"),
        ("[1, 2]", "not a YAML object"),
        ("", "not a YAML object"),
        ("a: [", "expected"),
        ("a: !!python/object/apply:os.system [ls]", "constructor"),
        ("a: \x00", "not allowed"),
    ],
    ids=range(8),
)
def test_refused_at_once(content: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(content, encoding="utf-8")
    started = time.monotonic()
    with pytest.raises(InputError, match=rf"Not a list of flags: .*{reason}.*Received: .*a\.yaml'\. Go\."):
        read_yaml(path, what="a list of flags", advice="Go.")
    assert time.monotonic() - started < 5


def test_no_file() -> None:
    with pytest.raises(InputError, match=r"^Cannot read the file: No such .*\. Received: 'no\.yaml'\. Go\.$"):
        read_yaml("no.yaml", what="a list of flags", advice="Go.")


def test_taken() -> None:
    assert load_yaml("a: [1, {b: བོད}]".encode()) == {"a": [1, {"b": "བོད"}]}
    assert load_yaml(b"a: &x [1]\nb: *x", aliases=True) == {"a": [1], "b": [1]}
