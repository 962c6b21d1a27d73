"""Serialized examples and record files: the bytes that TensorFlow writes, and what it reads."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from tibert_keras.errors import InputError
from tibert_keras.records.reader import find_records, open_records
from tibert_keras.records.serialization import (
    parse_example,
    read_records,
    record_header,
    serialize_examples,
    write_records,
)

# Values on both sides of each border between numbers of bytes.
BORDERS = [0, 1, 127, 128, 16383, 16384, 2**21 - 1, 2**21, 2**28 - 1, 2**28, 2**31 - 1]


def expected(features):
    """What TensorFlow serializes, example by example."""

    def feature(values):
        if values.dtype.kind == "i":
            return tf.train.Feature(int64_list=tf.train.Int64List(value=values.tolist()))
        return tf.train.Feature(float_list=tf.train.FloatList(value=values.tolist()))

    for row in range(len(next(iter(features.values())))):
        entries = {name: feature(values[row]) for name, values in features.items()}
        example = tf.train.Example(features=tf.train.Features(feature=entries))
        yield example.SerializeToString(deterministic=True)


def assert_same(features):
    assert list(serialize_examples(features)) == list(expected(features))


@pytest.mark.parametrize("dtype", ["int32", "int64"])
class TestIntegers:
    @pytest.mark.parametrize("rows", [1, 2, 50])
    def test_borders(self, dtype, rows):
        random = np.random.default_rng(rows)
        for count in range(1, len(BORDERS) + 1):
            values = random.choice(BORDERS[:count], (rows, int(random.integers(1, 40)))).astype(dtype)
            assert_same({"x": values})

    def test_every_number_of_bytes_in_one_row(self, dtype):
        assert_same({"x": np.array([BORDERS, BORDERS[::-1], [0] * len(BORDERS)], dtype)})

    # The list, the feature, the entry and the whole each grow past 127 and 16,383 bytes, one before the other.
    @pytest.mark.parametrize("width", [1, *range(100, 132), *range(16_340, 16_390, 3)])
    def test_lengths_of_nested_messages(self, dtype, width):
        assert_same({"x": np.ones((2, width), dtype)})
        # Here rows are on both sides of a border.
        values = np.ones((3, width), dtype)
        values[0, ::7], values[2, :2] = 300, 2**21
        assert_same({"x": values})

    def test_any_shapes(self, dtype):
        random = np.random.default_rng(0)
        for _ in range(100):
            rows = int(random.integers(1, 6))
            features = {}
            for name in random.permutation(["input_ids", "a", "Z", "ཀ", "masked_lm_ids", "n" * 130])[:4]:
                shape = (rows, int(random.choice([1, 2, 20, 128, 600])))
                features[str(name)] = (
                    random.normal(size=shape).astype("float32")
                    if random.random() < 0.3
                    else random.integers(0, random.choice(BORDERS) + 1, shape).astype(dtype)
                )
            assert_same(features)


def test_floats():
    tiny = np.finfo("float32").smallest_subnormal
    values = np.array([[0.0, -0.0, 1.0, 0.1], [-1e38, np.inf, -np.inf, tiny]], "float32")
    for dtype in ("float32", "float64"):
        assert_same({"x": values.astype(dtype)})
    assert_same({"x": np.asfortranarray(np.random.default_rng(0).normal(size=(7, 33)).astype("float32"))})
    assert_same({"x": values[:, ::2], "y": np.arange(16).reshape(2, 8)[:, ::3]})


def test_googles_schema_can_be_parsed():
    random = np.random.default_rng(0)
    features = {
        "input_ids": random.integers(0, 30_000, (9, 128), "int32"),
        "masked_lm_weights": random.random((9, 20), "float32"),
        "next_sentence_labels": random.integers(0, 2, (9, 1)),
    }
    schema = {
        name: tf.io.FixedLenFeature([values.shape[1]], "float32" if "weights" in name else "int64")
        for name, values in features.items()
    }
    parsed = tf.io.parse_example(list(serialize_examples(features)), schema)
    assert all(np.array_equal(parsed[name], values) for name, values in features.items())


def test_the_order_of_features_does_not_matter():
    features = {name: np.array([[index]]) for index, name in enumerate("bac")}
    orders = {b"".join(serialize_examples(dict(order))) for order in itertools.permutations(features.items())}
    assert len(orders) == 1


def test_no_rows():
    assert list(serialize_examples({"x": np.zeros((0, 5), "int32"), "y": np.zeros((0, 3), "float32")})) == []


# Lengths around those of blocks and of numbers of bytes; a record may be empty.
RECORDS = [b"", b"x", *(np.random.default_rng(n).bytes(n) for n in (7, 8, 255, 256, 1000, 65_535, 65_536, 3_000_000))]


class TestRecordFiles:
    @pytest.fixture
    def path(self, tmp_path):
        path = tmp_path / "a.tf_record"
        with path.open("wb") as file:
            assert write_records(file, RECORDS[:3]) == 3
            assert write_records(file, iter(RECORDS[3:])) == len(RECORDS) - 3
            assert write_records(file, []) == 0
        return path

    def test_the_bytes_are_those_of_tensorflow(self, path, tmp_path):
        with tf.io.TFRecordWriter(str(tmp_path / "b.tf_record")) as writer:
            for record in RECORDS:
                writer.write(record)
        assert path.read_bytes() == (tmp_path / "b.tf_record").read_bytes()

    def test_both_read_them(self, path):
        assert list(read_records(path)) == RECORDS
        assert [record.numpy() for record in tf.data.TFRecordDataset(str(path))] == RECORDS

    def test_on_other_file_systems(self, path):
        remote = "ram://tibert-records/a.tf_record"
        tf.io.gfile.makedirs("ram://tibert-records")
        tf.io.gfile.copy(str(path), remote, overwrite=True)
        assert list(read_records(remote)) == RECORDS

    def test_an_empty_file(self, tmp_path):
        (tmp_path / "empty").touch()
        assert list(read_records(tmp_path / "empty")) == []

    # Every byte of the third record and its frame, 7 + 16 of them, after those of lengths 0 and 1.
    @pytest.mark.parametrize("place", range(33, 56))
    def test_any_damaged_byte_is_found(self, path, place):
        content = bytearray(path.read_bytes())
        content[place] ^= 0x10
        path.write_bytes(content)
        records = read_records(path)
        assert [next(records), next(records)] == RECORDS[:2]
        with pytest.raises(InputError, match=r"cut short or damaged at example 2. Received: .*a.tf_record'"):
            next(records)

    @pytest.mark.parametrize("place", range(33, 56))
    def test_any_cut_is_found(self, path, place):
        path.write_bytes(path.read_bytes()[:place])
        if place == 33:
            assert len(list(read_records(path))) == 2
            return
        with pytest.raises(InputError, match="cut short or damaged at example 2"):
            list(read_records(path))


class TestParsing:
    def test_what_was_serialized(self):
        features = {
            "integers": np.array([BORDERS, BORDERS[::-1]]),
            "floats": np.array([[0.5, -1e38], [np.inf, 1e-40]], "float32"),
            "ཀ": np.array([[3], [4]]),
        }
        for row, serialized in enumerate(serialize_examples(features)):
            parsed = parse_example(serialized, path="a")
            assert parsed.keys() == features.keys()
            for name, values in features.items():
                assert parsed[name].dtype == values.dtype and np.array_equal(parsed[name], values[row])

    def test_what_tensorflow_serialized(self):
        integers = tf.train.Feature(int64_list=tf.train.Int64List(value=[-1, 2**62]))
        texts = tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"x"]))
        example = tf.train.Example(features=tf.train.Features(feature={"a": integers, "b": texts}))
        parsed = parse_example(example.SerializeToString(), path="a")
        assert parsed["a"].tolist() == [-1, 2**62] and not len(parsed["b"])


def check_lengths(path):
    with open_records(str(path)) as file:
        find_records(file, path=str(path))


class TestLengths:
    """Without reading the records, what TensorFlow would believe of their lengths."""

    @pytest.fixture
    def path(self, tmp_path):
        with (tmp_path / "a.tf_record").open("wb") as file:
            write_records(file, [b"a" * 10, b"", b"b" * 300])
        return tmp_path / "a.tf_record"

    def test_whole(self, path):
        check_lengths(path)
        content = bytearray(path.read_bytes())
        content[15] ^= 1  # in a record, which TensorFlow checks when it reads it
        path.write_bytes(content)
        check_lengths(path)

    @pytest.mark.parametrize("length", [11, 1000, 2**32, 2**63 - 20, 2**64 - 1])
    @pytest.mark.parametrize("read", [check_lengths, lambda path: list(read_records(path))])
    def test_a_length_that_is_made_up_with_its_checksum(self, path, length, read):
        path.write_bytes(record_header(length) + path.read_bytes()[12:])
        with pytest.raises(InputError, match=r"damaged at example [01]\. Received: .*a\.tf_record'"):
            read(path)

    def test_cut(self, path):
        content = path.read_bytes()
        for size in range(len(content)):
            path.write_bytes(content[:size])
            if size in (0, 26, 42):
                check_lengths(path)
            else:
                with pytest.raises(InputError, match=f"example {(size > 26) + (size > 42)}"):
                    check_lengths(path)
