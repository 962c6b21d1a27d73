"""Renames and reshapes variables between our models and another format, by one table read in both directions."""

import logging
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import ml_dtypes
import numpy as np

from tibert_keras.errors import InputError

# The moments of an optimizer: the name of a variable, followed by one of these.
SLOTS = ("adam_m", "adam_v")
# The optional parts of a model. The encoder must be complete.
_PARTS = ("pooled_dense", "mlm_head", "sop_head", "logits")

_LOG = logging.getLogger(__name__)


class Row(NamedTuple):
    """One variable in both formats. `{group}` and `{inner}` stand for a layer's group and its number in the group.

    Attributes:
        ours: The path of our variable.
        theirs: Its name in the other format.
        inputs: The number of our leading axes that are the layer's inputs. The other format merges these into one axis
            and the remaining ones, such as the attention heads, into another. `None` if it keeps our shape.
        transposed: Whether the other format has the outputs first.
    """

    ours: str
    theirs: str
    inputs: int | None = None
    transposed: bool = False

    def their_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Convert our shape into theirs."""
        if self.inputs is None:
            return tuple(shape)
        axes = [math.prod(part) for part in (shape[: self.inputs], shape[self.inputs :]) if part]
        return tuple(reversed(axes) if self.transposed else axes)

    def to_theirs(self, array: np.ndarray) -> np.ndarray:
        """Convert our array into theirs."""
        shape = self.their_shape(array.shape)
        return np.ascontiguousarray(array.reshape(shape[::-1]).T) if self.transposed else array.reshape(shape)

    def to_ours(self, array: np.ndarray, shape: Sequence[int]) -> np.ndarray:
        """Convert their array into ours, which has this shape."""
        return (array.T if self.transposed else array).reshape(shape)


def from_theirs(
    table: Sequence[Row], arrays: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, np.ndarray]:
    """Convert the variables of another format, by name, into ours, by path; every one on either side is accounted for.

    Moments of an optimizer have `/adam_m` or `/adam_v` after the name. The shapes are those of our variables. An
    optional part (pooler, `mlm_head`, `sop_head`, `logits`) that they lack is left out. One that our model lacks is
    dropped and logged.
    """
    rows = _rows(table, shapes)
    by_name = {row.theirs: row for row in rows.values()}
    parts = {row.theirs: row.ours.partition("/")[0] for row in table}
    ours = {}
    for name, array in arrays.items():
        base, slot = split_slot(name)
        row = by_name.get(base)
        if row is not None:
            expected = row.their_shape(shapes[row.ours])
            if array.shape != expected:
                raise InputError(
                    f"A variable has another shape than the configuration says. Received: {name} of shape "
                    f"{array.shape}, {expected} in the model. Give the configuration that belongs to the weights."
                )
            _check_numbers(name, array)
            ours[row.ours + slot] = row.to_ours(array, shapes[row.ours])
        elif (part := parts.get(base, "")) in _PARTS and not _has_part(shapes, part):
            _LOG.info("Dropped %s, because the model has no %s.", name, part)
        else:
            raise InputError(
                f"The model has no such variable. Received: {name} of shape {array.shape}. "
                "Give the configuration that belongs to the weights, of an ALBERT for pretraining."
            )
    for path in shapes:
        part = path.partition("/")[0]
        if path not in ours and (part not in _PARTS or _has_part(ours, part)):
            shape = rows[path].their_shape(shapes[path])
            raise InputError(
                f"A variable is missing. Received: no {rows[path].theirs} of shape {shape}. "
                "Give whole weights, and the configuration that belongs to them."
            )
    return ours


def to_theirs(table: Sequence[Row], arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Convert our variables and moments, by path, into those of another format."""
    rows = _rows(table, [split_slot(name)[0] for name in arrays])
    theirs = {}
    for name, array in arrays.items():
        path, slot = split_slot(name)
        _check_numbers(name, array)
        theirs[rows[path].theirs + slot] = rows[path].to_theirs(array)
    return theirs


def in_float32(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Convert all floats to float32."""
    return {
        # To NumPy bfloat16 is no subtype of its floats.
        name: array.astype("float32", copy=False)
        if np.issubdtype(array.dtype, np.floating) or array.dtype == ml_dtypes.bfloat16
        else array
        for name, array in arrays.items()
    }


def split_slot(name: str) -> tuple[str, str]:
    """Split off the `/adam_m` or `/adam_v` at the end of a name; empty if there is none."""
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
            "Give weights from before the training diverged."
        )


def _rows(table: Sequence[Row], paths: Iterable[str]) -> dict[str, Row]:
    """Find the row of each of our variables, and fill in its placeholders."""
    rows = {}
    for path in paths:
        for row in table:
            pattern = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>\\d+)", re.escape(row.ours))
            if match := re.fullmatch(pattern, path):
                rows[path] = row._replace(ours=path, theirs=row.theirs.format(**match.groupdict()))
                break
        else:
            raise InputError(f"The variable has no name in the other format. Received: {path}. Convert without it.")
    return rows


def _has_part(names: Iterable[str], part: str) -> bool:
    return any(name.startswith(f"{part}/") for name in names)
