"""Record files: Google's schema, the same bytes whatever the order, and nothing half-written."""

import dataclasses
import hashlib
import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tibert_keras.errors import InputError
from tibert_keras.models.tibert_tokenizer import TibertTokenizer
from tibert_keras.records.build import build_records
from tibert_keras.records.config import OriginalFlags, RecordsConfig
from tibert_keras.records.examples import Sections, cut_document, lay_out
from tibert_keras.records.manifest import Manifest
from tibert_keras.storage import expand_glob


@pytest.fixture
def config(sample_corpus, spm_models, tmp_path):
    return RecordsConfig(
        input_file=f"{sample_corpus}/*.txt",
        output_dir=str(tmp_path / "records"),
        spm_model_file=spm_models["bpe"],
        workers=1,
        max_seq_length=64,
        max_predictions_per_seq=8,
    )


def contents(config):
    return {path.name: path.read_bytes() for path in Path(config.output_dir).glob("*.tf_record")}


def google_parser(max_seq_length, max_predictions_per_seq):
    """What Google's `run_pretraining.py` reads of an example, and what it may also hold."""
    sequence = tf.io.FixedLenFeature([max_seq_length], tf.int64)
    predictions = tf.io.FixedLenFeature([max_predictions_per_seq], tf.int64)
    return {
        "input_ids": sequence,
        "input_mask": sequence,
        "segment_ids": sequence,
        "token_boundary": sequence,
        "masked_lm_positions": predictions,
        "masked_lm_ids": predictions,
        "masked_lm_weights": tf.io.FixedLenFeature([max_predictions_per_seq], tf.float32),
        "next_sentence_labels": tf.io.FixedLenFeature([1], tf.int64),
    }


def parse(config, name="*.tf_record"):
    """The examples of all record files, or of one, as arrays."""
    paths = sorted(str(path) for path in Path(config.output_dir).glob(name))
    serialized = [record.numpy() for record in tf.data.TFRecordDataset(paths)]
    parsed = tf.io.parse_example(serialized, google_parser(config.max_seq_length, config.max_predictions_per_seq))
    return {name: value.numpy() for name, value in parsed.items()}


def unmasked(examples):
    """The token ids before they were masked."""
    token_ids = examples["input_ids"].copy()
    rows, slots = np.nonzero(examples["masked_lm_weights"])
    token_ids[rows, examples["masked_lm_positions"][rows, slots]] = examples["masked_lm_ids"][rows, slots]
    return token_ids


def packed(config, path):
    """What the text should become, without masks: packing draws nothing where `short_seq_prob` is 0."""
    tokenizer = TibertTokenizer(
        config.spm_model_file,
        tsheg_pretokenization=config.tsheg_pretokenization,
        underline_between_sections=config.underline_between_sections,
    )
    documents = [block.split("\n") for block in Path(path).read_text(encoding="utf-8").strip().split("\n\n")]
    walks = [
        cuts
        for document in documents
        for cuts in cut_document(
            [Sections.join(tokenizer.encode(document))], policy=config, rng=np.random.default_rng()
        )
    ]
    return lay_out(walks, policy=config, cls_token_id=2, sep_token_id=3, pad_token_id=0).token_ids


class TestSchema:
    def test_google(self, shared, config):
        def schema(path):
            features = tf.train.Example.FromString(next(iter(tf.data.TFRecordDataset(str(path)))).numpy()).features
            kinds = {name: feature.WhichOneof("kind") for name, feature in features.feature.items()}
            return {name: [kind, len(getattr(features.feature[name], kind).value)] for name, kind in kinds.items()}

        golden = shared / "golden" / "records"
        stats = json.loads((golden / "stats.json").read_text(encoding="utf-8"))
        build_records(dataclasses.replace(config, max_seq_length=128, max_predictions_per_seq=20))
        ours = schema(Path(config.output_dir) / "train_0.tf_record")
        assert ours == schema(golden / "records_a.tfrecord") == stats["a"]["record_features"]

    @pytest.mark.parametrize("flags", [{}, {"tsheg_pretokenization": True}, {"underline_between_sections": False}])
    def test_the_examples_are_the_text(self, config, sample_corpus, flags):
        config = dataclasses.replace(config, **flags)
        build_records(config)
        for name in ("train_0", "train_1", "train_2"):
            examples = parse(config, f"{name}.tf_record")
            expected = packed(config, sample_corpus / f"{name}.txt")
            assert np.array_equal(unmasked(examples), expected)
            assert np.array_equal(examples["input_mask"], expected != 0)
            assert np.array_equal(examples["token_boundary"], expected != 0)
            assert not examples["segment_ids"].any() and not examples["next_sentence_labels"].any()
            counts = np.clip(np.rint(np.count_nonzero(expected, axis=1) * 0.15), 1, 8)
            assert np.array_equal(examples["masked_lm_weights"].sum(axis=1), counts)

    def test_underlines_between_sections(self, config, sample_corpus):
        """And none before the first of a sequence; otherwise the text as the tokenizer with this option encodes it."""
        config = dataclasses.replace(config, underline_between_sections="between")
        build_records(config)
        tokenizer = TibertTokenizer(config.spm_model_file, underline_between_sections="between")
        documents = (sample_corpus / "train_0.txt").read_text(encoding="utf-8").strip().split("\n\n")
        text = list(itertools.chain(*tokenizer.encode([document.replace("\n", " ") for document in documents])))
        underline = tokenizer.token_to_id("▁")
        rows = [row[~np.isin(row, [0, 2, 3])].tolist() for row in unmasked(parse(config, "train_0.tf_record"))]
        assert any(underline in row for row in rows) and not any(row[0] == underline for row in rows)
        position = 0
        for row in rows:
            position += text[position] == underline
            assert row == text[position : position + len(row)]
            position += len(row)
        assert position == len(text)

    def test_google_input(self, shared, tmp_path):
        golden = shared / "golden" / "records"
        config = RecordsConfig(
            input_file=str(golden / "input.txt"),
            output_dir=str(tmp_path),
            spm_model_file=str(golden / "bo.model"),
            dupe_factor=2,
            short_seq_prob=0.05,
            workers=1,
        )
        known = json.loads((golden / "stats.json").read_text(encoding="utf-8"))["input"]
        counts = build_records(config).sources["input.tf_record"]
        assert (counts["documents"], counts["tokens"], counts["unknown_tokens"]) == (
            known["documents"],
            known["tokens"],
            known["unk_tokens"],
        )
        rows = unmasked(parse(config))
        # Twice all the tokens but for at most one at the end of each document.
        assert 2 * (counts["tokens"] - 26) <= np.isin(rows, [0, 2, 3], invert=True).sum() <= 2 * counts["tokens"]


class TestReproducibility:
    @pytest.mark.parametrize("stochastic", [False, True])
    def test_bytes(self, config, sample_corpus, tmp_path, stochastic):
        config = dataclasses.replace(config, stochastic_tokens=stochastic, short_seq_prob=0.2, dupe_factor=2)
        build_records(config)
        expected = contents(config)
        assert sorted(expected) == [f"train_{index}.tf_record" for index in range(3)]
        shutil.copytree(sample_corpus, tmp_path / "elsewhere")
        for number, pattern in enumerate(
            [f"{sample_corpus}/train_2.txt,{sample_corpus}/train_0.txt", f"{tmp_path}/elsewhere/train_1.txt"]
        ):
            other = dataclasses.replace(config, input_file=pattern, output_dir=str(tmp_path / f"other_{number}"))
            build_records(other)
            assert contents(other).items() <= expected.items()

    @pytest.mark.parametrize("stochastic", [False, True])
    def test_another_seed(self, config, tmp_path, stochastic):
        config = dataclasses.replace(config, stochastic_tokens=stochastic)
        other = dataclasses.replace(config, random_seed=1, output_dir=str(tmp_path / "other"))
        build_records(config)
        build_records(other)
        assert not set(contents(config).values()) & set(contents(other).values())
        # Sampled or not, the text is the same.
        tokenizer = TibertTokenizer(config.spm_model_file)
        texts = [
            "".join(tokenizer.detokenize(row[row > 3].tolist()) for row in unmasked(parse(each)))
            for each in (config, other)
        ]
        assert texts[0].replace(" ", "") == texts[1].replace(" ", "")
        assert (len(unmasked(parse(config))) == len(unmasked(parse(other)))) is not stochastic

    def test_documents_have_streams_of_their_own(self, config, tmp_path, sample_corpus):
        text = (sample_corpus / "train_0.txt").read_text(encoding="utf-8")
        for name in ("twice", "other"):
            (tmp_path / f"{name}.txt").write_text(text + "\n" + text, encoding="utf-8")
        config = dataclasses.replace(config, input_file=f"{tmp_path}/*.txt")
        build_records(config)
        assert len(set(contents(config).values())) == 2
        examples = parse(config, "twice.tf_record")
        half = len(examples["input_ids"]) // 2
        first, second = ({name: array[part] for name, array in examples.items()} for part in np.s_[:half, half:])
        assert np.array_equal(unmasked(first), unmasked(second))
        assert np.mean(np.any(first["masked_lm_positions"] != second["masked_lm_positions"], axis=1)) > 0.9

    def test_dupe_factor_and_offsets(self, config, tmp_path, sample_corpus):
        config = dataclasses.replace(config, input_file=f"{sample_corpus}/train_0.txt", offset_steps=2, offset_stride=3)
        twice = dataclasses.replace(config, dupe_factor=2, output_dir=str(tmp_path / "twice"))
        single, double = build_records(config), build_records(twice)
        assert double.total("examples") == 2 * single.total("examples")
        rows = unmasked(parse(twice))
        assert np.array_equal(np.unique(rows, axis=0), np.unique(packed(config, sample_corpus / "train_0.txt"), axis=0))
        assert len(np.unique(parse(twice)["masked_lm_positions"], axis=0)) > single.total("examples")


class TestManifest:
    def test_counts_and_hashes(self, config, sample_corpus):
        manifest = build_records(config)
        assert manifest == Manifest.read(config.output_dir)
        tokenizer = TibertTokenizer(config.spm_model_file)
        model = Path(config.spm_model_file).read_bytes()
        assert (Path(config.output_dir) / "spiece.model").read_bytes() == model
        assert manifest.tokenizer == {
            "sha256": hashlib.sha256(model).hexdigest(),
            "vocabulary_size": 400,
            "options": {"tsheg_pretokenization": False, "underline_between_sections": True},
        }
        assert len(manifest.files) == len(manifest.sources) == 3
        for name in manifest.files:
            content = (Path(config.output_dir) / name).read_bytes()
            text = (sample_corpus / name.replace(".tf_record", ".txt")).read_bytes()
            lines = text.decode("utf-8").splitlines()
            assert manifest.sources[name] == {
                "file": name.replace(".tf_record", ".txt"),
                "folder": str(sample_corpus),
                "sha256": hashlib.sha256(text).hexdigest(),
                "documents": 10,
                "tokens": sum(map(len, tokenizer.encode(lines))),
                "unknown_tokens": 0,
                "skipped_lines": 0,
                "unknown_characters": {},
            }
            assert manifest.files[name] == {
                "examples": sum(1 for _ in tf.data.TFRecordDataset(str(Path(config.output_dir) / name))),
                "bytes": len(content),
                "sha256": hashlib.sha256(content).hexdigest(),
            }

    def test_a_second_build_keeps_what_is_whole_and_adds_the_rest(self, config):
        sources = expand_glob(config.input_file)
        first = build_records(dataclasses.replace(config, input_file=sources[0]))
        (name,) = first.files
        record = Path(config.output_dir) / name
        written = record.stat().st_mtime_ns
        everything = build_records(config)
        assert everything.files[name] == first.files[name]
        assert len(everything.files) == len(sources)
        assert record.stat().st_mtime_ns == written
        record.write_bytes(record.read_bytes()[:-1])
        assert build_records(config) == everything
        assert hashlib.sha256(record.read_bytes()).hexdigest() == everything.files[name]["sha256"]

    def test_two_texts_of_one_name_one_after_the_other(self, config, sample_corpus, tmp_path):
        built = []
        for number, name in enumerate(["t.txt", "t.md", "t.txt"]):
            shutil.copy(sample_corpus / f"train_{number % 2}.txt", tmp_path / name)
            manifest = build_records(dataclasses.replace(config, input_file=str(tmp_path / name)))
            assert [entry["file"] for entry in manifest.sources.values()] == [name]
            built.append(contents(config)["t.tf_record"])
        assert built[0] == built[2] != built[1]

    def test_records_of_other_texts_are_told_of(self, config, caplog):
        caplog.set_level("WARNING", "tibert_keras")
        build_records(config)
        build_records(dataclasses.replace(config, input_file=expand_glob(config.input_file)[1]))
        (message,) = [record.getMessage() for record in caplog.records]
        assert "also holds records of other texts: train_0.tf_record, train_2.tf_record." in message

    def test_the_tokenizer_beside_the_records_is_made_whole(self, config):
        build_records(config)
        copy = Path(config.output_dir) / "spiece.model"
        copy.write_bytes(b"x")
        build_records(config)
        assert copy.read_bytes() == Path(config.spm_model_file).read_bytes()

    def test_every_option_is_there(self, config):
        options = build_records(config).options
        left_out = {"input_file", "output_dir", "spm_model_file", "errors", "workers", "scheduler"}
        # They decide nothing: they name files, or have one value.
        left_out |= {field.name for field in dataclasses.fields(OriginalFlags)}
        assert options == {name: value for name, value in dataclasses.asdict(config).items() if name not in left_out}

    @pytest.mark.parametrize(
        ("change", "values"),
        [
            ({"ngram": 2}, "ngram=3 there, 2 now"),
            ({"random_seed": 7}, "random_seed=12345 there, 7 now"),
            ({"tsheg_pretokenization": True}, "tsheg_pretokenization=False there, True now"),
        ],
    )
    def test_changed_options_are_refused(self, config, change, values):
        build_records(config)
        before = contents(config)
        with pytest.raises(InputError, match=values):
            build_records(dataclasses.replace(config, **change))
        assert contents(config) == before
        build_records(config)

    def test_changed_tokenizer_is_refused(self, config, spm_models):
        build_records(config)
        hashes = [hashlib.sha256(Path(spm_models[kind]).read_bytes()).hexdigest() for kind in ("bpe", "unigram")]
        with pytest.raises(InputError, match=f"tokenizer='{hashes[0]}' there, '{hashes[1]}' now"):
            build_records(dataclasses.replace(config, spm_model_file=spm_models["unigram"]))


class TestBadInput:
    def test_two_inputs_of_one_name(self, config, sample_corpus, tmp_path):
        shutil.copy(sample_corpus / "train_1.txt", tmp_path / "train_1.md")
        pattern = f"{sample_corpus}/*.txt,{tmp_path}/*.md"
        with pytest.raises(InputError, match=r"overwrite each other. Received: \['train_1.tf_record'\]"):
            build_records(dataclasses.replace(config, input_file=pattern))
        assert not Path(config.output_dir).exists()

    @pytest.mark.parametrize(
        ("tail", "message"),
        [
            (b"\xff\n", r"Not a UTF-8 file: .* at byte \d+"),
            (None, "The file is empty"),
            (b"\n\n", "No document has two tokens"),
        ],
        ids=["not_utf8", "empty", "no_documents"],
    )
    def test_nothing_is_half_written(self, config, sample_corpus, tmp_path, tail, message):
        start = (sample_corpus / "train_0.txt").read_bytes() if tail == b"\xff\n" else b""
        source = tmp_path / "bad.txt"
        source.write_bytes(start + (tail or b""))
        bad = dataclasses.replace(config, input_file=str(source))
        with pytest.raises(InputError, match=f"{message}.*Received: .*bad.txt"):
            build_records(bad)
        assert not Path(config.output_dir).exists()
        # What was there before stays.
        source.write_bytes((sample_corpus / "train_0.txt").read_bytes())
        build_records(bad)
        names, before = sorted(path.name for path in Path(config.output_dir).iterdir()), contents(config)
        source.write_bytes(start + (tail or b""))
        with pytest.raises(InputError, match=message):
            build_records(bad)
        assert sorted(path.name for path in Path(config.output_dir).iterdir()) == names
        assert contents(config) == before

    def test_lines_of_white_space_end_documents(self, config, tmp_path):
        (tmp_path / "text.txt").write_bytes("ཀ་ཁ་ག།\r\n \t\r\n\u3000\nང་ཅ་ཆ།\nཇ་ཉ།\n\n\n".encode())
        manifest = build_records(dataclasses.replace(config, input_file=str(tmp_path / "text.txt")))
        assert (manifest.total("documents"), manifest.total("examples")) == (2, 2)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"max_seq_length": 4}, "max_seq_length must be from 5 to 65536"),
            ({"masked_lm_prob": 0.0}, "Nothing would be masked, and nothing learned. Received: masked_lm_prob=0"),
            ({"random_seed": -1}, "random_seed must be at least 0. Received: random_seed=-1"),
        ],
    )
    def test_options_of_both_policies_are_checked(self, config, change, message):
        with pytest.raises(InputError, match=message):
            dataclasses.replace(config, **change)
