"""The scripts to start from run, and do what they say."""

import ast
import re
import runpy
import shlex
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np
import pytest

from tests.support.preloaded import Command
from tibert_keras import TibertBackbone, TibertMaskedLM
from tibert_keras.cli.flags import parse
from tibert_keras.cli.main import VERBS, split_verb
from tibert_keras.corpus import sample
from tibert_keras.corpus.sample import sample_documents
from tibert_keras.finetuning.text import read_labelled
from tibert_keras.runs.checkpoints import Checkpoints
from tibert_keras.runs.history import History

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def run(name: str, monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", [name, *words])
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")


@pytest.mark.slow
def test_finetune_a_tagger(monkeypatch, capsys):
    run("finetune_a_tagger.py", monkeypatch)
    *_, last = capsys.readouterr().out.splitlines()
    assert last == "ཀུན་དགའ་བོ་|PROPN ཡིས་|ADP དགེ་སློང་|NOUN ལ་|ADP མེ་ཏོག་|NOUN ཕུལ|VERB །|PUNCT"


@pytest.mark.slow
def test_train_on_your_own_text(monkeypatch, tmp_path, capsys):
    """On a tenth of the text."""
    monkeypatch.setattr(sample, "sample_documents", lambda num_documents: sample_documents(num_documents=20))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    run("train_on_your_own_text.py", monkeypatch)
    *_, last = capsys.readouterr().out.splitlines()
    filled, pieces, probabilities = re.fullmatch(r"(.+) (\[.*\]) (\[.*\])", last).groups()
    before, _, after = "བཅོམ་ལྡན་[MASK]ལ་ཕྱག་འཚལ་ལོ།".partition("[MASK]")
    assert filled.startswith(before) and filled.endswith(after)
    assert ast.literal_eval(pieces)[0].strip("▁་") in filled.removeprefix(before)
    found = ast.literal_eval(probabilities)
    assert len(found) == 5 and found == sorted(found, reverse=True) and 0 < sum(found) <= 1
    (model,) = tmp_path.glob("*/model")
    assert TibertMaskedLM.from_preset(model).preprocessor.tokenizer.vocabulary_size() == 800


@pytest.mark.slow
def test_head_of_your_own(monkeypatch, capsys):
    """On a quarter of the text. Who always guesses the median is off by 1.6."""
    monkeypatch.setattr(sample, "sample_documents", lambda num_documents: sample_documents(num_documents=8))
    run("head_of_your_own.py", monkeypatch)
    *_, last = capsys.readouterr().out.splitlines()
    assert float(re.fullmatch(r"guessed the number of syllables within (\S+) on average", last)[1]) < 1.0


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow's strategies")
def test_pretrain_in_keras(tmp_path):
    """On two devices, in a process of its own: devices are made before TensorFlow starts."""
    run = tmp_path / "run"
    job = Command([EXAMPLES / "pretrain_in_keras.py", run, "--cpu_devices=2", "--steps=50"], tmp_path)
    assert job.wait() == 0, job.log
    *_, last = job.output.splitlines()
    assert re.match(f"{run}/saved_model/1( [^ ]+){{5}}$", last)
    (row,) = History(run).rows
    assert row["step"] == 50 and row["loss"] < 7
    assert Checkpoints(run).last_whole() == 50


def test_over_a_pretrained_encoder(small_preset):
    example = runpy.run_path(str(EXAMPLES / "head_of_your_own.py"))
    tokenizer, backbone = example["make_parts"](small_preset, [])
    assert tokenizer.vocabulary_size() == backbone.vocabulary_size == 400
    expected = TibertBackbone.from_preset(small_preset).get_weights()
    for ours, theirs in zip(backbone.get_weights(), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert example["add_head"](backbone).output_shape == (None, 1)


def test_deepen_a_model(monkeypatch, tmp_path, small_preset):
    """Twice the layers, and the same predictions."""
    rng = np.random.default_rng(0)
    config = {**TibertBackbone.from_preset(small_preset).get_config(), "num_layers": 2}
    TibertMaskedLM(TibertBackbone.from_config(config)).save_to_preset(tmp_path / "shared_layers")
    model = TibertMaskedLM(TibertBackbone.from_config({**config, "num_groups": 2}))
    model.set_weights([weight + rng.normal(size=weight.shape, scale=0.1) for weight in model.get_weights()])
    model.save_to_preset(tmp_path / "model")
    run("deepen_a_model.py", monkeypatch, f"{tmp_path}/model", f"{tmp_path}/deeper")
    deeper = TibertMaskedLM.from_preset(f"{tmp_path}/deeper")
    assert deeper.backbone.num_layers == 4
    inputs = {
        "token_ids": rng.integers(0, config["vocabulary_size"], (2, 12)), "padding_mask": np.ones((2, 12), "int32"),
        "segment_ids": np.zeros((2, 12), "int32"), "mask_positions": np.array([[1, 5], [2, 7]]),
    }  # fmt: skip
    assert np.abs(deeper.predict(inputs, verbose=0) - model.predict(inputs, verbose=0)).max() < 1e-5
    with pytest.raises(SystemExit, match="num_groups=1"):
        run("deepen_a_model.py", monkeypatch, f"{tmp_path}/shared_layers", f"{tmp_path}/other")


def test_classify_sections(monkeypatch, tmp_path, capsys):
    """Two sections with a volume for each part, one without; what it says to do next is a command."""
    volumes = {
        11: "འདུལ་བ།_ད",
        12: "འདུལ་བ།_ན",
        13: "འདུལ་བ།_པ",
        60: "མདོ་སྡེ།_མ",
        61: "མདོ་སྡེ།_ཙ",
        62: "མདོ་སྡེ།_ཚ",
        103: "དཀར་ཆག",
    }
    for number, name in volumes.items():
        text = "\n\n".join("\n".join(document) for document in sample_documents(seed=number, num_documents=30))
        (tmp_path / f"{number:03}_{name}.txt").write_text(text, encoding="utf-8")
    run("classify_sections.py", monkeypatch, f"{tmp_path}/*.txt", f"{tmp_path}/tables")
    for number, part in ((11, "train"), (12, "validation"), (13, "test")):
        texts = read_labelled(f"{tmp_path}/tables/{part}.tsv")
        assert {text.label for text in texts} == {"འདུལ་བ", "མདོ་སྡེ"}
        # Whole stretches of that volume alone, and the last of a document if it is long enough.
        source = re.sub(r"\s", "", (tmp_path / f"{number:03}_{volumes[number]}.txt").read_text(encoding="utf-8"))
        own = [text.segments[0] for text in texts if text.label == "འདུལ་བ"]
        assert len(own) > 1 and all(re.sub(r"\s", "", text) in source for text in own)
        assert {text.count("་") >= 49 for text in own} == {True} and max(text.count("་") for text in own) == 100
    verb, words = split_verb(shlex.split(capsys.readouterr().out)[1:], VERBS)
    config = parse(VERBS[verb], words, name=verb)
    assert (verb, config.test_file) == ("finetune text", f"{tmp_path}/tables/test.tsv")
