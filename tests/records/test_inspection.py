"""What `tibert records inspect` says of a record file: Google's own numbers, and those of a slow count by hand."""

import dataclasses
import itertools
import json
import re
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from matplotlib.image import imread

from tests.support.damage import flip_bit
from tibert_keras.errors import InputError
from tibert_keras.records.build import build_records
from tibert_keras.records.config import RecordsConfig
from tibert_keras.records.inspection import inspect_records, readable_examples, tokenizer_of_records
from tibert_keras.records.statistics import SHARES


@pytest.fixture
def copy(sample_records, tmp_path) -> Path:
    """A record file with its manifest and tokenizer, to be damaged."""
    shutil.copytree(sample_records / "train", tmp_path / "copy")
    return tmp_path / "copy/train_0.tf_record"


@pytest.fixture
def build(sample_corpus, spm_models, tmp_path):
    """Builds records of the sample corpus, and gives the first file."""

    def build(**options) -> Path:
        config = RecordsConfig(
            workers=1,
            input_file=f"{sample_corpus}/*.txt",
            output_dir=str(tmp_path / "built"),
            spm_model_file=spm_models["bpe"],
            max_predictions_per_seq=8,
            **{"max_seq_length": 64, **options},
        )
        build_records(config)
        return tmp_path / "built/train_0.tf_record"

    return build


def inspect(path):
    return inspect_records(path, tokenizer=tokenizer_of_records(path))


def read(path) -> list[dict[str, list[int]]]:
    features = [
        tf.train.Example.FromString(record.numpy()).features.feature for record in tf.data.TFRecordDataset(str(path))
    ]
    return [
        {name: list(value.int64_list.value or value.float_list.value) for name, value in feature.items()}
        for feature in features
    ]


def write(path: Path, features: dict[str, list[int]]) -> Path:
    values = {
        name: tf.train.Feature(float_list=tf.train.FloatList(value=value))
        if name == "masked_lm_weights"
        else tf.train.Feature(int64_list=tf.train.Int64List(value=value))
        for name, value in features.items()
    }
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(tf.train.Example(features=tf.train.Features(feature=values)).SerializeToString())
    return path


class TestGoogle:
    """Records of Google's ALBERT, with numbers that were counted without this code."""

    @pytest.mark.parametrize("which", ["a", "b"])
    def test_statistics(self, shared, which):
        golden = shared / "golden/records"
        google = json.loads((golden / "stats.json").read_text())[which]
        path = golden / f"records_{which}.tfrecord"
        tokenizer = tokenizer_of_records(path, spm_model_file=golden / "bo.model")
        statistics = inspect_records(path, tokenizer=tokenizer)
        histograms = {
            "lengths": "length_histogram",
            "predictions": "masked_count_histogram",
            "run_lengths": "masked_run_length_histogram",
        }
        for ours, theirs in histograms.items():
            assert getattr(statistics, ours) == {int(n): count for n, count in google[theirs].items()}, ours
        numbers = {
            "examples": "num_instances",
            "tokens": "real_tokens",
            "masked_tokens": "masked_tokens",
            "masked_share": "fraction_masked_of_real_tokens",
            "mask_token_share": "fraction_mask_token",
            "kept_share": "fraction_kept",
            "random_share": "fraction_random",
        }
        for ours, theirs in numbers.items():
            assert getattr(statistics, ours) == google[theirs], ours
        assert statistics.swapped_share == google["sentence_order_label_histogram"]["1"] / google["num_instances"]
        assert statistics.two_segments_share == 1
        assert (statistics.documents, statistics.source_tokens) == (None, None)
        assert re.search(r"^documents of the text +unknown$", statistics.summary(), re.MULTILINE)

    def test_text(self, shared):
        golden = shared / "golden/records"
        path = golden / "records_a.tfrecord"
        tokenizer = tokenizer_of_records(path, spm_model_file=golden / "bo.model")
        examples = readable_examples(path, tokenizer=tokenizer, count=400)
        assert len(examples) == 322
        # Without the marks every segment is text of the corpus, as SentencePiece has normalised it.
        [corpus] = tokenizer.Normalize([(golden / "input.txt").read_text(encoding="utf-8")])
        corpus = corpus.replace("▁", " ")
        for example in examples:
            assert example.count(" [SEP] ") == 1 and "[CLS]" not in example
            segments = re.sub(r"⟦(.*?)(=|→.*?)⟧", r"\1", example).split(" [SEP] ")
            assert all("⁇" in segment or "<unk>" in segment or segment.strip() in corpus for segment in segments)
        marks = Counter(kind[:1] for example in examples for kind in re.findall(r"⟦.*?(=|→\[MASK\]|→.*?)⟧", example))
        assert marks.total() == 4842 and marks["="] == round(4842 * 0.1020239570425444)


class TestOurRecords:
    @pytest.mark.parametrize(
        "options",
        [{}, {"sop": True, "short_seq_prob": 0.3}, {"do_whole_word_mask": True}, {"do_permutation": True}],
        ids=["plain", "sop", "whole words", "permutation"],
    )
    def test_statistics(self, build, options):
        path = build(**options)
        statistics, tokenizer = inspect(path), tokenizer_of_records(path)
        became, pieces, lengths, runs, segments = Counter(), Counter(), Counter(), Counter(), []
        for example in read(path):
            ids, used = example["input_ids"], int(sum(example["masked_lm_weights"]))
            positions, labels = example["masked_lm_positions"][:used], example["masked_lm_ids"][:used]
            for position, label in zip(positions, labels, strict=True):
                shown = ids[position]
                became["mask" if shown == tokenizer.mask_token_id else "kept" if shown == label else "other"] += 1
                ids[position] = label
            grouped = itertools.groupby(enumerate(positions), lambda pair: pair[1] - pair[0])
            runs.update(len(list(group)) for _, group in grouped)
            lengths[sum(example["input_mask"])] += 1
            pieces.update(tokenizer.id_to_piece(token_id) for token_id in ids[: sum(example["input_mask"])])
            segments.append((max(example["segment_ids"]), example["next_sentence_labels"][0]))
        tokens, masked = pieces.total(), became.total()
        text = Counter({piece: count for piece, count in pieces.items() if piece not in ("[CLS]", "[SEP]")})
        # Vowel signs and subjoined letters.
        marks = sum(count for piece, count in text.items() if re.match("▁?[\u0f71-\u0f84\u0f8d-\u0fbc]", piece))
        assert (statistics.tokens, statistics.masked_tokens) == (tokens, masked)
        assert (statistics.lengths, statistics.run_lengths) == (dict(lengths), dict(runs))
        assert statistics.masked_share == masked / tokens
        shares = (statistics.mask_token_share, statistics.kept_share, statistics.random_share)
        assert shares == (became["mask"] / masked, became["kept"] / masked, became["other"] / masked)
        assert statistics.unknown_share == text["<unk>"] / text.total()
        assert statistics.combining_share == marks / text.total()
        assert (
            statistics.two_segments_share == np.mean([segment for segment, _ in segments]) == bool(options.get("sop"))
        )
        assert statistics.swapped_share == np.mean([label for _, label in segments])
        manifest = json.loads((path.parent / "manifest.json").read_text())
        assert statistics.examples == manifest["files"][path.name]["examples"] == len(segments)
        source = manifest["sources"]["train_0.tf_record"]
        assert (statistics.documents, statistics.source_tokens) == (source["documents"], source["tokens"])

    def test_pieces_that_begin_with_a_mark(self, build, spm_models):
        """The fixture's pieces have some, and the records too, or the test above says nothing of them."""
        statistics = inspect(build())
        assert 0 < statistics.combining_share < 0.5

    def test_batches_do_not_matter(self, build, monkeypatch):
        path = build()
        expected = inspect(path)
        monkeypatch.setattr("tibert_keras.records.inspection._BATCH", 7)
        assert inspect(path) == expected

    def test_shuffled_files(self, build):
        """Each holds examples of all texts, so no text is behind a file."""
        statistics = inspect(build(shuffle_examples=True))
        assert (statistics.documents, statistics.source_tokens) == (None, None)

    def test_text(self, build, sample_corpus):
        path = build(max_seq_length=32)
        tokenizer = tokenizer_of_records(path)
        first, second = readable_examples(path, tokenizer=tokenizer, count=2)
        assert "→[MASK]⟧" in first + second and "[SEP]" not in first + second
        corpus = (sample_corpus / "train_0.txt").read_text(encoding="utf-8").replace("\n", " ")
        for example in (first, second):
            assert re.sub(r"⟦(.*?)(=|→.*?)⟧", r"\1", example).strip() in corpus
        assert readable_examples(path, tokenizer=tokenizer, count=0) == []

    def test_the_three_marks(self, tmp_path, spm_models):
        tokenizer = tokenizer_of_records(spm_models["bpe"], spm_model_file=spm_models["bpe"])
        cls, sep, mask = tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.mask_token_id
        first, second, third, fourth = map(int, tokenizer.ordinary_token_ids[20:24])
        path = write(
            tmp_path / "one.tf_record",
            {
                "input_ids": [cls, first, mask, sep, fourth, third, sep, 0],
                "input_mask": [1] * 7 + [0],
                "segment_ids": [0] * 4 + [1] * 3 + [0],
                "masked_lm_positions": [2, 4, 5, 0],
                "masked_lm_ids": [second, second, third, 0],
                "masked_lm_weights": [1, 1, 1, 0],
                "next_sentence_labels": [1],
            },
        )
        a, b, c, d = (tokenizer.id_to_piece(number).replace("▁", " ") for number in (first, second, third, fourth))
        [text] = readable_examples(path, tokenizer=tokenizer, count=3)
        assert text == f"{a}⟦{b}→[MASK]⟧ [SEP] ⟦{b}→{d}⟧⟦{c}=⟧".strip()
        statistics = inspect_records(path, tokenizer=tokenizer)
        assert (statistics.lengths, statistics.predictions, statistics.run_lengths) == ({7: 1}, {3: 1}, {1: 1, 2: 1})
        assert (statistics.swapped_share, statistics.two_segments_share) == (1, 1)


class TestForPeople:
    def test_summary(self, sample_records):
        statistics = inspect(sample_records / "train/train_0.tf_record")
        lines = statistics.summary().splitlines()
        assert lines[0].split() == ["examples", str(statistics.examples)]
        head = lines[: lines.index("")]
        assert len({len(line) for line in head}) == 1, "not aligned"
        assert f"{statistics.masked_share:.2%}" in head[4] and "documents of the text" in head[2]
        bars = [line for line in lines if re.match(r" +\d", line)]
        counts = [int(line.split()[-1].replace(",", "")) for line in bars]
        assert sum(counts) == 2 * statistics.examples + sum(statistics.run_lengths.values())
        assert max(map(len, lines)) < 80

    def test_picture(self, sample_records, tmp_path):
        path = tmp_path / "new/picture.png"
        inspect(sample_records / "train/train_0.tf_record").plot(path)
        pixels = imread(path)
        assert pixels.shape[:2] == (800, 1200)
        ink = np.any(pixels[..., :3] < 0.9, axis=2)
        # Each quarter has something in it, and none is covered.
        for half in np.split(ink, 2, axis=0):
            assert all(0.01 < quarter.mean() < 0.9 for quarter in np.split(half, 2, axis=1))

    @pytest.mark.parametrize("name", ["picture.jpg", "train_0.tf_record", "folder.png"])
    def test_what_must_not_be_replaced_by_a_picture(self, sample_records, tmp_path, name):
        (tmp_path / "folder.png").mkdir()
        with pytest.raises(InputError, match=r"Received: .*\. Give"):
            inspect(sample_records / "train/train_0.tf_record").plot(tmp_path / name)
        assert [path.name for path in tmp_path.iterdir()] == ["folder.png"]


class TestBadInput:
    def refuse(self, path, message, tokenizer=None):
        for look in (inspect_records, lambda path, tokenizer: readable_examples(path, tokenizer=tokenizer, count=1)):
            with pytest.raises(InputError, match=message) as error:
                look(path, tokenizer=tokenizer or tokenizer_of_records(path))
            assert "Received: " in str(error.value) and "\n" not in str(error.value)

    def test_no_file(self, sample_records, tmp_path):
        tokenizer = tokenizer_of_records(sample_records / "train/train_0.tf_record")
        self.refuse(tmp_path / "none.tf_record", "Cannot read the file", tokenizer)
        self.refuse(tmp_path, "Cannot read the file", tokenizer)
        self.refuse(tmp_path / "none.tf_record", "Cannot read the file")

    def test_no_tokenizer(self, copy):
        (copy.parent / "spiece.model").unlink()
        self.refuse(copy, "No tokenizer lies beside the records. Received: '.*spiece.model'. Give it as --spm_model")

    @pytest.mark.parametrize("content, message", [(b"", "holds no example"), ("བོད།".encode() * 9, "at example 0")])
    def test_no_records(self, copy, content, message):
        copy.write_bytes(content)
        self.refuse(copy, message)

    def test_damaged(self, copy):
        tokenizer = tokenizer_of_records(copy)
        index = flip_bit(copy)
        with pytest.raises(InputError, match=f"damaged at example {index}"):
            inspect_records(copy, tokenizer=tokenizer)

    @pytest.mark.parametrize("missing", ["input_ids", "masked_lm_weights", "next_sentence_labels"])
    def test_no_masked_examples(self, copy, missing):
        example = read(copy)[0]
        del example[missing]
        self.refuse(write(copy, example), missing)

    def test_another_message(self, copy):
        with tf.io.TFRecordWriter(str(copy)) as writer:
            writer.write(b"no example")
        self.refuse(copy, "Not a record of masked examples")

    @pytest.mark.parametrize("name, value", [("input_ids", 400), ("masked_lm_ids", 31999)])
    def test_ids_beyond_the_vocabulary(self, copy, name, value):
        example = read(copy)[0]
        example[name][1] = value
        self.refuse(write(copy, example), rf"Received: {name}={value} in '.*', a tokenizer of 400 pieces\. Give")

    def test_another_tokenizer(self, copy, spm_models):
        tokenizer = tokenizer_of_records(copy, spm_model_file=spm_models["unigram"])
        self.refuse(copy, "made with another tokenizer. Received: sha256 .* in the manifest", tokenizer)


def test_the_statistics_are_explained(sample_records):
    statistics = inspect(sample_records / "train/train_0.tf_record")
    for field in dataclasses.fields(statistics):
        assert f"\n        {field.name}: " in type(statistics).__doc__ or field.name in SHARES
