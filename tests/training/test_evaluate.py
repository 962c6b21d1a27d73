"""The scores of a model on records, against plain NumPy and transformers, and which records do not fit a model."""

import builtins
import dataclasses
import json
import re
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.damage import flip_bit, set_value
from tibert_keras.cli.main import main
from tibert_keras.errors import InputError
from tibert_keras.models.tibert_backbone import TibertBackbone
from tibert_keras.models.tibert_masked_lm import TibertMaskedLM
from tibert_keras.models.tibert_masked_lm_preprocessor import TibertMaskedLMPreprocessor
from tibert_keras.models.tibert_tokenizer import TibertTokenizer
from tibert_keras.records.pipeline import Records
from tibert_keras.training import evaluate as evaluate_module
from tibert_keras.training.evaluate import (
    check_records,
    check_same_loss,
    evaluate,
    hugging_face_loss,
    reporting_damaged_records,
)

LENGTHS = {"max_seq_length": 32, "max_predictions_per_seq": 5}


@pytest.fixture(scope="module")
def model(finished_run) -> Any:
    return TibertMaskedLM.from_preset(f"{finished_run}/champion")


@pytest.fixture(scope="module")
def held_out(sample_records) -> Records:
    return Records.find(f"{sample_records}/held_out/*.tf_record")


def by_hand(model: TibertMaskedLM, records: Records) -> dict[str, float]:
    """All of it in one batch and in float64."""
    ((x, labels, weights),) = records.numpy_batches(records.num_examples)
    preprocessor, model.preprocessor = model.preprocessor, None
    logits = model.predict_on_batch(x).astype("float64")
    model.preprocessor = preprocessor
    mask = preprocessor.tokenizer.mask_token_id
    hidden = weights * (np.take_along_axis(x["token_ids"], x["mask_positions"], -1) == mask)
    log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    right = np.take_along_axis(log_probs, labels[..., None], -1)
    better = (log_probs > right).sum(-1)
    counts = np.bincount(labels[weights > 0])
    shares = counts[counts > 0] / counts.sum()
    scores = {
        "loss": -(weights * right[..., 0]).sum() / weights.sum(),
        "accuracy": (weights * (better == 0)).sum() / weights.sum(),
        "top_5_accuracy": (weights * (better < 5)).sum() / weights.sum(),
        "unigram_entropy": -(shares * np.log(shares)).sum(),
        "masked_tokens": int(weights.sum()),
        "hidden_loss": -(hidden * right[..., 0]).sum() / hidden.sum(),
        "hidden_accuracy": (hidden * (better == 0)).sum() / hidden.sum(),
        "hidden_top_5_accuracy": (hidden * (better < 5)).sum() / hidden.sum(),
        "hidden_tokens": int(hidden.sum()),
    }
    return {**scores, "nats_below_unigram": scores["unigram_entropy"] - scores["loss"]}


class TestEvaluate:
    # Whatever the batches: the last one is smaller, or all is in one.
    @pytest.mark.parametrize("batch_size", [50, pytest.param(1000, marks=pytest.mark.any_backend)])
    def test_by_hand(self, model, held_out, batch_size):
        assert held_out.num_examples % 50
        preprocessor = model.preprocessor
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            scores = evaluate(model, held_out, batch_size=batch_size)
        expected = by_hand(model, held_out)
        assert {name: scores[name] for name in expected} == pytest.approx(expected, abs=1e-5)
        assert set(scores) - set(expected) == {"syllable_accuracy", "syllable_top_5_accuracy", "hidden_syllables"}
        # Pieces may hold several syllables or parts of one.
        assert 0 < scores["hidden_syllables"] < scores["hidden_tokens"]
        assert 0 <= scores["syllable_accuracy"] <= scores["syllable_top_5_accuracy"] < 1
        assert 0 < expected["accuracy"] < expected["top_5_accuracy"] < 1
        assert model.preprocessor is preprocessor  # it still takes text

    @pytest.mark.any_backend
    def test_a_baseline_that_knows_the_text(self, model, held_out):
        scores = evaluate(model, held_out, baseline=held_out)
        for ours, theirs in (("hidden_", "baseline_"), ("syllable_", "baseline_syllable_")):
            assert scores[f"{ours}accuracy"] + 0.2 < scores[f"{theirs}accuracy"] < scores[f"{theirs}top_5_accuracy"] < 1
        assert scores["hidden_accuracy"] == evaluate(model, held_out)["hidden_accuracy"]

    def test_without_a_tokenizer(self, held_out):
        model = TibertMaskedLM.from_preset("tibert_nano", vocabulary_size=400)
        assert "hidden_loss" not in evaluate(model, held_out)
        with pytest.raises(InputError, match="a model without a preprocessor"):
            evaluate(model, held_out, baseline=held_out)

    def test_a_baseline_of_another_vocabulary(self, model, held_out, shared):
        with pytest.raises(InputError, match=r"vocabulary size 400"):
            evaluate(model, held_out, baseline=Records.find(f"{shared}/golden/records/records_a.tfrecord"))

    def test_another_vocabulary(self, held_out):
        model = TibertMaskedLM.from_preset("tibert_nano", vocabulary_size=399)
        with pytest.raises(InputError, match="vocabulary size=400 in the records of .*, 399 for the model"):
            evaluate(model, held_out)

    def test_another_vocabulary_that_no_manifest_tells_of(self, model, shared):
        with pytest.raises(InputError, match=r"token id \d{4} in .*vocabulary size 400"):
            evaluate(model, Records.find(f"{shared}/golden/records/records_a.tfrecord"))

    def test_a_damaged_record(self, model, own_records):
        index = flip_bit(Path(own_records.paths[0]))
        with pytest.raises(InputError, match=f"damaged at example {index}"):
            evaluate(model, own_records)

    @pytest.mark.parametrize(("name", "limit"), [("input_ids", 400), ("masked_lm_ids", 400), ("segment_ids", 2)])
    def test_what_no_manifest_tells_of_and_the_model_does_not_know(self, model, own_records, name, limit):
        (path,), last = map(Path, own_records.paths), own_records.num_examples - 1
        set_value(path, name, limit, index=last)
        path.with_name("manifest.json").unlink()
        records = Records.find(str(path))
        for call in (lambda: evaluate(model, records), lambda: read(check_records(records, model))):
            with pytest.raises(InputError, match=f"Example {last} of .*: {name} must be from 0 to {limit - 1}. Build"):
                call()

    def test_no_batch(self, model, held_out):
        with pytest.raises(InputError, match="batch_size=0"):
            evaluate(model, held_out, batch_size=0)


def read(records: Records) -> None:
    with reporting_damaged_records(None, records):
        for _ in records.evaluation_batches(8):
            pass


class TestReportingDamagedRecords:
    def test_whole(self, own_records):
        read(own_records)

    def test_a_flipped_bit(self, own_records):
        index = flip_bit(Path(own_records.paths[0]))
        with pytest.raises(InputError, match=f"damaged at example {index}. Received: '{own_records.paths[0]}'"):
            read(own_records)

    def test_a_file_that_is_cut_short(self, own_records):
        path = Path(own_records.paths[0])
        path.write_bytes(path.read_bytes()[:-7])
        with pytest.raises(InputError, match=f"damaged at example {own_records.num_examples - 1}"):
            read(own_records)

    def test_an_example_of_other_lengths(self, own_records, shared):
        """Without a manifest only the first example has been looked at."""
        path = Path(own_records.paths[0])
        with path.open("ab") as file:
            file.write((shared / "golden/records/records_a.tfrecord").read_bytes())
        with pytest.raises(InputError, match=f"Example {own_records.num_examples} of .*32 tokens and 5 predictions"):
            read(dataclasses.replace(own_records, num_examples=own_records.num_examples + 1))

    def test_other_errors_stay_what_they_are(self, own_records):
        with pytest.raises(ZeroDivisionError), reporting_damaged_records(own_records):
            raise ZeroDivisionError


class TestCheckRecords:
    def model(self, spm_model: str, **options) -> TibertMaskedLM:
        preprocessor = TibertMaskedLMPreprocessor(TibertTokenizer(spm_model))
        return TibertMaskedLM.from_preset("tibert_nano", preprocessor=preprocessor, **options)

    def test_they_belong_together(self, own_records, spm_models):
        check_records(own_records, self.model(spm_models["bpe"]), **LENGTHS)

    def test_another_tokenizer_of_the_same_size(self, own_records, spm_models):
        with pytest.raises(InputError, match="another tokenizer. Received: sha256 [0-9a-f]{64}, but [0-9a-f]{64}"):
            check_records(own_records, self.model(spm_models["unigram"]), **LENGTHS)

    def test_another_vocabulary(self, own_records):
        model = TibertMaskedLM.from_preset("tibert_nano", vocabulary_size=399)
        with pytest.raises(InputError, match="vocabulary size=400 in the records of .*, 399 for the model"):
            check_records(own_records, model, **LENGTHS)

    def test_a_model_of_fewer_positions(self, own_records, spm_models):
        with pytest.raises(InputError, match="max_seq_length=1024, positions=512"):
            check_records(own_records, self.model(spm_models["bpe"]), max_seq_length=1024, max_predictions_per_seq=5)


@pytest.fixture
def words(finished_run, sample_records):
    # The preset alone: scores of a run are noted in its folder, which other tests share.
    return [
        f"--model={finished_run}/champion",
        f"--input_file={sample_records}/held_out/*.tf_record",
        "--against=huggingface",
    ]


@pytest.mark.any_backend
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
        monkeypatch.setattr(evaluate_module, "LOSS_TOLERANCE", -1.0)
        assert main(["evaluate", *words]) == 1
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("tibert evaluate")]
        assert "transformers does not reproduce the loss. Received: " in line


def test_in_bfloat16(model, held_out, words, capsys):
    """Rounded scores; transformers computes in float32."""
    words, rounded = words[:2], "--mixed_precision=bfloat16"
    assert main(["evaluate", *words, rounded]) == 0
    loss = float(re.search(r"^loss: (.+)", capsys.readouterr().out, re.M)[1])
    assert 0 < abs(loss - evaluate(model, held_out)["loss"]) < 0.01
    assert main(["evaluate", *words, rounded, "--against=huggingface"]) == 1
    assert "Received: against='huggingface', mixed_precision='bfloat16'." in capsys.readouterr().err


@pytest.mark.any_backend
def test_a_quantized_model_against_transformers(sample_records, tmp_path, capsys):
    """It has no weights there, and is refused before it is evaluated."""
    model = TibertMaskedLM.from_preset("tibert_nano", vocabulary_size=50)
    model.quantize("int8")
    model.save_to_preset(str(tmp_path))
    records = f"--input_file={sample_records}/held_out/*.tf_record"
    assert main(["evaluate", f"--model={tmp_path}", records, "--against=huggingface"]) == 1
    out, err = capsys.readouterr()
    assert out == "" and "A quantized model keeps its precision" in err


@pytest.mark.any_backend
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


@pytest.mark.any_backend
@pytest.mark.parametrize("theirs", [1.0011, float("nan")])
def test_unequal_losses(theirs):
    check_same_loss(1.0, 1.0009, model="m")
    with pytest.raises(InputError, match="Received: 1.000000 here, .* there, for 'm'"):
        check_same_loss(1.0, theirs, model="m")
