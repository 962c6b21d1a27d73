"""Reads the examples of record files by number, as arrays, without TensorFlow."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from array import array
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import IO

import numpy as np

from tibert_keras.errors import InputError
from tibert_keras.records.serialization import (
    MAX_IDS,
    MAX_SEGMENTS,
    damaged,
    example_class,
    feature_dtype,
    parse_example,
    record_checksum,
    record_header,
    value_limits,
)
from tibert_keras.storage import is_remote, open_binary

# The number of an example's file, and its own in that file.
_Place = tuple[int, int]


class ExampleReader:
    """The masked examples of record files, by number.

    The files stay open, remote ones as temporary copies on the local disk, and only the examples being read take
    memory. The lengths of records are checked when the reader is made, and their contents when they are read: a file
    that is cut short or damaged is an `InputError`. The sizes are those of `feature_sizes`; the numbers of token ids
    and segments, if they are known, bound the values.
    """

    def __init__(
        self,
        paths: Sequence[str],
        sizes: Mapping[str, int],
        *,
        num_ids: int = MAX_IDS,
        num_segments: int = MAX_SEGMENTS,
    ) -> None:
        self._paths, self._sizes = list(paths), dict(sizes)
        self._limits = value_limits(sizes["input_ids"], num_ids, num_segments)
        with ExitStack() as opened:
            self._files = [opened.enter_context(open_records(path)) for path in self._paths]
            weakref.finalize(self, opened.pop_all().close)
        self._ends = [find_records(file, path=path) for file, path in zip(self._files, self._paths, strict=True)]
        # The number of the first example of each file, and the number of all.
        self._starts = np.cumsum([0, *map(len, self._ends)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def read(self, numbers: np.ndarray) -> dict[str, np.ndarray]:
        """Read examples by their numbers, int64 `[examples]`, counted from 0 through all files.

        Returns an array `[examples, values]` for each feature, int64 or, for weights, float32. An example that is
        damaged, is no masked one of these sizes, or holds values that no model can use is an `InputError`.
        """
        files = np.searchsorted(self._starts, numbers, side="right") - 1
        places = list(zip(files.tolist(), (numbers - self._starts[files]).tolist(), strict=True))
        records = [self._record(place) for place in places]
        # What is parsed one by one is damaged, or has values that are not packed, which protobuf allows.
        arrays = _parse(records, self._sizes) or self._parse_one_by_one(records, places)
        self._check_values(arrays, places)
        return arrays

    def _record(self, place: _Place) -> bytes:
        file, index = place
        ends = self._ends[file]
        start = (ends[index - 1] if index else 0) + 12
        content = os.pread(self._files[file].fileno(), ends[index] - start, start)
        if record_checksum(content[:-4]) != content[-4:]:
            raise damaged(self._paths[file], index)
        return content[:-4]

    def _parse_one_by_one(self, records: Sequence[bytes], places: Sequence[_Place]) -> dict[str, np.ndarray]:
        parsed = []
        for record, place in zip(records, places, strict=True):
            example = parse_example(record, path=self._paths[place[0]])
            for name, count in self._sizes.items():
                wanted, values = feature_dtype(name).__name__, example.get(name, np.zeros(0))
                if (len(values), values.dtype) != (count, wanted):
                    found = f"{len(values)} values of type {values.dtype}" if name in example else "none"
                    raise self._unlike(place, f"it needs {count} values of type {wanted} as {name!r}, and has {found}.")
            parsed.append(example)
        return {name: np.stack([example[name] for example in parsed]) for name in self._sizes}

    def _check_values(self, arrays: Mapping[str, np.ndarray], places: Sequence[_Place]) -> None:
        weights = arrays["masked_lm_weights"]
        wrong = {"masked_lm_weights must be finite and not negative.": ~((weights >= 0) & (weights < np.inf))}
        for name, limit in self._limits.items():
            if name in arrays:
                # Without its sign a negative number is a large one.
                wrong[f"{name} must be from 0 to {limit - 1}."] = arrays[name].view(np.uint64) >= limit
        for reason, flags in wrong.items():
            for row in np.flatnonzero(flags.any(axis=1)).tolist():
                raise self._unlike(places[row], reason)

    def _unlike(self, place: _Place, reason: str) -> InputError:
        file, index = place
        length, predictions = self._sizes["input_ids"], self._sizes["masked_lm_ids"]
        return InputError(
            f"Example {index} of the record file is not like the others. Received: {self._paths[file]!r}, where "
            f"sequences should have {length} tokens and {predictions} predictions: {reason} "
            "Build it again, or leave it out."
        )


def open_records(path: str) -> IO[bytes]:
    """Open a record file, a remote one as a temporary copy.

    It is not mapped into memory: reading a map of a file that is cut short meanwhile would end the process.
    """
    if not is_remote(path):
        return open_binary(path)
    copy = tempfile.TemporaryFile()  # noqa: SIM115 (the caller closes it)
    with open_binary(path) as remote:
        shutil.copyfileobj(remote, copy)
    copy.flush()
    return copy


def find_records(file: IO[bytes], *, path: str) -> array[int]:
    """Return where each record of a file from `open_records` ends, by their lengths alone.

    TensorFlow believes a length whose checksum is right, and ends the process if no memory is that large. Lengths that
    do not lead from record to record to the end are an `InputError`, with the index of the record and the `path`.
    """
    ends = array("q")
    end, size = 0, os.fstat(file.fileno()).st_size
    while end < size:
        header = os.pread(file.fileno(), 12, end)
        length = int.from_bytes(header[:8], "little")
        end += length + 16
        if end > size or header != record_header(length):
            raise damaged(path, len(ends))
        ends.append(end)
    return ends


# === Parsing by array operations ===


def _parse(records: Sequence[bytes], sizes: Mapping[str, int]) -> dict[str, np.ndarray] | None:
    """Parse examples of one shape into an array for each feature, or return `None` if one of them differs."""
    from google.protobuf.message import DecodeError

    packed_class, arrays = example_class(packed=True), {}
    try:
        examples = [
            {each.key: each.value for each in packed_class.FromString(record).features.feature} for record in records
        ]
        for name, count in sizes.items():
            values = [example[name] for example in examples]
            if feature_dtype(name) is np.float32:
                arrays[name] = _floats([each.float_list.value for each in values], count)
            else:
                arrays[name] = _integers([each.int64_list.value for each in values], count)
    except (DecodeError, KeyError, ValueError):
        return None
    return arrays


def _floats(packed: Sequence[bytes], count: int) -> np.ndarray:
    if any(len(values) != 4 * count for values in packed):
        raise ValueError("more or fewer values")
    return np.frombuffer(b"".join(packed), "<f4").reshape(len(packed), count)


def _integers(packed: Sequence[bytes], count: int) -> np.ndarray:
    """Decode groups of seven bits, the lowest first; the eighth bit is set in all but the last group of an integer."""
    content = np.frombuffer(b"".join(packed), np.uint8)
    last = np.flatnonzero(content < 0x80)
    # The number of integers up to the end of each example.
    counts = np.searchsorted(last, np.cumsum([len(values) for values in packed]))
    if any(values[-1:] > b"\x7f" for values in packed) or (counts != count * np.arange(1, len(packed) + 1)).any():
        raise ValueError("more or fewer values")
    first = np.concatenate([[0], last[:-1] + 1])
    lengths = last - first + 1
    if lengths.max(initial=0) > 9:
        raise ValueError("a negative number")
    integers = (content[first] & 0x7F).astype(np.int64)
    for group in range(1, int(lengths.max(initial=0))):
        longer = np.flatnonzero(lengths > group)
        integers[longer] |= (content[first[longer] + group] & 0x7F).astype(np.int64) << 7 * group
    return integers.reshape(len(packed), count)
