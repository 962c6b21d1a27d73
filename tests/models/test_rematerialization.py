"""Layers computed again in the backward pass: same numbers, same names; replicas are tested with accumulation."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops

from tests.support.base import TestCase
from tests.support.micro_batches import PARTS, train
from tibert_keras.models.tibert_masked_lm import TibertMaskedLM
from tibert_keras.models.tibert_pretraining import TibertPretraining

# JAX takes far longer without XLA, TensorFlow far longer with it: what is not about it goes the shorter way.
ON_JAX = keras.backend.backend() == "jax"


class TestRematerialization(TestCase):
    @pytest.mark.parametrize("cls, parts", [(TibertMaskedLM, 1), (TibertPretraining, PARTS)])
    @pytest.mark.parametrize("jit_compile", [False, True])
    def test_changes_no_number(self, cls, parts, jit_compile):
        """Not even with dropout, whose draws are the same the second time."""
        kept, again = (
            train(cls, parts, jit_compile=jit_compile, rematerialize=rematerialize, dropout=0.1)
            for rematerialize in (False, True)
        )
        self.assert_close(again[1], kept[1], atol=2e-6)
        assert [weight.path for weight in again[0].weights] == [weight.path for weight in kept[0].weights]
        self.assert_close(again[0].get_weights(), kept[0].get_weights(), atol=3e-6)
        seeds = [
            [ops.convert_to_numpy(v) for v in model.variables if v.dtype != "float32"] for model in (again[0], kept[0])
        ]
        assert len(seeds[0]) > 1
        self.assert_close(*seeds, atol=0)

    def test_in_mixed_precision(self):
        kept, again = (
            train(TibertMaskedLM, rematerialize=rematerialize, dtype="mixed_bfloat16", jit_compile=ON_JAX)
            for rematerialize in (False, True)
        )
        self.assert_close(again[1], kept[1], atol=1e-3)
        assert float(again[0].optimizer.gradient_norm) == pytest.approx(
            float(kept[0].optimizer.gradient_norm), rel=0.01
        )

    def test_every_call_is_computed_again(self, monkeypatch):
        if keras.backend.backend() != "tensorflow":
            pytest.skip("JAX traces a layer once for both passes")
        calls = []
        model, _ = train(TibertMaskedLM, rematerialize=True, num_layers=3, jit_compile=ON_JAX)
        layer = model.backbone.transformer_layers[0][0]
        attention = layer._self_attention_layer
        monkeypatch.setattr(attention, "call", lambda *a, f=attention.call, **k: calls.append(1) or f(*a, **k))
        model.make_train_function(force=True)
        model.train_on_batch(*one_batch())
        # The last layer, of which little is computed, keeps what it has.
        assert len(calls) == 2 * 2 + 1

    def test_it_is_the_step_s_affair(self, tmp_path):
        model, _ = train(TibertMaskedLM, rematerialize=True, jit_compile=ON_JAX)
        model.save(tmp_path / "model.keras")
        assert keras.saving.load_model(tmp_path / "model.keras").rematerialize
        model.save_to_preset(str(tmp_path / "preset"))
        assert not TibertMaskedLM.from_preset(str(tmp_path / "preset")).rematerialize
        layer = model.backbone.transformer_layers[0][0]
        assert "call" in vars(layer)
        model.compile()
        assert "call" not in vars(layer)


def one_batch():
    ids = np.ones((2, 4), "int32")
    features = {"token_ids": ids, "segment_ids": 0 * ids, "padding_mask": ids, "mask_positions": ids[:, :1]}
    return features, ids[:, :1]
