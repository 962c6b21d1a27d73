"""Checks what JSON files hold, which may be damaged or edited, against types as annotations write them."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints, is_typeddict

from tibert_keras.errors import InputError
from tibert_keras.storage import read_json

# No count comes near, and libraries take no larger numbers.
_TOO_LARGE = 1 << 63
_ABSENT = object()


def read_typed_json(path: str | os.PathLike[str], kind: Any, *, what: str, advice: str) -> dict[str, Any]:
    """Read a JSON object with the keys of a `TypedDict`. `what` it should be and the `advice` are for the message."""
    content = read_json(path, what=what, advice=advice)
    if (place := misfit(content, kind)) is not None:
        raise InputError(
            f"Not {what}: {place.removeprefix('.')!r} is missing or of another type. "
            f"Received: {os.fspath(path)!r}. {advice}"
        )
    return content


def known_fields(kind: Any, content: Mapping[str, Any]) -> Any:
    """Make a dataclass of the values of an object, leaving out those that it has no field for."""
    return kind(**{each.name: content[each.name] for each in fields(kind) if each.name in content})


def misfit(value: Any, kind: Any, place: str = "") -> str | None:
    """Return the first place in a value of a JSON file that is not of a type, such as `.files.a.bytes`, or `None`.

    The type is made of numbers, strings, lists, dictionaries, unions, `TypedDict`s, dataclasses and `Any`. Other keys
    than those of a `TypedDict` or dataclass are accepted, since newer versions may write some.
    """
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return None if any(misfit(value, part) is None for part in parts) else place
    if kind in (int, float):
        # NaN is not below anything.
        fits = type(value) in (int, kind) and abs(value) < _TOO_LARGE
    elif kind is Any or kind in (str, bool, type(None)):
        fits = value is not _ABSENT and (kind is Any or isinstance(value, kind))
    elif fits := isinstance(value, list if origin is list else dict):
        return next(filter(None, (misfit(*inside) for inside in _parts(value, kind, place))), None)
    return None if fits else place


def _parts(value: Any, kind: Any, place: str) -> Iterator[tuple[Any, Any, str]]:
    origin, parts = get_origin(kind), get_args(kind)
    if origin is not None:
        items = value.items() if origin is dict else enumerate(value)
        yield from ((each, parts[-1], f"{place}.{name}") for name, each in items)
        return
    required = (
        kind.__required_keys__
        if is_typeddict(kind)
        else {field.name for field in fields(kind) if field.default is field.default_factory is MISSING}
    )
    for name, part in get_type_hints(kind).items():
        if name in value or name in required:
            yield value.get(name, _ABSENT), part, f"{place}.{name}"
