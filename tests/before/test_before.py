"""What an older commit wrote still loads and gives the same answers: `make.sh` has how it was made."""

import os
import re
import tarfile
from pathlib import Path

import keras
import numpy as np
import pytest

from tibert_keras import TibertTextClassifier, TibertTokenClassifier
from tibert_keras.cli.main import main
from tibert_keras.tokenizers.training import read_tokenizer_manifest

HERE = Path(__file__).parent
SCRIPT = (HERE / "make.sh").read_text(encoding="utf-8").replace("\\\n", " ")
pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="SavedModels are TensorFlow's")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The unpacked artefacts, as the working folder: a run knows its records by relative paths."""
    folder, here = tmp_path_factory.mktemp("before"), Path.cwd()
    with tarfile.open(HERE / "artefacts.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    os.chdir(folder)
    yield folder
    os.chdir(here)


@pytest.fixture(scope="module")
def resumed(folder):
    """The run, resumed to its last step, with its champion."""
    assert main(command("pretrain")) == 0


def command(start: str) -> list[str]:
    """The words of a command of the script, without `tibert`."""
    (line,) = re.findall(rf"^tibert ({start} .*)", SCRIPT, re.MULTILINE)
    return re.sub(r"'([^']*)'", r"\1", line).split()


def numbers(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"-?\d+\.\d{3,}", text)]


def test_records_are_the_same_bytes(folder, capsys):
    words = command("records")
    assert main(words) == 0  # the same options: nothing to do
    assert main([word.replace("--output_dir=records", "--output_dir=again") for word in words]) == 0
    (old,) = Path("records").glob("*.tf_record")
    assert (Path("again") / old.name).read_bytes() == old.read_bytes()
    assert read_tokenizer_manifest("spm/spiece.model")["tsheg_pretokenization"] is True


def test_keras_file_and_presets(folder):
    logits = np.load("logits.npz")
    texts = ["བླ་མ་ཆོས་ལ་ཕྱག་འཚལ་ལོ།", "སངས་རྒྱས་གྲོང་ཁྱེར་ལ་ཕྱག་འཚལ་ལོ།"]
    ids = {
        "token_ids": np.array([[2, 20, 4, 30, 31, 3]]),
        "segment_ids": np.zeros((1, 6), "int32"),
        "padding_mask": np.ones((1, 6), "int32"),
        "mask_positions": np.array([[2, 3]]),
    }
    given = {
        "masked_lm": keras.ops.convert_to_numpy(keras.saving.load_model("masked_lm.keras")(ids)),
        "tagger": TibertTokenClassifier.from_preset("tagger/champion").predict(texts, verbose=0),
        "classifier": TibertTextClassifier.from_preset("classifier/champion").predict(texts, verbose=0),
    }
    for name, values in given.items():
        np.testing.assert_allclose(values, logits[name], atol=1e-5, err_msg=name)


def test_a_run_resumes_and_answers(resumed, capsys):
    with np.load("run/checkpoints/60/variables.npz") as ours, np.load("last.npz") as theirs:
        assert ours.files == theirs.files
        for name in theirs.files:
            np.testing.assert_allclose(ours[name], theirs[name], rtol=0, atol=1e-5, err_msg=name)
    text = "སངས་རྒྱས་[MASK]བླ་མ་ལ་ཕྱག་འཚལ་ལོ།"
    capsys.readouterr()
    assert main(["evaluate", "--model=run", "--input_file=records/*.tf_record"]) == 0
    # A table has been added below the figures.
    figures, *_ = capsys.readouterr().out.partition("\n\n")
    for words in (
        ["fill-mask", "--model=run", text, "བླ་མ་[GAP:1]་རྒྱས་ལ་ཕྱག་འཚལ་ལོ།"],
        ["fill-mask", "--model=saved_model", text],
        ["tag", "--model=tagger", "བླ་མ་ཆོས་ལ་ཕྱག་འཚལ་ལོ། །"],
    ):
        assert main(words) == 0
    answers, expected = f"{figures}\n{capsys.readouterr().out}", Path("answers.txt").read_text(encoding="utf-8")
    assert re.sub(r"\d+\.\d{3,}", "", answers) == re.sub(r"\d+\.\d{3,}", "", expected)
    # Fillings have other scores now.
    np.testing.assert_allclose(numbers(figures), numbers(expected)[: len(numbers(figures))], atol=2e-3)


@pytest.mark.parametrize("kind", ["tokens", "text"])
def test_a_fine_tuning_has_ended(resumed, kind, capsys):
    """The same command finds its seeds trained, and prints their scores."""
    assert main(command(f"finetune {kind}")) == 0
    assert "(1 seed)" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["google", "huggingface"])
def test_converted_models(folder, kind, capsys):
    assert main(["convert", f"--from={kind}", f"--input={kind}", "--to=keras", f"--output=from_{kind}"]) == 0
    assert "largest difference" in capsys.readouterr().out


def test_cards_and_runs(resumed, capsys):
    assert main(["runs", "run", "tagger", "classifier"]) == 0
    assert "tagger" in capsys.readouterr().out
    for run in ("run", "tagger", "classifier"):
        assert main(["card", run]) == 0
