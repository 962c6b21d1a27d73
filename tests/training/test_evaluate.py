"""The scores of a model on records, against plain NumPy."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.damage import flip_bit
from tibert_keras.errors import InputError
from tibert_keras.models.tibert_masked_lm import TibertMaskedLM
from tibert_keras.records.pipeline import Records
from tibert_keras.training.evaluate import evaluate


@pytest.fixture(scope="module")
def model(finished_run) -> Any:
    return TibertMaskedLM.from_preset(f"{finished_run}/champion")


@pytest.fixture(scope="module")
def held_out(sample_records) -> Records:
    return Records.find(f"{sample_records}/held_out/*.tf_record")


def by_hand(model: TibertMaskedLM, records: Records) -> dict[str, float]:
    """All of it in one batch and in float64."""
    ((x, labels, weights),) = records.evaluation_batches(records.num_examples).as_numpy_iterator()
    preprocessor, model.preprocessor = model.preprocessor, None
    logits = model.predict_on_batch(x).astype("float64")
    model.preprocessor = preprocessor
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
    }
    return {**scores, "nats_below_unigram": scores["unigram_entropy"] - scores["loss"]}


class TestEvaluate:
    # Whatever the batches: the last one is smaller, or all is in one.
    @pytest.mark.parametrize("batch_size", [50, 1000])
    def test_by_hand(self, model, held_out, batch_size):
        assert held_out.num_examples % 50
        preprocessor = model.preprocessor
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            scores = evaluate(model, held_out, batch_size=batch_size)
        expected = by_hand(model, held_out)
        assert scores == pytest.approx(expected, abs=1e-5)
        assert 0 < expected["accuracy"] < expected["top_5_accuracy"] < 1
        assert model.preprocessor is preprocessor  # it still takes text

    def test_another_vocabulary(self, held_out):
        model = TibertMaskedLM.from_preset("tibert_nano", vocabulary_size=401)
        with pytest.raises(InputError, match="vocabulary size=400 in the records of .*, 401 for the model"):
            evaluate(model, held_out)

    def test_another_vocabulary_that_no_manifest_tells_of(self, model, shared):
        with pytest.raises(InputError, match=r"token id \d{4} in .*vocabulary size 400"):
            evaluate(model, Records.find(f"{shared}/golden/records/records_a.tfrecord"))

    def test_a_damaged_record(self, model, own_records):
        index = flip_bit(Path(own_records.paths[0]))
        with pytest.raises(InputError, match=f"damaged at example {index}"):
            evaluate(model, own_records)

    def test_no_batch(self, model, held_out):
        with pytest.raises(InputError, match="batch_size=0"):
            evaluate(model, held_out, batch_size=0)
