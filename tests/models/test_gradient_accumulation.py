"""A step in micro-batches is that of the whole batch: weights, logs, replicas, errors."""

import functools
import os

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import tree

from tests.support import micro_batches
from tests.support.base import EAGERLY, ON_JAX, TestCase
from tests.support.micro_batches import BATCH, PARTS, SIZES, STEPS, data, flat, train
from tests.support.preloaded import Command
from tests.support.tiny_models import tiny
from tibert_keras import TibertTextClassifier, TibertTextClassifierPreprocessor, TibertTokenizer
from tibert_keras.errors import InputError
from tibert_keras.models.tibert_backbone import TibertBackbone
from tibert_keras.models.tibert_masked_lm import TibertMaskedLM
from tibert_keras.models.tibert_pretraining import TibertPretraining
from tibert_keras.optimizers.lamb import LAMB
from tibert_keras.optimizers.losses import MaskedLanguageModelLoss


@functools.lru_cache
def whole_batch(cls):
    """A training without micro-batches, which tests only read."""
    return train(cls)


class TestGradientAccumulation(TestCase):
    @pytest.mark.parametrize("cls, jit_compile", [(TibertMaskedLM, "auto"), (TibertPretraining, True)])
    def test_same_as_the_whole_batch(self, cls, jit_compile):
        whole, logs = whole_batch(cls)
        model, logs_of_parts = train(cls, PARTS, jit_compile=jit_compile)
        self.assert_close(logs_of_parts, logs, atol=2e-6)
        self.assert_close(model.get_weights(), whole.get_weights(), atol=3e-6)
        self.assert_close(float(model.optimizer.gradient_norm), float(whole.optimizer.gradient_norm), atol=1e-5)
        assert int(model.optimizer.iterations) == STEPS

    def test_the_mean_over_means_is_another_thing(self):
        """What the argument of Keras's optimizers gives fails the test above by far."""
        whole, _ = whole_batch(TibertMaskedLM)
        # In batches of consecutive rows, of which the parts are no more alike.
        model, _ = train(TibertMaskedLM, batch_size=BATCH // PARTS, optimizer_parts=PARTS)
        pairs = zip(model.get_weights(), whole.get_weights(), strict=True)
        assert max(np.abs(a - b).max() for a, b in pairs) > 1e-3

    @pytest.mark.parametrize("cls", [TibertMaskedLM, TibertPretraining])
    def test_a_batch_that_is_no_multiple(self, cls):
        """As the last one of an epoch: 16 rows in 3 parts, and with `fit` not knowing how many there are."""
        whole, logs = whole_batch(cls)
        model, logs_of_parts = train(cls, 3)
        self.assert_close(logs_of_parts, logs, atol=2e-6)
        self.assert_close(model.get_weights(), whole.get_weights(), atol=3e-6)

    def test_in_mixed_precision(self):
        (whole, logs), (model, logs_of_parts) = (
            train(TibertMaskedLM, parts, dtype="mixed_bfloat16") for parts in (1, PARTS)
        )
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
            model = TibertPretraining(TibertBackbone(vocabulary_size=50, **SIZES))
            loss = {"masked_lm": MaskedLanguageModelLoss(), "sentence_order": None}
            model.compile(LAMB(0.01), loss, weighted_metrics=None, gradient_accumulation_steps=parts, **EAGERLY)
            x, y, weights = data(TibertPretraining)
            model.fit(x, y, sample_weight=weights, batch_size=BATCH, shuffle=False, verbose=0)
            models.append(model)
        self.assert_close(models[1].get_weights(), models[0].get_weights(), atol=3e-6)

    def test_saving(self, tmp_path):
        model = TibertMaskedLM(tiny())
        model.compile(gradient_accumulation_steps=PARTS)
        model.optimizer.build(model.trainable_variables)
        model.save(tmp_path / "model.keras")
        assert keras.saving.load_model(tmp_path / "model.keras").gradient_accumulation_steps == PARTS

    # === Refused ===
    def test_no_parts(self):
        with pytest.raises(InputError, match="Received: gradient_accumulation_steps=0"):
            train(TibertMaskedLM, 0)

    def test_parts_of_unequal_size(self):
        model = TibertMaskedLM.from_preset("tibert_nano", vocabulary_size=50)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(loss=loss, gradient_accumulation_steps=3)
        x, y, _ = tree.map_structure(lambda values: values[:BATCH], data(TibertMaskedLM))
        with pytest.raises(InputError, match="Received: a batch of 16. Give a multiple of 3"):
            model.train_on_batch(x, y)

    def test_a_short_last_batch(self, spm_models):
        """Of any task; under a loss of Keras's own, which would count rows that fill it up, it is refused first."""
        tokenizer, texts = TibertTokenizer(spm_models["bpe"]), ["ཆོས་ལ།", "བཀྲ་ཤིས།", "ཀ།", "ཁ།", "ག།"]
        options = {"labels": ["a", "b"], "preprocessor": TibertTextClassifierPreprocessor(tokenizer, 8)}
        classifier = TibertTextClassifier(tiny(vocabulary_size=400, num_layers=1), dropout=0.0, **options)
        classifier.compile(keras.optimizers.SGD(0.1), gradient_accumulation_steps=2, jit_compile=ON_JAX)
        with pytest.raises(InputError, match="also the last .* Received: a batch of 1. Give a multiple of 2"):
            classifier.fit(texts, ["a", "b", "a", "b", "a"], batch_size=4, verbose=0)
        batches = tf.data.Dataset.from_tensor_slices((texts, ["a", "b", "a", "b", "a"])).batch(4)
        with pytest.raises(InputError, match="also the last .* Received: .*1.*"):
            classifier.fit(batches, verbose=0)
        whole = TibertTextClassifier.from_config(classifier.get_config())
        whole.set_weights(classifier.get_weights())
        whole.compile(keras.optimizers.SGD(0.1), jit_compile=ON_JAX)
        for model in (classifier, whole):
            ids = classifier.preprocessor(texts[:4])
            model.fit(ids, np.array([0, 1, 1, 1]), batch_size=4, shuffle=False, verbose=0)
        self.assert_close(classifier.get_weights(), whole.get_weights(), atol=1e-6)

    def test_one_loss_for_two_outputs(self):
        model = TibertPretraining.from_preset("tibert_nano", vocabulary_size=50)
        model.compile(loss=MaskedLanguageModelLoss(), weighted_metrics=None, gradient_accumulation_steps=2)
        x, y, _ = tree.map_structure(lambda values: values[:BATCH], data(TibertPretraining))
        with pytest.raises(InputError, match="a loss of its own for each output. Received: .*Give a dict"):
            model.train_on_batch(x, y)


@pytest.mark.slow
def test_replicas(tmp_path):
    """In micro-batches on two devices, computing layers again, a step is what it is as a whole on one."""
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=2"
    job = Command([micro_batches.__name__, tmp_path / "run.npz"], tmp_path, {**os.environ, "XLA_FLAGS": flags})
    assert job.wait() == 0, job.log
    run = np.load(tmp_path / "run.npz")
    for quantity, expected in flat(*whole_batch(TibertPretraining)).items():
        np.testing.assert_allclose(run[quantity], expected, rtol=0, atol=3e-6, err_msg=quantity)
