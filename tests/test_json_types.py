"""What a JSON file may hold, by types as annotations write them."""

import json
import math
from dataclasses import dataclass, field
from typing import Any, TypedDict

import pytest

from tibert_keras.errors import InputError
from tibert_keras.json_types import known_fields, misfit, read_typed_json


@dataclass
class Counts:
    tokens: int
    names: list[str] = field(default_factory=list)


class Entry(TypedDict):
    counts: dict[str, Counts]
    share: float


class File(Entry, total=False):
    name: str | None
    other: Any


WHOLE = {"counts": {"a": {"tokens": 3, "names": ["b"]}}, "share": 1, "name": None, "of a newer version": {}}


def test_accepted():
    assert misfit(WHOLE, File) is None
    assert misfit({"counts": {}, "share": 0.5, "name": "a", "other": math.nan}, File) is None


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"counts": []}, ".counts"),
        ({"counts": {"a": 7}}, ".counts.a"),
        ({"counts": {"a": {}}}, ".counts.a.tokens"),
        ({"counts": {"a": {"tokens": 3.0}}}, ".counts.a.tokens"),
        ({"counts": {"a": {"tokens": True}}}, ".counts.a.tokens"),
        ({"counts": {"a": {"tokens": 10**30}}}, ".counts.a.tokens"),
        ({"counts": {"a": {"tokens": 1, "names": ["b", 1]}}}, ".counts.a.names.1"),
        ({"share": math.nan}, ".share"),
        ({"share": -math.inf}, ".share"),
        ({"share": None}, ".share"),
        ({"name": 1}, ".name"),
    ],
)
def test_the_place_is_named(changes, place, tmp_path):
    assert misfit(WHOLE | changes, File) == place
    (tmp_path / "a.json").write_text(json.dumps(WHOLE | changes))
    with pytest.raises(InputError, match=rf"Not a test: '{place[1:]}' is missing or of another type. .*a.json'. Go."):
        read_typed_json(tmp_path / "a.json", File, what="a test", advice="Go.")


def test_fields_of_newer_versions_are_left_out():
    assert known_fields(Counts, {"tokens": 3, "new": 1}) == Counts(3)


def test_an_entry_that_is_missing():
    assert misfit({"counts": {}}, File) == ".share"
