"""Arrays to `tf.train.Example` messages in TFRecord files, and back, without TensorFlow."""

import functools
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import IO, Any, NamedTuple

import google_crc32c
import numpy as np

from tibert_keras.errors import InputError
from tibert_keras.storage import open_binary, size

# Tags of the protobuf fields 1 to 3 with a length: field number x 8 + 2.
_FIRST, _SECOND, _THIRD = b"\x0a", b"\x12", b"\x1a"
# Far more than any model has; ids become int32.
MAX_SEGMENTS, MAX_IDS = 1 << 10, 1 << 31


# === TFRecord files ===
# A record is its length (8 bytes, little-endian), a checksum of these, the content, and a checksum of the content:
# https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details


def write_records(file: IO[bytes], records: Iterable[bytes]) -> int:
    """Append records to an open TFRecord file, and return their number."""
    count = 0
    for count, record in enumerate(records, start=1):  # noqa: B007
        file.write(b"".join((record_header(len(record)), record, record_checksum(record))))
    return count


def read_records(path: str | os.PathLike[str]) -> Iterator[bytes]:
    """Read the records of a local or remote TFRecord file; damage is an `InputError` with the index of the record."""
    with open_binary(path) as file:
        end = size(path)
        for index in itertools.count():
            header = file.read(12)
            if not header:
                return
            length = int.from_bytes(header[:8], "little")
            # Without its checksum the length of a damaged file may be any number; with it, one made up.
            content = file.read(length + 4) if header == record_header(length) and length <= end else b""
            record = content[:-4]
            if len(record) < length or record_checksum(record) != content[-4:]:
                raise damaged(path, index)
            yield record


def damaged(path: str | os.PathLike[str], index: int) -> InputError:
    """Return the error that names the damaged example of a record file."""
    return InputError(
        f"The record file is cut short or damaged at example {index}. Received: {os.fspath(path)!r}. "
        "Build it again, or leave it out."
    )


@functools.lru_cache(maxsize=4096)
def record_header(length: int) -> bytes:
    """Return the first 12 bytes of a record: its length, and their checksum."""
    content = length.to_bytes(8, "little")
    return content + record_checksum(content)


def record_checksum(content: bytes) -> bytes:
    """Compute the CRC-32C of a content, masked as TensorFlow does: a CRC of data with CRCs in it is weak."""
    crc = google_crc32c.value(content)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8 & 0xFFFFFFFF).to_bytes(4, "little")


# === Parsing ===

SHAPE = ("max_seq_length", "max_predictions_per_seq")


def feature_sizes(max_seq_length: int, max_predictions_per_seq: int) -> dict[str, int]:
    """Return the number of values of each feature of a masked example. All are int64 but the float weights."""
    sequence = dict.fromkeys(["input_ids", "input_mask", "segment_ids"], max_seq_length)
    predictions = dict.fromkeys(["masked_lm_positions", "masked_lm_ids", "masked_lm_weights"], max_predictions_per_seq)
    return {**sequence, **predictions, "next_sentence_labels": 1}


def feature_dtype(name: str) -> type[np.generic]:
    """Return the type of the values of a feature."""
    return np.float32 if name == "masked_lm_weights" else np.int64


def value_limits(max_seq_length: int, num_ids: int, num_segments: int) -> dict[str, int]:
    """Return the number that the values of each integer feature lie below; none is negative."""
    return {
        "input_ids": num_ids,
        "masked_lm_ids": num_ids,
        "masked_lm_positions": max_seq_length,
        "input_mask": 2,
        "next_sentence_labels": 2,
        "segment_ids": num_segments,
    }


def parse_example(serialized: bytes, *, path: str) -> dict[str, np.ndarray]:
    """Parse a `tf.train.Example` into int64 and float32 arrays by name of feature; `path` is for errors."""
    from google.protobuf.message import DecodeError

    try:
        features = example_class().FromString(serialized).features.feature
    except DecodeError as error:
        raise InputError(f"Not a record of masked examples: {error}. Received: {path!r}.") from error
    arrays = {}
    for feature in features:
        integers, floats = feature.value.int64_list.value, feature.value.float_list.value
        arrays[feature.key] = (
            np.fromiter(floats, np.float32, len(floats)) if floats else np.fromiter(integers, np.int64, len(integers))
        )
    return arrays


def example_shape(path: str) -> dict[str, int]:
    """Read `max_seq_length` and `max_predictions_per_seq` from the first example of a record file."""
    record = next(read_records(path), None)
    if record is None:
        raise InputError(f"The record file holds no example. Received: {path!r}. Build it again, or leave it out.")
    features = parse_example(record, path=path)
    try:
        return dict(zip(SHAPE, [len(features["input_ids"]), len(features["masked_lm_ids"])], strict=True))
    except KeyError as error:
        raise InputError(f"Not a record of masked examples: it has no {error}. Received: {path!r}.") from error


@functools.cache
def example_class(*, packed: bool = False) -> Any:
    """Make the message class `tf.train.Example`; the map of features is read as the list of pairs that it is.

    If `packed`, its lists of values are the bytes in which they are packed.
    """
    from google.protobuf import descriptor_pool, message_factory
    from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field
    from google.protobuf.descriptor_pb2 import FileDescriptorProto

    many, one = Field.LABEL_REPEATED, Field.LABEL_OPTIONAL
    messages = {
        "FloatList": [("value", 1, one, Field.TYPE_BYTES) if packed else ("value", 1, many, Field.TYPE_FLOAT)],
        "Int64List": [("value", 1, one, Field.TYPE_BYTES) if packed else ("value", 1, many, Field.TYPE_INT64)],
        "Feature": [("float_list", 2, one, "FloatList"), ("int64_list", 3, one, "Int64List")],
        "Entry": [("key", 1, one, Field.TYPE_STRING), ("value", 2, one, "Feature")],
        "Features": [("feature", 1, many, "Entry")],
        "Example": [("features", 1, one, "Features")],
    }
    file = FileDescriptorProto(name="example.proto", syntax="proto3")
    for message, fields in messages.items():
        descriptor = file.message_type.add(name=message)
        for name, number, label, kind in fields:
            is_message = isinstance(kind, str)
            field = descriptor.field.add(name=name, number=number, label=label)
            field.type = Field.TYPE_MESSAGE if is_message else kind
            if is_message:
                field.type_name = f".{kind}"
    # A pool of its own: TensorFlow's messages of these names are in the default one.
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("Example"))


# === Serializing ===


def serialize_examples(features: Mapping[str, np.ndarray]) -> Iterator[bytes]:
    """Serialize arrays `[examples, values]` into one `tf.train.Example` for each row.

    The bytes are those of `Example.SerializeToString(deterministic=True)`, about sixty times as fast. Integers, which
    must not be negative, become int64 lists, others float lists.
    """
    entries = [
        part
        # Deterministic protobuf orders maps by key.
        for name, values in sorted(features.items())
        for part in _message(_FIRST, [*_message(_FIRST, [_constant(name.encode())]), *_feature(values)])
    ]
    parts = _message(_FIRST, entries)
    shape = (len(next(iter(features.values()))), sum(part.content.shape[1] for part in parts))
    content, used = np.empty(shape, np.uint8), np.ones(shape, bool)
    column = 0
    for part in parts:
        columns = np.s_[:, column : column + part.content.shape[1]]
        content[columns] = part.content
        if part.used is not None:
            used[columns] = part.used
        column += part.content.shape[1]
    ends = np.broadcast_to(sum(part.length for part in parts), shape[:1]).cumsum().tolist()
    joined = content[used].tobytes()
    for begin, end in itertools.pairwise([0, *ends]):
        yield joined[begin:end]


class _Part(NamedTuple):
    """A part of a message, for each example, or one row for all of them."""

    content: np.ndarray  # uint8 [examples or 1, width]
    used: np.ndarray | None  # bool of the same shape, which bytes belong to the example; `None`: all
    length: np.ndarray  # int64 [examples or 1], the number of these bytes


def _constant(content: bytes) -> _Part:
    return _Part(np.frombuffer(content, np.uint8)[None], None, np.array([len(content)]))


def _message(tag: bytes, parts: Iterable[_Part]) -> list[_Part]:
    """Compose a field that holds a message or packed values: tag, length, content."""
    parts = list(parts)
    length = sum((part.length for part in parts), np.zeros(1, np.int64))
    return [_constant(tag), _varints(length[:, None]), *parts]


def _feature(values: np.ndarray) -> list[_Part]:
    """Compose the `value` of an entry of the map: a `Feature` that holds an `Int64List` or a `FloatList`."""
    if np.issubdtype(values.dtype, np.integer):
        return _message(_SECOND, _message(_THIRD, _message(_FIRST, [_varints(values)])))
    content = np.ascontiguousarray(values, "<f4").view(np.uint8)
    floats = _Part(content, None, np.array([content.shape[1]]))
    return _message(_SECOND, _message(_SECOND, _message(_FIRST, [floats])))


def _varints(values: np.ndarray) -> _Part:
    """Encode integers in groups of seven bits, the lowest first. The eighth bit is set in all but the last."""
    groups = max(1, -(-int(values.max(initial=0)).bit_length() // 7))
    if groups == 1:
        return _Part(values.astype(np.uint8), None, np.array([values.shape[1]]))
    content = np.empty((*values.shape, groups), np.uint8)
    used = np.ones(content.shape, bool)
    length = np.full(len(values), values.shape[1])
    for group in range(groups):
        rest = values >> (7 * group)
        more = rest > 0x7F
        content[..., group] = (rest & 0x7F) | (more << 7)
        if group + 1 < groups:
            used[..., group + 1] = more
            length += more.sum(axis=1)
    return _Part(content.reshape(len(values), -1), used.reshape(len(values), -1), length)
