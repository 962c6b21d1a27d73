"""One random order over all files, and the same bytes on any number of workers."""

import dataclasses
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tibert_keras.errors import InputError
from tibert_keras.records import shuffle
from tibert_keras.records.build import build_records
from tibert_keras.records.config import RecordsConfig
from tibert_keras.records.manifest import Manifest


@pytest.fixture
def config(sample_corpus, spm_models, tmp_path):
    return RecordsConfig(
        input_file=f"{sample_corpus}/*.txt",
        output_dir=str(tmp_path / "shuffled"),
        spm_model_file=spm_models["bpe"],
        workers=1,
        shuffle_examples=True,
        max_seq_length=32,
        max_predictions_per_seq=5,
        dupe_factor=20,
    )


@pytest.fixture
def short(config):
    """Few examples, for what does not depend on their number."""
    return dataclasses.replace(config, dupe_factor=3)


def examples(folder):
    paths = sorted(Path(folder).glob("*.tf_record"))
    return {path.name: [record.numpy() for record in tf.data.TFRecordDataset(str(path))] for path in paths}


def joined(folder):
    return [example for part in examples(folder).values() for example in part]


@pytest.fixture
def plain(config, tmp_path):
    """The same examples in the order of the text."""
    plain = dataclasses.replace(config, shuffle_examples=False, output_dir=str(tmp_path / "plain"))
    build_records(plain)
    return joined(plain.output_dir)


def test_the_same_examples_in_another_order(config, plain):
    manifest = build_records(config)
    shuffled = examples(config.output_dir)
    assert Counter(joined(config.output_dir)) == Counter(plain)
    # Files of about one size, each with examples from everywhere.
    sizes = [len(part) for part in shuffled.values()]
    assert max(sizes) - min(sizes) < 6 * np.sqrt(len(plain) / 3)
    place = {example: index for index, example in enumerate(plain)}
    for part in shuffled.values():
        places = np.array([place[example] for example in part]) / len(plain)
        assert np.abs(np.histogram(places, bins=4, range=(0, 1))[0] / len(places) - 0.25).max() < 0.07
        assert abs(np.corrcoef(places, np.arange(len(places)))[0, 1]) < 0.15
    assert {name: entry["examples"] for name, entry in manifest.files.items()} == dict(
        zip(shuffled, sizes, strict=True)
    )
    # Nothing is left of the work.
    assert sorted(path.name for path in Path(config.output_dir).iterdir()) == [
        "manifest.json",
        "spiece.model",
        *(f"train_{n}.tf_record" for n in range(3)),
    ]


def test_buckets_that_fit_into_memory(config, plain, monkeypatch):
    monkeypatch.setattr(shuffle, "_BUCKET_BYTES", 40_000)
    assert shuffle.num_buckets([str(path) for path in Path(config.output_dir).parent.glob("plain/*.tf_record")], 3) > 5
    build_records(config)
    assert Counter(joined(config.output_dir)) == Counter(plain)


def test_a_second_build(config, sample_corpus, tmp_path):
    folder = tmp_path / "corpus"
    shutil.copytree(sample_corpus, folder)
    config = dataclasses.replace(config, input_file=f"{folder}/*.txt")
    first = build_records(config)
    files = sorted(Path(config.output_dir).glob("*.tf_record"))
    before = [(path.stat().st_mtime_ns, path.read_bytes()) for path in files]
    assert build_records(config) == first
    assert [(path.stat().st_mtime_ns, path.read_bytes()) for path in files] == before
    # A damaged file is made again, and the others stay.
    files[1].write_bytes(b"damaged")
    assert build_records(config) == first == Manifest.read(config.output_dir)
    assert [path.read_bytes() for path in files] == [content for _, content in before]
    assert files[0].stat().st_mtime_ns == before[0][0]
    # The work of a build that was killed in the end is cleared away.
    (Path(config.output_dir) / "dealt_out" / "train_0.tf_record").mkdir(parents=True)
    build_records(config)
    assert not (Path(config.output_dir) / "dealt_out").exists()
    # Folders do not matter, names do.
    (tmp_path / "first").mkdir()
    (folder / "train_2.txt").rename(tmp_path / "first" / "train_2.txt")
    moved = dataclasses.replace(config, input_file=f"{tmp_path}/first/*.txt,{folder}/*.txt")
    assert build_records(moved) == first
    elsewhere = dataclasses.replace(moved, output_dir=str(tmp_path / "elsewhere"))
    build_records(elsewhere)
    assert [(tmp_path / "elsewhere" / path.name).read_bytes() for path in files] == [content for _, content in before]
    # Other text is another order of all.
    (folder / "train_3.txt").write_text("ཀ་ཁ་ག་ང་།\n", encoding="utf-8")
    with pytest.raises(
        InputError,
        match=r"shuffled examples of other texts. Received: .*, with train_2.txt, train_3.txt new, gone or changed",
    ):
        build_records(config)
    assert [path.read_bytes() for path in files] == [content for _, content in before]


@pytest.mark.parametrize("step", ["scatter", "_make_share"])
def test_interrupted_and_run_again(short, monkeypatch, step):
    from tibert_keras.records import build as records

    whole = build_records(short)
    expected = examples(short.output_dir)
    config = dataclasses.replace(short, output_dir=f"{short.output_dir}2")
    calls, function = [], getattr(records, step)

    def stop_at_the_second(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return function(*arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(records, step, stop_at_the_second)
        build_records(config)
    assert examples(config.output_dir).items() < expected.items()
    assert build_records(config) == whole
    assert examples(config.output_dir) == expected


@pytest.mark.slow
@pytest.mark.parametrize("shuffled", [False, True])
def test_the_same_bytes_on_any_number_of_workers(short, sample_corpus, tmp_path, shuffled):
    folder = tmp_path / "corpus"
    shutil.copytree(sample_corpus, folder)
    for n in range(3, 7):
        shutil.copy(folder / f"train_{n % 3}.txt", folder / f"train_{n}.txt")
    built = {}
    for workers in (1, 2) if shuffled else (1, 3):
        output = tmp_path / str(workers)
        build_records(
            dataclasses.replace(
                short,
                input_file=f"{folder}/*.txt",
                output_dir=str(output),
                workers=workers,
                shuffle_examples=shuffled,
                stochastic_tokens=True,
                short_seq_prob=0.1,
            )
        )
        built[workers] = {path.name: path.read_bytes() for path in output.iterdir()}
    assert len(built[1]) == 9
    assert all(files == built[1] for files in built.values())
