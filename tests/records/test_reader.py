"""Examples by number: what protobuf reads, in any order, whatever the layout of their fields."""

import os
from pathlib import Path

import numpy as np
import pytest

from tibert_keras.errors import InputError
from tibert_keras.records.reader import ExampleReader
from tibert_keras.records.serialization import (
    feature_sizes,
    parse_example,
    read_records,
    serialize_examples,
    write_records,
)

SIZES = feature_sizes(6, 2)


def examples(count, seed=0):
    rng = np.random.default_rng(seed)
    features = {name: rng.integers(0, 2, (count, size)) for name, size in SIZES.items()}
    # Of one, two and three bytes.
    features["input_ids"] = rng.choice([0, 127, 128, 16383, 16384, 99_999], (count, 6))
    features["masked_lm_weights"] = rng.random((count, 2), "float32")
    return features


def save(path, *messages):
    with path.open("wb") as file:
        write_records(file, messages)
    return str(path)


def field(tag, content):
    """A field with a content of less than 128 bytes."""
    return bytes([tag, len(content)]) + content


def unusual(features, *, packed):
    """The first example with the value of each feature before its key, and integers packed or one by one."""
    entries = []
    for name, (values, *_) in features.items():
        if name == "masked_lm_weights":
            kind = field(0x12, field(0x0A, values.astype("<f4").tobytes()))
        else:
            assert values.max() < 128
            kind = field(
                0x1A, field(0x0A, bytes(values.tolist())) if packed else b"".join(b"\x08%c" % v for v in values)
            )
        entries.append(field(0x0A, field(0x12, kind) + field(0x0A, name.encode())))
    content = b"".join(entries)
    return b"\x0a" + bytes([len(content) & 0x7F | 0x80, len(content) >> 7]) + content


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert np.array_equal(found[name], values)
        assert found[name].dtype == (np.float32 if name == "masked_lm_weights" else np.int64)


def test_in_any_order_across_files(tmp_path):
    features = examples(9)
    messages = list(serialize_examples(features))
    paths = [
        save(tmp_path / "a", *messages[:4]),
        save(tmp_path / "b", *messages[4:5]),
        save(tmp_path / "c", *messages[5:]),
    ]
    reader = ExampleReader(paths, SIZES)
    assert len(reader) == 9
    for numbers in (np.arange(9), np.array([8, 0, 4, 4, 3, 5])):
        assert_equal(reader.read(numbers), {name: values[numbers] for name, values in features.items()})
    # Only what is wanted, as in records of pretraining without sentence order.
    some = {name: size for name, size in SIZES.items() if name != "next_sentence_labels"}
    assert_equal(ExampleReader(paths, some).read(np.arange(2)), {name: features[name][:2] for name in some})


def test_a_file_that_is_cut_short_while_it_is_open(tmp_path):
    path = save(tmp_path / "a", *serialize_examples(examples(9)))
    reader = ExampleReader([path], SIZES)
    os.truncate(path, os.path.getsize(path) // 2)
    with pytest.raises(InputError, match="cut short or damaged at example 8"):
        reader.read(np.array([0, 8]))


def test_a_remote_file_is_read_from_a_copy(tmp_path, monkeypatch):
    features = examples(3)
    path = save(tmp_path / "a", *serialize_examples(features))
    monkeypatch.setattr("tibert_keras.records.reader.is_remote", lambda path: True)
    reader = ExampleReader([path], SIZES)
    Path(path).unlink()
    assert_equal(reader.read(np.arange(3)), features)


@pytest.mark.parametrize("packed", [True, False])
def test_fields_in_another_order(tmp_path, packed):
    features = {**examples(3), "input_ids": np.full((3, 6), 7)}
    messages = [unusual(features, packed=packed), *serialize_examples(features)]
    reader = ExampleReader([save(tmp_path / "a", *messages)], SIZES)
    assert_equal(reader.read(np.arange(4)), {name: values[[0, 0, 1, 2]] for name, values in features.items()})


def test_records_of_google(shared):
    path = str(shared / "golden/records/records_a.tfrecord")
    parsed = [parse_example(record, path=path) for record in read_records(path)]
    sizes = feature_sizes(128, 20)
    expected = {name: np.stack([example[name] for example in parsed]) for name in sizes}
    assert_equal(ExampleReader([path], sizes).read(np.arange(len(parsed))), expected)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"masked_lm_ids": None}, "'masked_lm_ids', and has none"),
        ({"input_ids": np.zeros((1, 7), int)}, "6 values of type int64 as 'input_ids', and has 7 values of type int64"),
        ({"input_ids": np.ones((1, 6), "float32")}, "'input_ids', and has 6 values of type float32"),
        ({"masked_lm_weights": np.ones((1, 2), int)}, "'masked_lm_weights', and has 2 values of type int64"),
        ({"input_ids": np.full((1, 6), 100_000)}, "input_ids must be from 0 to 99999"),
    ],
)
def test_an_example_unlike_the_others(tmp_path, change, reason):
    features = {name: values for name, values in {**examples(1), **change}.items() if values is not None}
    path = save(tmp_path / "a", *serialize_examples(examples(2)), *serialize_examples(features))
    reader = ExampleReader([path], SIZES, num_ids=100_000)
    reader.read(np.arange(2))
    with pytest.raises(InputError, match=f"Example 2 of .*Received: '{path}', where .* 6 tokens and 2 .*{reason}"):
        reader.read(np.array([1, 2]))
