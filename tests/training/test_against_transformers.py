"""The loss of a champion as transformers measures it, and the verb that compares."""

from __future__ import annotations

import builtins
import json
import re
import shutil

import pytest

from tibert_keras.cli.main import main
from tibert_keras.errors import InputError
from tibert_keras.models.tibert_backbone import TibertBackbone
from tibert_keras.records.pipeline import Records
from tibert_keras.training import against_transformers as against_hugging_face
from tibert_keras.training.against_transformers import check_loss, hugging_face_loss


@pytest.fixture
def words(finished_run, sample_records):
    return [f"--model={finished_run}", f"--input_file={sample_records}/held_out/*.tf_record", "--against=huggingface"]


class TestAgainstHuggingFace:
    @pytest.fixture(autouse=True)
    def libraries(self):
        reason = "transformers and torch are the other side of this comparison"
        pytest.importorskip("torch", reason=reason)
        pytest.importorskip("transformers", reason=reason)

    def test_the_verb(self, words, capsys):
        assert main(["evaluate", *words]) == 0
        out = capsys.readouterr().out
        ours, theirs = (float(re.search(rf"^{name}: (.+)", out, re.M)[1]) for name in ("loss", "loss of transformers"))
        assert ours == pytest.approx(theirs, abs=1e-3)
        assert float(re.search("^difference: (.+)", out, re.M)[1]) < 1e-5

    def test_batches_do_not_matter(self, finished_run, sample_records):
        records = Records.find(f"{sample_records}/held_out/*.tf_record")
        losses = [hugging_face_loss(finished_run, records, batch_size=size) for size in (7, 1000)]
        assert losses[0] == pytest.approx(losses[1], abs=1e-5)

    def test_records_that_do_not_fit(self, finished_run, sample_records, tmp_path):
        records = Records.find(f"{sample_records}/held_out/*.tf_record")
        shutil.copytree(sample_records / "held_out", tmp_path / "records")
        manifest = tmp_path / "records/manifest.json"
        content = json.loads(manifest.read_text())
        manifest.write_text(json.dumps({**content, "tokenizer": {**content["tokenizer"], "sha256": "f00d"}}))
        with pytest.raises(InputError, match="The records were made with another tokenizer"):
            hugging_face_loss(finished_run, Records.find(f"{tmp_path}/records/*.tf_record"))
        TibertBackbone.from_preset("tibert_nano", vocabulary_size=400).save_to_preset(str(tmp_path / "encoder"))
        with pytest.raises(InputError, match="predicts no masked tokens. Received: '.*/encoder'"):
            hugging_face_loss(tmp_path / "encoder", records)

    def test_a_difference(self, words, capsys, monkeypatch):
        monkeypatch.setattr(against_hugging_face, "LOSS_TOLERANCE", -1.0)
        assert main(["evaluate", *words]) == 1
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("tibert evaluate")]
        assert "transformers does not reproduce the loss. Received: " in line


def test_without_the_libraries(words, capsys, monkeypatch):
    original = builtins.__import__

    def missing(name, *given, **named):
        if name == "torch":
            raise ImportError("No module named 'torch'")
        return original(name, *given, **named)

    monkeypatch.setattr(builtins, "__import__", missing)
    assert main(["evaluate", *words]) == 1
    captured = capsys.readouterr()
    line = captured.err.splitlines()[-1]
    assert captured.out == ""
    assert line.startswith("tibert evaluate: An evaluation against huggingface takes torch and transformers.")
    assert line.endswith("Run `pip install torch transformers`.")


@pytest.mark.parametrize("theirs", [1.0011, float("nan")])
def test_unequal_losses(theirs):
    check_loss(1.0, 1.0009, model="m")
    with pytest.raises(InputError, match="Received: 1.000000 here, .* there, for 'm'"):
        check_loss(1.0, theirs, model="m")
