"""One file of records: whatever its text, documents and lines are like, and whatever happens to it meanwhile."""

import dataclasses
import logging
import os
import subprocess
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tibert_keras.errors import InputError
from tibert_keras.models.tibert_tokenizer import TibertTokenizer
from tibert_keras.records import examples, one_file
from tibert_keras.records import text_reader as sections
from tibert_keras.records.build import build_records
from tibert_keras.records.config import RecordsConfig
from tibert_keras.storage import read_lines


@pytest.fixture
def config(tmp_path, spm_models):
    return RecordsConfig(
        input_file=str(tmp_path / "text.txt"),
        output_dir=str(tmp_path / "records"),
        spm_model_file=spm_models["bpe"],
        workers=1,
        max_seq_length=32,
        max_predictions_per_seq=5,
    )


@pytest.fixture
def text(sample_corpus):
    return (sample_corpus / "train_0.txt").read_text(encoding="utf-8")


def build(config, content, **options):
    """The manifest, and the token ids before masking with their segments and labels."""
    Path(config.input_file).write_bytes(content if isinstance(content, bytes) else content.encode())
    config = dataclasses.replace(config, **options)
    manifest = build_records(config)
    sizes = {"input_ids": 32, "segment_ids": 32, "token_boundary": 32, "next_sentence_labels": 1}
    slots = config.prediction_slots
    sizes |= {"masked_lm_positions": slots, "masked_lm_ids": slots}
    features = {name: tf.io.FixedLenFeature([size], tf.int64) for name, size in sizes.items()}
    features["masked_lm_weights"] = tf.io.FixedLenFeature([slots], tf.float32)
    serialized = [record.numpy() for record in tf.data.TFRecordDataset(f"{config.output_dir}/text.tf_record")]
    arrays = {name: value.numpy() for name, value in tf.io.parse_example(serialized, features).items()}
    arrays["original"] = arrays["input_ids"].copy()
    row, slot = np.nonzero(arrays["masked_lm_weights"])
    arrays["original"][row, arrays["masked_lm_positions"][row, slot]] = arrays["masked_lm_ids"][row, slot]
    return manifest, arrays


class TestOptions:
    def test_sop(self, config, text):
        manifest, arrays = build(config, text * 5, sop=True, dupe_factor=2)
        labels, segments, rows = arrays["next_sentence_labels"], arrays["segment_ids"], arrays["original"]
        assert labels.mean() == pytest.approx(0.5, abs=0.08)
        assert np.array_equal((rows == 3).sum(axis=1), np.full(len(rows), 2))
        tokens, total = 0, manifest.total("tokens")
        for row, segment, (label,) in zip(rows, segments, labels, strict=True):
            first, second = np.flatnonzero(row == 3)
            assert first > 1 and second > first + 1
            assert segment.tolist() == [0] * (first + 1) + [1] * (second - first) + [0] * (31 - second)
            assert label in (0, 1)
            tokens += second - 2
        assert 2 * (total - manifest.total("documents")) <= tokens <= 2 * total

    def test_whole_syllables(self, config, text):
        _, arrays = build(config, text, do_whole_word_mask=True)
        starts = arrays["token_boundary"].astype(bool) | (arrays["original"] == 0)
        row, slot = np.nonzero(arrays["masked_lm_weights"])
        chosen = np.zeros((len(starts), 33), bool)
        chosen[row, arrays["masked_lm_positions"][row, slot]] = True
        # Where the mask begins or ends, a syllable does.
        changes = chosen[:, 1:32] != chosen[:, :31]
        assert changes.sum() > 100
        assert starts[:, 1:][changes].all()
        assert not starts[:, 1:].all()

    @pytest.mark.parametrize("options", [{}, {"tsheg_pretokenization": True}, {"stochastic_tokens": True}])
    def test_special_pieces_in_the_text(self, config, text, options):
        """They are unknown text, which is learnt and counted as such."""
        manifest, arrays = build(config, text.replace("་", "་[MASK][SEP] <pad>", 50), **options)
        assert manifest.total("unknown_tokens") >= 50
        original, row = arrays["original"], np.arange(len(arrays["original"]))
        assert not (original == 4).any() and ((original == 3).sum(axis=1) == 1).all()
        assert (original[row, (original != 0).sum(axis=1) - 1] == 3).all()

    def test_permutation(self, config, text):
        _, arrays = build(config, text, do_permutation=True)
        predicted = arrays["masked_lm_weights"].sum(axis=1)
        assert arrays["masked_lm_weights"].shape[1] == 10
        assert predicted.max() == 10 and (predicted % 2 == 0).mean() > 0.9

    def test_sampled_tokens_are_the_same_text(self, config, text, spm_models):
        decoded = []
        for options in ({}, {"stochastic_tokens": True}):
            folder = Path(config.output_dir) / str(len(decoded))
            _, arrays = build(config, text, spm_model_file=spm_models["unigram"], output_dir=str(folder), **options)
            tokenizer = TibertTokenizer(spm_models["unigram"])
            rows = [tokenizer.detokenize(row[row > 4].tolist()) for row in arrays["original"]]
            decoded.append((len(rows), "".join("".join(rows).split())))
        assert decoded[0][1] == decoded[1][1] and decoded[0][0] != decoded[1][0]


class TestAnyText:
    @pytest.mark.parametrize("options", [{}, {"sop": True}, {"offset_steps": 3, "offset_stride": 2, "dupe_factor": 2}])
    def test_small_buffers_lose_nothing(self, config, text, monkeypatch, options):
        _, expected = build(config, text, **options)
        config = dataclasses.replace(config, output_dir=f"{config.output_dir}2")
        monkeypatch.setattr(sections, "_BLOCK_BYTES", 500)
        monkeypatch.setattr(examples, "_WINDOW", 60)
        _, found = build(config, text, **options)
        # Stretches of several walks stand in another order then.
        for name in ("original", "input_ids") if not options else ("original",) if "dupe_factor" in options else ():
            assert np.array_equal(np.unique(found[name], axis=0), np.unique(expected[name], axis=0))
        assert len(found["original"]) == len(expected["original"])

    def test_a_document_that_does_not_fit(self, config, text, monkeypatch):
        monkeypatch.setattr(sections, "_BLOCK_BYTES", 1 << 14)
        monkeypatch.setattr(examples, "_WINDOW", 1 << 10)
        monkeypatch.setattr(one_file, "_BATCH", 64)
        document = "\n".join(filter(None, text.split("\n"))) + "\n"
        peaks = []
        for number, times in enumerate((2, 2, 60)):
            Path(config.input_file).write_text(document * times, encoding="utf-8")
            tracemalloc.start()
            manifest = build_records(dataclasses.replace(config, output_dir=f"{config.output_dir}{number}"))
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        assert manifest.total("documents") == 1
        # The first time, modules and caches are filled. Hashes are taken of a megabyte at a time.
        assert abs(peaks[2] - peaks[1]) < 1.2e6 < len(document.encode()) * 58

    def test_one_long_line(self, config, text, spm_models):
        line = "".join(text.split("\n")) * 31
        assert len(line) > sections.LONGEST_SECTION
        manifest, arrays = build(config, line)
        tokenizer = TibertTokenizer(spm_models["bpe"])
        decoded = "".join(tokenizer.detokenize(row[row > 4].tolist()) for row in arrays["original"])
        assert "".join(decoded.split()) == "".join(line.split())
        assert manifest.total("documents") == 1

    def test_short_and_empty_documents(self, config):
        manifest, arrays = build(config, "\n\n\nཀ\n\n\nཀ་ཁ་ག་ང་།\n \n\nཅ\n\n")
        assert (manifest.total("documents"), manifest.total("examples")) == (3, len(arrays["original"]))
        assert manifest.total("examples") >= 1


class TestBadInput:
    def test_lines_that_are_not_utf8(self, config, text):
        lines = text.encode().split(b"\n")
        bad = b"\n".join([*lines[:3], b"\xe0\xbd\xff", *lines[3:], b"\xff"])
        at = len(b"\n".join(lines[:3])) + 1
        with pytest.raises(InputError, match=f"at byte {at}. Received: .*text.txt.* --errors=skip"):
            build(config, bad)
        manifest, arrays = build(config, bad, errors="skip")
        assert manifest.total("skipped_lines") == 2
        assert manifest.summary().endswith("2 lines left out")
        _, expected = build(config, text, output_dir=f"{config.output_dir}3")
        assert np.array_equal(arrays["input_ids"], expected["input_ids"])
        # A file with lines left out is not kept where none may be.
        with pytest.raises(InputError, match="Not a UTF-8 file"):
            build(config, bad)

    def test_characters_without_a_piece(self, config, text, caplog):
        caplog.set_level(logging.WARNING, "tibert_keras")
        few, many = "\n༕༕", "\n༕༗༗ཀ" * 500
        build(config, text + few)
        assert not caplog.records
        manifest, _ = build(config, text + many, output_dir=f"{config.output_dir}2")
        assert manifest.sources["text.tf_record"]["unknown_characters"] == {"༗": 1000, "༕": 500}
        (message,) = [record.getMessage() for record in caplog.records]
        assert "1% of the tokens of 1 files (text.txt" in message
        assert "༗ (U+0F17) 1000x, ༕ (U+0F15) 500x" in message

    def test_a_file_that_changes(self, config, text, monkeypatch):
        Path(config.input_file).write_text(text, encoding="utf-8")
        # Changed after its hash was taken, before it is read.
        monkeypatch.setattr("tibert_keras.records.build.sha256", lambda _: "0" * 64)
        with pytest.raises(InputError, match=r"changed while it was read. Received: .*text.txt"):
            build_records(config)
        assert not list(Path(config.output_dir).glob("*.tf_record")) and not list(Path(config.output_dir).glob(".*"))

    def test_a_file_that_disappears(self, config, text, monkeypatch):
        def hash_and_remove(path):
            Path(path).unlink()
            return "0" * 64

        Path(config.input_file).write_text(text, encoding="utf-8")
        monkeypatch.setattr("tibert_keras.records.build.sha256", hash_and_remove)
        with pytest.raises(InputError, match=r"No such file.*Received: .*text.txt"):
            build_records(config)

    def test_a_full_disk(self, config, text, tmp_path):
        folder = tmp_path / "small"
        folder.mkdir()
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True)
        if mounted.returncode:
            pytest.skip(f"needs the right to mount a small disk: {mounted.stderr.decode().strip()}")
        try:
            config = dataclasses.replace(config, output_dir=str(folder / "records"))
            with pytest.raises((InputError, OSError), match="(?i)no space left"):
                build(config, text, dupe_factor=100)
            assert not [name for name in os.listdir(config.output_dir) if "tf_record" in name]
            # With room again the same folder goes on.
            manifest, _ = build(config, text[:300], dupe_factor=100)
            assert manifest.total("examples")
        finally:
            subprocess.run(["umount", folder], check=True)


def test_the_lines_of_a_corpus_file_are_its_sections(sample_corpus):
    path = sample_corpus / "train_0.txt"
    assert [line for block in sections.SectionReader(path) for line in block] == list(read_lines(path))
