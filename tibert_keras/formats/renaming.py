"""Tables of names: what our variables are called and how they lie in another format, read in both directions."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from tibert_keras.errors import InputError

# The moments of an optimizer, each under the name of its variable with one of these behind it.
SLOTS = ("adam_m", "adam_v")
# Parts of a model that another may lack; the encoder is needed whole.
_PARTS = ("pooled_dense", "mlm_head", "sop_head", "logits")

_LOG = logging.getLogger(__name__)


class Row(NamedTuple):
    """One variable in both formats; `{group}` and `{inner}` stand for the numbers of a layer: of its group, and in it.

    Attributes:
        ours: The path of our variable.
        theirs: The name there.
        inputs: How many of our first axes are the layer's inputs; they become one axis there, and the others, such as
            the attention heads, another. `None` if the array lies the same there.
        transposed: Whether outputs come first there.
    """

    ours: str
    theirs: str
    inputs: int | None = None
    transposed: bool = False

    def shape_there(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The shape there of what has this shape here."""
        if self.inputs is None:
            return tuple(shape)
        axes = [math.prod(part) for part in (shape[: self.inputs], shape[self.inputs :]) if part]
        return tuple(reversed(axes) if self.transposed else axes)

    def to_there(self, array: np.ndarray) -> np.ndarray:
        """An array of ours as it lies there."""
        there = self.shape_there(array.shape)
        return np.ascontiguousarray(array.reshape(there[::-1]).T) if self.transposed else array.reshape(there)

    def to_here(self, array: np.ndarray, shape: Sequence[int]) -> np.ndarray:
        """An array from there in this shape of ours."""
        return (array.T if self.transposed else array).reshape(shape)


def from_theirs(
    table: Sequence[Row],
    arrays: Mapping[str, np.ndarray],
    shapes: Mapping[str, tuple[int, ...]],
    *,
    implied: Mapping[str, np.ndarray] | None = None,
) -> dict[str, np.ndarray]:
    """Turn the variables of another format into ours. Each of them, and each of ours, is accounted for.

    Args:
        table: The names.
        arrays: The variables there by name; moments of an optimizer have `/adam_m` or `/adam_v` behind it.
        shapes: The shapes of our variables by path.
        implied: The values of those of ours that the other format may leave out.

    Returns:
        Our variables by path, and moments likewise. Whole parts that are missing there, of pooler, `mlm_head`,
        `sop_head` and `logits`, are missing here; their parts that the model lacks are dropped, and the log says so.

    Raises:
        InputError: If a variable there is not known, has another shape or holds what no training gives, or one of ours
            is missing there.
    """
    by_name = {row.theirs: row for row in _rows(table, shapes).values()}
    ours = {}
    for name, array in arrays.items():
        base, slot = split_slot(name)
        row = by_name.get(base)
        if row is not None:
            expected = row.shape_there(shapes[row.ours])
            if array.shape != expected:
                raise InputError(
                    f"A variable has another shape than the configuration says. Received: {name} of shape "
                    f"{array.shape}, {expected} in the model. Give the configuration that belongs to the weights."
                )
            _check_numbers(name, array)
            ours[row.ours + slot] = row.to_here(array, shapes[row.ours])
        elif (part := _part(table, base)) is not None and not _has_part(shapes, part):
            _LOG.info("Dropped %s, because the model has no %s.", name, part)
        else:
            raise InputError(
                f"The model has no such variable. Received: {name} of shape {array.shape}. "
                "Give the configuration that belongs to the weights, of an ALBERT for pretraining."
            )
    ours = {**(implied or {}), **ours}
    _check_missing(table, ours, shapes)
    return ours


def to_theirs(table: Sequence[Row], arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Turn our variables, by path, and their moments into another format's.

    Raises:
        InputError: If one has no name there, or holds what no training gives.
    """
    rows = _rows(table, [split_slot(name)[0] for name in arrays])
    theirs = {}
    for name, array in arrays.items():
        path, slot = split_slot(name)
        _check_numbers(name, array)
        theirs[rows[path].theirs + slot] = rows[path].to_there(array)
    return theirs


def in_float32(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays with their floats as float32."""
    return {
        name: array.astype("float32", copy=False) if np.issubdtype(array.dtype, np.floating) else array
        for name, array in arrays.items()
    }


def split_slot(name: str) -> tuple[str, str]:
    """Part the name of a variable from the `/adam_m` or `/adam_v` behind it, if there is one."""
    base, _, last = name.rpartition("/")
    return (base, f"/{last}") if last in SLOTS else (name, "")


def _check_numbers(name: str, array: np.ndarray) -> None:
    if not np.issubdtype(array.dtype, np.floating):
        raise InputError(
            f"A variable is not of floating-point numbers. Received: {name} of {array.dtype}. "
            "Give weights that are not quantized."
        )
    if count := array.size - np.count_nonzero(np.isfinite(array)):
        raise InputError(
            f"A variable is not finite. Received: {name} with {count} of {array.size} values infinite or NaN. "
            "Give the weights of before the training diverged."
        )


def _rows(table: Sequence[Row], paths: Iterable[str]) -> dict[str, Row]:
    """The row of each of our variables, with numbers for its placeholders."""
    rows = {}
    for path in paths:
        for row in table:
            if match := _pattern(row.ours).fullmatch(path):
                rows[path] = row._replace(ours=path, theirs=row.theirs.format(**match.groupdict()))
                break
        else:
            raise InputError(f"The variable has no name in the other format. Received: {path}. Convert without it.")
    return rows


def _pattern(name: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>\\d+)", re.escape(name)))


def _part(table: Sequence[Row], name: str) -> str | None:
    """The optional part that a name there belongs to."""
    for row in table:
        part = row.ours.partition("/")[0]
        if part in _PARTS and row.theirs == name:
            return part
    return None


def _has_part(names: Iterable[str], part: str) -> bool:
    return any(name.startswith(f"{part}/") for name in names)


def _check_missing(table: Sequence[Row], ours: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]]) -> None:
    missing = [path for path in shapes if path not in ours]
    absent = {part for part in _PARTS if not _has_part(ours, part)}
    for path in missing:
        if path.partition("/")[0] not in absent:
            row = _rows(table, [path])[path]
            raise InputError(
                f"A variable is missing. Received: no {row.theirs} of shape {row.shape_there(shapes[path])}. "
                "Give whole weights, and the configuration that belongs to them."
            )
