"""Files that time has not been kind to, or that somebody has made up."""

import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from tibert_keras.records.reader import ExampleReader
from tibert_keras.records.serialization import example_shape, feature_sizes, serialize_examples, write_records


def flip_bit(path: Path, *, index: int = 3) -> int:
    """Flip a bit in the middle of an example; the size of the file stays as it was. Returns the example's index."""
    content = bytearray(path.read_bytes())
    start = 0
    for _ in range(index):
        # A record is its length in 8 bytes, 4 bytes of checksum, the example, and 4 bytes of checksum.
        start += 16 + int.from_bytes(content[start : start + 8], "little")
    content[start + 100] ^= 1
    path.write_bytes(content)
    return index


def set_value(path: Path, name: str, value: int, *, index: int) -> None:
    """Exchange the first value of a feature of an example, in a record file that is whole afterwards."""
    reader = ExampleReader([str(path)], feature_sizes(*example_shape(str(path)).values()))
    features = reader.read(np.arange(len(reader)))
    features[name][index, 0] = value
    with path.open("wb") as file:
        write_records(file, serialize_examples(features))


# === What may happen to any file ===
# Each takes the file and a generator, and changes the file. The name says what it does.
Damage = Callable[[Path, random.Random], None]


def _rewrite(change: Callable[[bytearray, random.Random], bytes | bytearray]) -> Damage:
    def damage(path: Path, rng: random.Random) -> None:
        path.write_bytes(change(bytearray(path.read_bytes()), rng))

    return damage


def _replace(make: Callable[[Path], object]) -> Damage:
    def damage(path: Path, rng: random.Random) -> None:
        path.unlink()
        make(path)

    return damage


def _flip(content: bytearray, rng: random.Random) -> bytearray:
    for _ in range(8):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return content


def _blank(content: bytearray, rng: random.Random) -> bytearray:
    start = rng.randrange(len(content))
    length = min(512, len(content) - start)
    content[start : start + length] = bytes(length)
    return content


def _insert(part: bytes) -> Callable[[bytearray, random.Random], bytes]:
    def insert(content: bytearray, rng: random.Random) -> bytes:
        place = rng.randrange(len(content))
        return bytes(content[:place] + part + content[place:])

    return insert


DAMAGES: dict[str, Damage] = {
    "cut": _rewrite(lambda content, rng: content[: rng.randrange(1, len(content))]),
    "emptied": _rewrite(lambda content, rng: b""),
    "bits flipped": _rewrite(_flip),
    "blanked": _rewrite(_blank),
    "longer": _rewrite(lambda content, rng: content + rng.randbytes(100)),
    "twice": _rewrite(lambda content, rng: content * 2),
    "noise": _rewrite(lambda content, rng: rng.randbytes(len(content))),
    "bytes that are no text": _rewrite(_insert(b"\xff\xfe\xf0")),
    "other text": _rewrite(lambda content, rng: b"hello\n"),
    "deep": _rewrite(lambda content, rng: b"[" * 100_000),
    "removed": lambda path, rng: path.unlink(),
    "a folder": _replace(lambda path: path.mkdir()),
    "a pipe": _replace(os.mkfifo),
    "a link to itself": _replace(lambda path: path.symlink_to(path)),
}


# === What may happen to a file of settings ===
def _values(change: Callable[[Any], Any]) -> Callable[[bytearray, random.Random], bytes]:
    """Change a value of a JSON or YAML file, however deep it lies."""

    def damage(content: bytearray, rng: random.Random) -> bytes:
        value = yaml.safe_load(bytes(content))
        places = [(holder, key) for holder in _holders(value) for key in _keys(holder)]
        holder, key = rng.choice(places)
        holder[key] = change(holder[key])
        return json.dumps(value).encode()

    return damage


def _holders(value: Any) -> Iterator[Any]:
    if isinstance(value, dict | list) and value:
        yield value
        for part in value.values() if isinstance(value, dict) else value:
            yield from _holders(part)


def _keys(holder: Any) -> list[Any]:
    return list(holder) if isinstance(holder, dict) else list(range(len(holder)))


SETTINGS_DAMAGES: dict[str, Damage] = {
    "huge number": _rewrite(_values(lambda value: 10**30)),
    "negative number": _rewrite(_values(lambda value: -7)),
    "a million": _rewrite(_values(lambda value: 1_000_000)),
    "not finite": _rewrite(_values(lambda value: float("nan"))),
    "null": _rewrite(_values(lambda value: None)),
    "a list": _rewrite(_values(lambda value: [value])),
    "an object": _rewrite(_values(lambda value: {"x": value})),
    "a string": _rewrite(_values(lambda value: "x")),
    "deep value": _rewrite(lambda content, rng: b'{"files": ' + b'{"a": ' * 100_000),
}
