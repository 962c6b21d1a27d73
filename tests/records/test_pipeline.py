"""From record files to batches: every example once an epoch, in an order that only seed and epoch decide."""

import dataclasses
import hashlib
import itertools
import json
import os
import shutil
import struct
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from tibert_keras.errors import InputError
from tibert_keras.records import batches, tensorflow_batches
from tibert_keras.records.build import build_records
from tibert_keras.records.config import RecordsConfig
from tibert_keras.records.masking import LABEL_FEATURES, DynamicMasking, MaskingPolicy
from tibert_keras.records.pipeline import Records
from tibert_keras.records.serialization import MAX_IDS, parse_example, read_records, write_records
from tibert_keras.tokenizers.sentence_piece import SentencePieceEncoder

LENGTH, PREDICTIONS, BATCH = 64, 8, 7


@pytest.fixture(scope="module")
def config(sample_corpus, spm_models, tmp_path_factory):
    """Three record files, and what they were made with."""
    config = RecordsConfig(
        input_file=f"{sample_corpus}/*.txt", output_dir=str(tmp_path_factory.mktemp("records")),
        spm_model_file=spm_models["bpe"], max_seq_length=LENGTH, max_predictions_per_seq=PREDICTIONS,
    )  # fmt: skip
    build_records(config)
    return config


@pytest.fixture(scope="module")
def records(config):
    return Records.find(f"{config.output_dir}/*.tf_record")


def test_masking_options_that_differ(config, records, tmp_path):
    build_records(dataclasses.replace(config, output_dir=str(tmp_path), ngram=1))
    both = Records.find(f"{config.output_dir}/*.tf_record,{tmp_path}/*.tf_record")
    assert records.masking["ngram"] == 3 and both.masking == {}


@pytest.fixture
def folder(config, tmp_path):
    """A copy of the record files, to be damaged."""
    shutil.copytree(config.output_dir, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.fixture
def bare(folder):
    """A copy without a manifest, as Google's records are."""
    (folder / "manifest.json").unlink()
    return folder


def examples(paths):
    """The examples one by one, each as bytes: `(input_ids, input_mask, segment_ids, positions, labels, weights)`."""
    rows = []
    for record in tf.data.TFRecordDataset(paths):
        feature = tf.train.Example.FromString(record.numpy()).features.feature
        names = ["input_ids", "input_mask", "segment_ids", "masked_lm_positions", "masked_lm_ids"]
        arrays = [np.array(feature[name].int64_list.value, np.int32) for name in names]
        arrays.append(np.array(feature["masked_lm_weights"].float_list.value, np.float32))
        rows.append(b"".join(array.tobytes() for array in arrays))
    return rows


def as_rows(batch):
    """The same of a batch."""
    x, y, weight = batch
    arrays = [*(x[name] for name in ("token_ids", "padding_mask", "segment_ids", "mask_positions")), y, weight]
    return [b"".join(parts) for parts in zip(*([row.tobytes() for row in np.asarray(a)] for a in arrays), strict=True)]


def rows_of(dataset, batches=None):
    return [row for batch in itertools.islice(dataset, batches) for row in as_rows(batch)]


def boundaries(path):
    """Where each record of a TFRecord file begins, and where the last ends."""
    content, offsets = Path(path).read_bytes(), [0]
    while offsets[-1] < len(content):
        (length,) = struct.unpack_from("<Q", content, offsets[-1])
        offsets.append(offsets[-1] + 12 + length + 4)
    return offsets


@pytest.fixture(params=[tensorflow_batches, batches], ids=["tensorflow", "other backends"])
def backend(request, monkeypatch):
    monkeypatch.setattr("tibert_keras.records.pipeline._batches_of_backend", lambda: request.param)


class TestBatches:
    def test_evaluation(self, records, backend):
        read, expected = records.evaluation_batches(BATCH), examples(records.paths)
        assert rows_of(read) == expected
        last = len(expected) % BATCH
        assert [len(y) for _, y, _ in read][-2:] == [BATCH, last]
        whole = records.evaluation_batches(BATCH, drop_remainder=True)
        assert rows_of(whole) == expected[:-last] and rows_of(whole.take(2)) == expected[: 2 * BATCH]
        assert rows_of(records.numpy_batches(BATCH)) == expected

    def test_their_number_is_known(self, records):
        for dropped in (False, True):
            count = len(records.evaluation_batches(BATCH, drop_remainder=dropped))
            assert count == records.num_examples // BATCH + (not dropped)

    def test_arrays_are_what_tensorflow_reads(self, records):
        for sop in (False, True):
            theirs = records.evaluation_batches(BATCH, sop=sop).as_numpy_iterator()
            for ours, expected in zip(records.numpy_batches(BATCH, sop=sop), theirs, strict=True):
                keras.tree.map_structure(np.testing.assert_array_equal, ours, expected)
            empty, full = records.empty_batch(BATCH, sop=sop), next(records.numpy_batches(BATCH, sop=sop))
            keras.tree.assert_same_structure(empty, full)
            kinds = [[(array.shape, array.dtype) for array in keras.tree.flatten(each)] for each in (empty, full)]
            assert kinds[0] == kinds[1]

    def test_static_shapes(self, records):
        names = ["token_ids", "padding_mask", "segment_ids"]
        for dataset, batch in (
            (records.training_batches(BATCH, seed=1), BATCH),
            (records.evaluation_batches(BATCH), None),
        ):
            predictions = tf.TensorSpec([batch, PREDICTIONS], tf.int32)
            x = {name: tf.TensorSpec([batch, LENGTH], tf.int32) for name in names} | {"mask_positions": predictions}
            assert dataset.element_spec == (x, predictions, tf.TensorSpec([batch, PREDICTIONS], tf.float32))

    def test_masks_drawn_anew(self, config, records, backend):
        """From the seed and the place in the stream, at any step."""
        tokenizer = SentencePieceEncoder(Path(config.spm_model_file).read_bytes())
        masking = DynamicMasking(policy=MaskingPolicy(**records.masking), tokenizer=tokenizer, seed=5)
        names = ["token_ids", "mask_positions"]
        for start_step in (0, 2):
            options = {"seed": 1, "start_step": start_step, "sop": True}
            pairs = zip(
                records.training_batches(BATCH, **options),
                records.training_batches(BATCH, **options, masking=masking),
                range(start_step, start_step + 3),
                strict=False,  # the batches never end
            )
            for before, after, step in pairs:
                (x, y, weights), (again, labels, new) = keras.tree.map_structure(np.asarray, (before, after))
                kept = zip(LABEL_FEATURES, [*map(x.get, names), y["masked_lm"], weights["masked_lm"]], strict=True)
                expected = masking(dict(kept), step * BATCH)
                found = [*map(again.get, names), labels["masked_lm"], new["masked_lm"]]
                for name, values in zip(LABEL_FEATURES, found, strict=True):
                    np.testing.assert_array_equal(values, expected[name])
                assert (again["mask_positions"] != x["mask_positions"]).any()
                for name in ("padding_mask", "segment_ids"):
                    np.testing.assert_array_equal(again[name], x[name])

    def test_an_epoch_has_every_example_once(self, records, backend):
        size = records.num_examples  # batches of one run on into the next epoch
        rows = rows_of(records.training_batches(BATCH, seed=1), 3 * size // BATCH + 1)
        expected = sorted(examples(records.paths))
        epochs = [rows[start : start + size] for start in (0, size, 2 * size)]
        assert [sorted(epoch) for epoch in epochs] == [expected] * 3
        assert len({tuple(epoch) for epoch in epochs}) == 3

    def test_shuffled_across_files(self, records, backend):
        files = [set(examples([path])) for path in records.paths]
        first = rows_of(records.training_batches(30, seed=1), 1)
        assert min(len(file & set(first)) for file in files) >= 3

    def test_sentence_order(self, records):
        shapes = {"masked_lm": [BATCH, PREDICTIONS], "sentence_order": [BATCH]}
        labels = {name: tf.TensorSpec(shape, tf.int32) for name, shape in shapes.items()}
        weights = {name: tf.TensorSpec(spec.shape, tf.float32) for name, spec in labels.items()}
        for both, one in (
            (
                records.training_batches(BATCH, seed=1, start_step=3, sop=True),
                records.training_batches(BATCH, seed=1, start_step=3),
            ),
            (records.evaluation_batches(BATCH, sop=True, drop_remainder=True), records.evaluation_batches(BATCH)),
        ):
            assert both.element_spec[1:] == (labels, weights)
            # The rest is what it is without.
            masked = both.map(lambda x, y, weight: (x, y["masked_lm"], weight["masked_lm"]))
            assert rows_of(masked, 5) == rows_of(one, 5)


@pytest.mark.usefixtures("backend")
class TestOrder:
    def order(self, records, seed, start_step=0, batches=12):
        return rows_of(records.training_batches(BATCH, seed=seed, start_step=start_step), batches)

    def test_the_seed_decides(self, records):
        assert self.order(records, 1) == self.order(records, 1)
        assert self.order(records, 1) != self.order(records, 2)

    def test_a_dataset_repeats_itself(self, records):
        dataset = records.training_batches(BATCH, seed=1)
        assert rows_of(dataset, 12) == rows_of(dataset, 12)

    def test_an_epoch_is_not_that_of_another_seed(self, config):
        # Of one file, so that the order of the files does not tell them apart.
        single = Records.find(f"{config.output_dir}/train_0.tf_record")
        size = single.num_examples
        assert size == len(examples(single.paths))
        first, second = (rows_of(single.training_batches(1, seed=seed), 2 * size) for seed in (1, 2))
        assert first[size:] != second[:size]
        assert first[size:] != first[:size]

    @pytest.mark.parametrize("seed", [0, 1])
    def test_the_seed_of_the_process_does_not_matter(self, records, seed):
        orders = []
        for of_process in (0, 1):
            keras.utils.set_random_seed(of_process)
            orders.append(self.order(records, seed))
        assert orders[0] == orders[1]

    def test_entered_at_any_step(self, records):
        epoch = records.num_examples / BATCH
        assert epoch % 1
        rows = self.order(records, 5, batches=int(2 * epoch) + 4)
        for step in (0, 1, int(epoch) - 1, int(epoch), int(epoch) + 1, int(2 * epoch)):
            expected = rows[step * BATCH : (step + 3) * BATCH]
            assert self.order(records, 5, start_step=step, batches=3) == expected, step


class TestDamage:
    @pytest.mark.parametrize("with_manifest", [True, False])
    @pytest.mark.parametrize("index", [0, 17])
    def test_cut_short(self, folder, with_manifest, index):
        path = folder / "train_1.tf_record"
        os.truncate(path, boundaries(path)[index] + 50)
        if not with_manifest:
            (folder / "manifest.json").unlink()
        with pytest.raises(InputError, match=f"damaged at example {index}. Received: .*train_1.tf_record"):
            Records.find(f"{folder}/*.tf_record")

    def test_changed_bytes(self, bare):
        path = bare / "train_2.tf_record"
        content = bytearray(path.read_bytes())
        content[boundaries(path)[9] + 100] ^= 1
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"damaged at example 9. Received: .*train_2.tf_record'"):
            Records.find(f"{bare}/*.tf_record")

    @pytest.mark.parametrize(
        ("content", "message"), [(b"", "holds no example"), ("ཀ་ཁ་ག\n".encode() * 9, "damaged at example 0")]
    )
    def test_no_records(self, bare, content, message):
        (bare / "train_0.tf_record").write_bytes(content)
        with pytest.raises(InputError, match=f"{message}. Received: .*train_0.tf_record"):
            Records.find(f"{bare}/*.tf_record")

    @pytest.mark.parametrize("content", [b"\xff\xff", tf.train.Example().SerializeToString()])
    def test_records_of_something_else(self, tmp_path, content):
        with tf.io.TFRecordWriter(str(tmp_path / "a.tf_record")) as writer:
            writer.write(content)
        with pytest.raises(InputError, match="Not a record of masked examples.*Received: .*a.tf_record"):
            Records.find(f"{tmp_path}/*.tf_record")

    def test_no_file(self, tmp_path):
        with pytest.raises(InputError, match="No file matches"):
            Records.find(f"{tmp_path}/*.tf_record")


class TestValues:
    """What a record may hold, whole as it is, that no model can use."""

    @pytest.mark.parametrize(
        "name, value",
        [
            ("input_ids", 400), ("input_ids", -1), ("input_ids", 2**32), ("masked_lm_ids", 400), ("segment_ids", -1),
            ("input_mask", 2), ("masked_lm_positions", LENGTH), ("masked_lm_weights", np.nan),
            ("masked_lm_weights", np.inf), ("masked_lm_weights", -1), ("next_sentence_labels", 2),
        ],
    )  # fmt: skip
    def test_refused_when_they_are_read(self, name, value, folder, records):
        path = folder / "train_1.tf_record"
        parsed = [parse_example(record, path=str(path)) for record in read_records(path)]
        parsed[3][name][0] = value
        with path.open("wb") as file:
            for example in parsed:
                feature = {
                    key: tf.train.Feature(float_list=tf.train.FloatList(value=values))
                    if values.dtype.kind == "f"
                    else tf.train.Feature(int64_list=tf.train.Int64List(value=values))
                    for key, values in example.items()
                }
                write_records(file, [tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()])
        damaged = dataclasses.replace(records, paths=[str(path)], num_examples=len(parsed))
        with pytest.raises(tf.errors.InvalidArgumentError, match=f"{name} must be "):
            list(damaged.evaluation_batches(BATCH, sop=True))
        with pytest.raises(InputError, match=f"Example 3 of .*train_1.tf_record', where .*: {name} must be "):
            list(damaged.numpy_batches(BATCH, sop=True))


class TestManifest:
    def test_what_is_found(self, config, records, bare):
        options = {"tsheg_pretokenization": False, "underline_between_sections": True}
        digest = hashlib.sha256(Path(config.spm_model_file).read_bytes()).hexdigest()
        assert records.tokenizer == {"sha256": digest, "vocabulary_size": 400, "options": options}
        counted = Records.find(f"{bare}/*.tf_record")
        untold = {"tokenizer": None, "masking": {}, "sop": None, "num_ids": MAX_IDS}
        assert dataclasses.replace(records, paths=counted.paths, **untold) == counted
        assert records.masking == {name: getattr(config, name) for name in records.masking}
        assert set(records.masking) == {field.name for field in dataclasses.fields(MaskingPolicy)}
        assert counted.num_examples == len(examples(records.paths))
        assert (records.sop, counted.sop) == (False, None)

    def test_in_the_working_folder(self, config, records, monkeypatch):
        monkeypatch.chdir(config.output_dir)
        found = Records.find("*.tf_record")
        assert (found.tokenizer, found.num_examples) == (records.tokenizer, records.num_examples)
        assert rows_of(found.evaluation_batches(BATCH), 1) == rows_of(records.evaluation_batches(BATCH), 1)

    def test_size(self, folder):
        path = folder / "train_0.tf_record"
        listed = path.stat().st_size
        size = boundaries(path)[-2]  # Whole examples, but one less.
        os.truncate(path, size)
        with pytest.raises(InputError, match=f"train_0.tf_record' of {size} bytes, {listed} in the manifest"):
            Records.find(f"{folder}/*.tf_record")

    def test_unlisted_file(self, folder):
        shutil.copy(folder / "train_0.tf_record", folder / "more.tf_record")
        with pytest.raises(InputError, match="not in the manifest beside it. Received: .*more.tf_record"):
            Records.find(f"{folder}/*.tf_record")

    @pytest.mark.parametrize(
        ("name", "theirs"), [("max_seq_length", 64), ("max_predictions_per_seq", 8), ("vocabulary_size", 400)]
    )
    def test_check(self, records, name, theirs):
        right = {"max_seq_length": 64, "max_predictions_per_seq": 8, "vocabulary_size": 400}
        records.check(**right)
        # A model may have room for more pieces than the records use.
        ours = theirs + (-1 if name == "vocabulary_size" else 1)
        wrong = right | {name: ours}
        with pytest.raises(InputError, match=f"{name.replace('_size', ' size')}={theirs} in the records.*, {ours} for"):
            records.check(**wrong)

    def test_check_tokenizer(self, config, records, spm_models, bare):
        protos = {kind: Path(path).read_bytes() for kind, path in spm_models.items()}
        records.check_tokenizer(protos["bpe"])
        hashes = [hashlib.sha256(protos[kind]).hexdigest() for kind in ("unigram", "bpe")]
        with pytest.raises(InputError, match=f"sha256 {hashes[0]}, .*{hashes[1]} in the manifest"):
            records.check_tokenizer(protos["unigram"])
        Records.find(f"{bare}/*.tf_record").check_tokenizer(protos["unigram"])

    @pytest.mark.parametrize(
        ("change", "values"),
        [
            ({"max_seq_length": 32}, "max_seq_length=64 for .*train_0.*, 32 for .*other"),
            ({"tsheg_pretokenization": True}, "tsheg_pretokenization': False.* for .*train_0.*True.* for .*other"),
        ],
    )
    def test_folders_of_two_kinds(self, config, folder, tmp_path, change, values):
        other = dataclasses.replace(config, output_dir=str(tmp_path / "other"), **change)
        build_records(other)
        with pytest.raises(InputError, match=f"not of one kind. Received: .*{values}"):
            Records.find(f"{folder}/*.tf_record,{other.output_dir}/*.tf_record")

    def test_folders_of_one_kind(self, config, folder, records):
        both = Records.find(f"{folder}/*.tf_record,{config.output_dir}/*.tf_record")
        assert both.num_examples == 2 * records.num_examples


class TestGoogle:
    """Google's own record files, as they are."""

    @pytest.fixture
    def golden(self, shared):
        return Records.find(f"{shared}/golden/records/records_*.tfrecord")

    def test_found(self, golden, shared):
        stats = json.loads((shared / "golden" / "records" / "stats.json").read_text(encoding="utf-8"))
        assert golden.num_examples == stats["a"]["num_instances"] + stats["b"]["num_instances"]
        assert (golden.max_seq_length, golden.max_predictions_per_seq, golden.tokenizer) == (128, 20, None)
        golden.check(max_seq_length=128, max_predictions_per_seq=20, vocabulary_size=10_000)
        with pytest.raises(InputError, match="max_seq_length=128 in the records.*512 for the model"):
            golden.check(max_seq_length=512, max_predictions_per_seq=20, vocabulary_size=10_000)

    def test_batches(self, golden):
        expected = examples(golden.paths)
        assert rows_of(golden.evaluation_batches(100)) == expected
        rows = rows_of(golden.training_batches(92, seed=1), 7)  # 7 x 92 are all.
        assert sorted(rows) == sorted(expected) and rows != expected

    def test_sentence_order(self, golden):
        (_, labels, weights) = golden.evaluation_batches(golden.num_examples, sop=True).get_single_element()
        expected = [
            tf.train.Example.FromString(record.numpy()).features.feature["next_sentence_labels"].int64_list.value[0]
            for record in tf.data.TFRecordDataset(golden.paths)
        ]
        np.testing.assert_array_equal(labels["sentence_order"], expected)
        np.testing.assert_array_equal(weights["sentence_order"], np.ones(golden.num_examples))
        assert 0 < sum(expected) < golden.num_examples
