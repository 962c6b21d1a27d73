"""A step in micro-batches is that of the whole batch: weights, logs, replicas, errors.

As a script, `test_gradient_accumulation.py MODEL FILE`, it trains on one device, and in micro-batches on two: a process
of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import tree

from tests.support.base import TestCase
from tibert_keras.errors import InputError
from tibert_keras.models.tibert_backbone import TibertBackbone
from tibert_keras.models.tibert_masked_lm import TibertMaskedLM
from tibert_keras.models.tibert_pretraining import TibertPretraining
from tibert_keras.optimizers.lamb import LAMB
from tibert_keras.optimizers.losses import MaskedLanguageModelLoss
from tibert_keras.optimizers.schedules import WarmupPolynomialDecay

MODELS = {cls.__name__: cls for cls in (TibertMaskedLM, TibertPretraining)}
STEPS, BATCH, LENGTH, PREDICTIONS = 3, 16, 10, 3
PARTS = 4
# One layer, for the sake of the time XLA takes.
SIZES = {"num_layers": 1, "num_heads": 2, "embedding_dim": 8, "hidden_dim": 16, "intermediate_dim": 32}


def data(cls):
    """Batches of which part 0 of 4 has no masked token, and the others unequally many."""
    random, rows = np.random.default_rng(0), STEPS * BATCH
    ids = random.integers(5, 50, (rows, LENGTH))
    features = {
        "token_ids": ids,
        "segment_ids": np.zeros_like(ids),
        "padding_mask": np.ones_like(ids),
        "mask_positions": random.integers(0, LENGTH, (rows, PREDICTIONS)),
    }
    labels = random.integers(5, 50, (rows, PREDICTIONS))
    weights = (np.arange(PREDICTIONS) < random.integers(0, PREDICTIONS + 1, (rows, 1))).astype("float32")
    weights[::PARTS], weights[1::PARTS] = 0, 1
    if cls is TibertMaskedLM:
        return features, labels, weights
    order, some = random.integers(0, 2, rows), (random.random(rows) < 0.7).astype("float32")
    return features, {"masked_lm": labels, "sentence_order": order}, {"masked_lm": weights, "sentence_order": some}


def train(
    cls,
    parts=1,
    *,
    batch_size=BATCH,
    optimizer_parts=None,
    jit_compile="auto",
    rematerialize=False,
    scope=None,
    **sizes,
):
    """Train with LAMB, at work in clipping and warm-up; returns the model, and the logs."""
    keras.utils.set_random_seed(0)
    with scope or nullcontext():
        model = cls(TibertBackbone(vocabulary_size=50, **{**SIZES, **sizes}))
        model.compile(
            LAMB(WarmupPolynomialDecay(0.01, 20, 2), gradient_accumulation_steps=optimizer_parts),
            gradient_accumulation_steps=parts,
            jit_compile=jit_compile,
            rematerialize=rematerialize,
        )
    x, y, weights = data(cls)
    history = model.fit(x, y, sample_weight=weights, batch_size=batch_size, shuffle=False, verbose=0).history
    return model, history


class TestGradientAccumulation(TestCase):
    @pytest.mark.parametrize("cls", MODELS.values())
    @pytest.mark.parametrize("jit_compile", [False, True])
    def test_same_as_the_whole_batch(self, cls, jit_compile):
        whole, logs = train(cls, jit_compile=jit_compile)
        model, logs_of_parts = train(cls, PARTS, jit_compile=jit_compile)
        self.assert_close(logs_of_parts, logs, atol=2e-6)
        self.assert_close(model.get_weights(), whole.get_weights(), atol=3e-6)
        self.assert_close(float(model.optimizer.gradient_norm), float(whole.optimizer.gradient_norm), atol=1e-5)
        assert int(model.optimizer.iterations) == STEPS

    def test_the_mean_over_means_is_another_thing(self):
        """What the argument of Keras's optimizers gives fails the test above by far."""
        whole, _ = train(TibertMaskedLM)
        # In batches of consecutive rows, of which the parts are no more alike.
        model, _ = train(TibertMaskedLM, batch_size=BATCH // PARTS, optimizer_parts=PARTS)
        pairs = zip(model.get_weights(), whole.get_weights(), strict=True)
        assert max(np.abs(a - b).max() for a, b in pairs) > 1e-3

    def test_in_mixed_precision(self):
        kwargs = {"jit_compile": True, "dtype": "mixed_bfloat16"}
        (whole, logs), (model, logs_of_parts) = (train(TibertMaskedLM, parts, **kwargs) for parts in (1, PARTS))
        self.assert_close(logs_of_parts["loss"], logs["loss"], atol=1e-2)
        # Not the weights: where a gradient is small, rounding it to bfloat16 turns an update of LAMB around.
        norms = [float(each.optimizer.gradient_norm) for each in (model, whole)]
        assert norms[0] == pytest.approx(norms[1], rel=0.02)
        assert {weight.dtype for weight in model.weights} == {"float32"}

    def test_each_part_draws_its_own_dropout(self):
        model, logs = train(TibertMaskedLM, PARTS, dropout=0.5)
        assert np.isfinite(logs["loss"][0])
        seeds = [int(variable[1]) for variable in model.variables if variable.path.startswith("seed")]
        seeds += [
            int(layer.seed_generator.state[1]) for layer in model._flatten_layers() if hasattr(layer, "seed_generator")
        ]
        assert max(seeds) >= STEPS * PARTS

    def test_what_a_loss_does_not_reach_stays(self):
        models = []
        for parts in (1, PARTS):
            keras.utils.set_random_seed(0)
            model = TibertPretraining.from_preset("tibert_nano", vocabulary_size=50)
            loss = {"masked_lm": MaskedLanguageModelLoss(), "sentence_order": None}
            model.compile(LAMB(0.01), loss, weighted_metrics=None, gradient_accumulation_steps=parts)
            x, y, weights = data(TibertPretraining)
            model.fit(x, y, sample_weight=weights, batch_size=BATCH, shuffle=False, verbose=0)
            models.append(model)
        self.assert_close(models[1].get_weights(), models[0].get_weights(), atol=3e-6)

    def test_saving(self, tmp_path):
        model, _ = train(TibertMaskedLM, PARTS)
        model.save(tmp_path / "model.keras")
        assert keras.saving.load_model(tmp_path / "model.keras").gradient_accumulation_steps == PARTS

    # === Refused ===
    def test_no_parts(self):
        with pytest.raises(InputError, match="Received: gradient_accumulation_steps=0"):
            train(TibertMaskedLM, 0)

    def test_parts_of_unequal_size(self):
        model = TibertMaskedLM.from_preset("tibert_nano", vocabulary_size=50)
        model.compile(gradient_accumulation_steps=3)
        x, y, _ = tree.map_structure(lambda values: values[:BATCH], data(TibertMaskedLM))
        with pytest.raises(InputError, match="gradient_accumulation_steps=3, and a batch of 16"):
            model.train_on_batch(x, y)

    def test_one_loss_for_two_outputs(self):
        model = TibertPretraining.from_preset("tibert_nano", vocabulary_size=50)
        model.compile(loss=MaskedLanguageModelLoss(), weighted_metrics=None, gradient_accumulation_steps=2)
        x, y, _ = tree.map_structure(lambda values: values[:BATCH], data(TibertPretraining))
        with pytest.raises(InputError, match="a loss of its own for each output. Received: .*Give a dict"):
            model.train_on_batch(x, y)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_replicas(name, tmp_path):
    """In micro-batches on two devices, computing layers again, a step is what it is as a whole on one."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
        "CUDA_VISIBLE_DEVICES": "",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
    }
    subprocess.run([sys.executable, __file__, name, tmp_path / "runs.npz"], env=environment, check=True)
    runs = np.load(tmp_path / "runs.npz")
    for quantity in ("logs", "weights"):
        np.testing.assert_allclose(runs[f"two_{quantity}"], runs[f"one_{quantity}"], rtol=0, atol=3e-6)


def two_devices():
    """The scope of two replicas on the CPU; on JAX it is entered for good."""
    if keras.backend.backend() == "jax":
        devices = keras.distribution.list_devices()
        assert len(devices) == 2
        keras.distribution.set_distribution(keras.distribution.DataParallel(devices=devices))
        return nullcontext()
    import tensorflow as tf

    return tf.distribute.MirroredStrategy(["/cpu:0", "/cpu:1"]).scope()


if __name__ == "__main__":
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
        )
    runs = {}
    for devices, parts in (("one", 1), ("two", PARTS)):
        options = {"scope": two_devices(), "rematerialize": True} if devices == "two" else {}
        model, logs = train(MODELS[sys.argv[1]], parts, **options)
        runs[f"{devices}_logs"] = np.array([logs[key] for key in sorted(logs)])
        runs[f"{devices}_weights"] = np.concatenate([np.ravel(weight) for weight in model.get_weights()])
    np.savez(sys.argv[2], **runs)
