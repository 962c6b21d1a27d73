"""The callback that writes a SavedModel of each new best."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest

from tibert_keras.errors import InputError
from tibert_keras.models.tibert_backbone import TibertBackbone
from tibert_keras.models.tibert_masked_lm import TibertMaskedLM
from tibert_keras.models.tibert_pretraining import TibertPretraining
from tibert_keras.models.tibert_text_classifier import TibertTextClassifier
from tibert_keras.runs.history import History
from tibert_keras.saved_model.export import SavedModelOfBest
from tibert_keras.saved_model.precision import compare_precision
from tibert_keras.training.pretrain import pretrain

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="SavedModels are TensorFlow's")


def test_each_new_best_of_a_run(run_config, tmp_path, monkeypatch):
    steps = []
    monkeypatch.setattr(
        "tibert_keras.saved_model.export.export_saved_model",
        lambda model, folder, **_: steps.append((json.loads((tmp_path / "champion.json").read_text())["step"], folder)),
    )
    # A learning rate at which the loss goes up and down.
    pretrain(run_config(tmp_path, learning_rate=0.3, save_checkpoints_steps=2), callbacks=[SavedModelOfBest(tmp_path)])
    losses = [(row["loss"], row["step"]) for row in History(tmp_path).rows]
    best = [step for index, (loss, step) in enumerate(losses) if (loss, step) == min(losses[: index + 1])]
    assert steps == [(step, f"{tmp_path}/saved_model") for step in best]
    assert 1 < len(best) < len(losses)


class TestInFit:
    """In plain `fit()`, whose callbacks are called here without a training."""

    @pytest.fixture
    def exported_models(self, monkeypatch):
        models = []

        def export(model, folder, **options):
            models.append((model, str(folder), options))
            Path(folder).mkdir(parents=True)

        monkeypatch.setattr("tibert_keras.saved_model.export.export_saved_model", export)
        return models

    @pytest.mark.parametrize("kind", [TibertMaskedLM, TibertPretraining, TibertTextClassifier])
    def test_each_new_best(self, kind, exported_models, small_preset, tmp_path):
        """A copy in float32 with a tokenizer, for the masked tokens alone, in a folder of its own."""
        preprocessor = TibertMaskedLM.from_preset(small_preset).preprocessor
        options = {"labels": ["a", "b"]} if kind is TibertTextClassifier else {}
        model = kind(TibertBackbone.from_preset(small_preset, dtype="mixed_bfloat16"), **options)
        best = SavedModelOfBest(tmp_path, versioned=True, preprocessor=preprocessor, top_k=3)
        best.set_model(model)
        best.on_train_begin()
        for step, loss in enumerate([3.0, 4.0, 2.0]):
            best.record(step, {"loss": loss})
        (first, _, _), (second, folder, options) = exported_models
        assert folder == f"{tmp_path}/saved_model/2"
        assert options == {"top_k": 3, "description": f"{tmp_path.name}, step 2"}
        assert type(second) is (TibertTextClassifier if kind is TibertTextClassifier else TibertMaskedLM)
        assert second.backbone.token_embedding.compute_dtype == "float32"
        assert second.preprocessor is preprocessor and first is not second
        weights = {weight.path: weight for weight in model.weights}
        for weight in second.weights:
            np.testing.assert_array_equal(weight, weights[weight.path], err_msg=weight.path)

    def test_a_quantized_model_stays_so(self, exported_models, small_preset, tmp_path, monkeypatch):
        model = TibertMaskedLM.from_preset(small_preset)
        model.quantize("int8")
        best = SavedModelOfBest(tmp_path)
        best.set_model(model)
        best.on_train_begin()
        best.record(1, {"loss": 1.0})
        ((copy, _, _),) = exported_models
        for theirs, ours in zip(copy.weights, model.weights, strict=True):
            np.testing.assert_array_equal(theirs, ours, err_msg=ours.path)
        monkeypatch.setattr("tibert_keras.saved_model.precision._figures", lambda *_: {"loss": 0.5})
        report, _ = compare_precision(model, "float16", [])
        assert "loss: 0.5000 in its own precision, 0.5000 in float16" in report

    def test_refused_before_the_training(self, tmp_path):
        best = SavedModelOfBest(tmp_path)
        best.set_model(TibertMaskedLM(TibertBackbone.from_preset("tibert_nano", vocabulary_size=50)))
        with pytest.raises(InputError, match="takes only ids. Received: preprocessor=None"):
            best.on_train_begin()
        (tmp_path / "saved_model").mkdir()
        (tmp_path / "saved_model/other").write_text("")
        best.preprocessor = True
        with pytest.raises(InputError, match="holds no SavedModel"):
            best.on_train_begin()
