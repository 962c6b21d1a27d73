"""The text classifier: training on raw strings with labels, presets, class weights, bad input."""

import keras
import keras_nlp
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from tests.support.base import EAGERLY, TestCase
from tests.support.tiny_models import one_layer
from tibert_keras import (
    TibertTextClassifier,
    TibertTextClassifierPreprocessor,
    TibertTokenizer,
)
from tibert_keras.errors import InputError

LABELS = ["prose", "verse"]
TEXTS, NAMES = ["བཀྲ་ཤིས།", "ཆོས་ལ"] * 8, ["prose", "verse"] * 8


class TestTibertTextClassifier(TestCase):
    @pytest.fixture(autouse=True)
    def setup(self):
        random = np.random.default_rng(0)
        ids = random.integers(5, 50, (8, 10))
        self.inputs = {"token_ids": ids, "segment_ids": np.zeros_like(ids), "padding_mask": np.ones_like(ids)}
        self.data = (self.inputs, random.integers(0, 2, 8), np.arange(1, 9, dtype="float32"))

    def make(self, dtype=None, **kwargs):
        return TibertTextClassifier(one_layer(dtype=dtype), **{"dropout": 0.0, "labels": LABELS} | kwargs)

    def test_layer(self):
        self.run_layer_test(self.make, self.inputs, (8, 2), num_weights=27)

    def test_training_in_mixed_precision(self):
        self.run_training_test(self.make(dtype="mixed_bfloat16"), self.data, jit_compile=True)

    def test_saving(self, tmp_path):
        copy = self.run_model_saving_test(self.make(activation="softmax"), self.inputs, tmp_path)
        assert copy.labels == LABELS and copy.activation is keras.activations.softmax

    def test_everything_is_trained(self):
        model = self.make()
        assert len(model.trainable_variables) == len(model.variables)
        model.backbone.trainable = False
        assert [v.path for v in model.trainable_variables] == ["logits/kernel", "logits/bias"]

    def test_lora(self):
        model = self.make()
        model.backbone.enable_lora(2)
        model.compile(keras.optimizers.Adam(1e-2), **EAGERLY)
        before = {v.path: ops.convert_to_numpy(v) for v in model.variables}
        model.fit(*self.data[:2], verbose=0)
        changed = {v.path for v in model.variables if np.any(ops.convert_to_numpy(v) != before[v.path])}
        assert "logits/kernel" in changed and not any("embedding" in path for path in changed)

    def test_classes(self):
        assert self.make(labels=None, num_classes=3).labels == ["0", "1", "2"]
        with pytest.raises(InputError, match="Received: 2 labels, num_classes=3. Leave num_classes out"):
            self.make(num_classes=3)
        for options in ({}, {"num_classes": 0}):
            with pytest.raises(InputError, match="labels=None"):
                self.make(labels=None, **options)
        with pytest.raises(InputError, match=r"all different. Received: labels=\['a', 'a'\]"):
            self.make(labels=["a", "a"])


class TestStrings(TestCase):
    @pytest.mark.any_backend
    def test_no_tibetan_at_all(self, small_preset):
        model = TibertTextClassifier.from_preset(small_preset, labels=LABELS)
        bad = ["Latin", "12 །"]
        for call in (
            lambda: model.predict(bad),
            lambda: model.predict(np.array(bad)),
            lambda: model.evaluate(bad, LABELS),
            lambda: model.fit(bad, LABELS),
            lambda: model.fit(TEXTS, NAMES, validation_data=(bad, LABELS)),
        ):
            with pytest.raises(InputError, match="no Tibetan letter in the text. Received: 'Latin 12 །'"):
                call()
        # One among others is as it comes.
        assert model.predict([*bad, "ཀ"], verbose=0).shape == (3, 2)

    def test_fit_and_preset(self, small_preset, tmp_path):
        model = TibertTextClassifier.from_preset(small_preset, labels=LABELS, dropout=0.0)
        assert model.preprocessor.sequence_length == 32
        model.compile(keras.optimizers.Adam(3e-3))
        history = model.fit(TEXTS, NAMES, batch_size=4, epochs=20, verbose=0, validation_data=(TEXTS, NAMES)).history
        assert history["val_sparse_categorical_accuracy"][-1] == 1
        assert model.predict(TEXTS[:2], verbose=0).argmax(-1).tolist() == [0, 1]
        expected = model.evaluate(TEXTS, NAMES, verbose=0)
        data = tf.data.Dataset.from_tensor_slices((TEXTS, NAMES)).batch(8)
        for again in (model.evaluate(data, verbose=0), model.evaluate(TEXTS, [0, 1] * 8, verbose=0)):
            np.testing.assert_allclose(again, expected, atol=1e-5)

        copy = self.run_preset_test(model, model.preprocessor(TEXTS[:2]), tmp_path)
        assert copy.labels == LABELS and copy.preprocessor.labels == LABELS
        found = keras_nlp.models.TextClassifier.from_preset(str(tmp_path / "preset"))
        assert type(found) is TibertTextClassifier
        other = TibertTextClassifier.from_preset(str(tmp_path / "preset"), num_classes=3)
        assert other.labels == ["0", "1", "2"]
        self.assert_close(other.backbone.get_weights(), model.backbone.get_weights(), atol=0)

    @pytest.mark.any_backend
    def test_class_weight(self, small_preset):
        """As Keras weighs classes, by name too; validation is not weighed."""
        model = TibertTextClassifier.from_preset(small_preset, labels=LABELS, dropout=0.0)
        model.compile(keras.optimizers.SGD(0.0), **EAGERLY)
        ids = model.preprocessor(TEXTS)
        expected = model.evaluate(ids, np.array([0, 1] * 8), sample_weight=np.array([3.0, 1.0] * 8), verbose=0)[0]
        plain = model.evaluate(TEXTS, NAMES, verbose=0)[0]
        data = tf.data.Dataset.from_tensor_slices((TEXTS, NAMES)).batch(16)
        arrays = np.array(TEXTS), np.array(NAMES)
        for x, y, weights in (
            (TEXTS, NAMES, {"prose": 3}), (TEXTS, [0, 1] * 8, {0: 3}), (data, None, {"prose": 3}), (*arrays, {0: 3}),
            (tf.constant(TEXTS), tf.constant(NAMES), {"prose": 3}),
        ):  # fmt: skip
            options = {"validation_data": (TEXTS, NAMES), "class_weight": weights, "verbose": 0, "shuffle": False}
            history = model.fit(x, y, **options).history
            assert history["loss"][0] == pytest.approx(expected, abs=1e-4)
            assert history["val_loss"][0] == pytest.approx(plain, abs=1e-4)

        with pytest.raises(InputError, match=r"Received: class_weight=\{'prose': 3\}. Give a list"):
            model.fit((each for each in [(TEXTS, NAMES)]), class_weight={"prose": 3})

    @pytest.mark.any_backend
    def test_masks_in_a_text_are_text(self, small_preset):
        preprocessor, text = TibertTextClassifierPreprocessor.from_preset(small_preset), "ཀ་[MASK]་ཁ"
        in_graph = next(iter(tf.data.Dataset.from_tensors([text]).map(preprocessor)))
        for x in (preprocessor(text), preprocessor([text]), preprocessor(x=(["ཀ"], [text])), in_graph):
            ids = np.ravel(x["token_ids"]).tolist()
            assert ids.count(4) == 0 and ids.count(1) == 1

    @pytest.mark.any_backend
    def test_bad_labels(self, small_preset, spm_models):
        model = TibertTextClassifier.from_preset(small_preset, labels=LABELS)
        with pytest.raises(InputError, match="no such label. Received: 'song'. Give one of prose, verse"):
            model.fit(TEXTS[:1], ["song"])
        with pytest.raises(InputError, match="no such class. Received: 2. Give a number below 2"):
            model.fit(TEXTS[:1], [2])
        one_hot, dataset = np.eye(2)[[0, 1] * 8], tf.data.Dataset.from_tensor_slices((TEXTS, np.eye(2)[[0, 1] * 8]))
        for call, message in (
            (lambda: model.evaluate(TEXTS, ["prose"]), "Received: 16 texts and 1 labels"),
            (lambda: model.fit(TEXTS, "prose"), "Received: 16 texts and 1 labels"),
            (lambda: model.evaluate(TEXTS), "y=None"),
            (lambda: model.fit(TEXTS, one_hot), r"labels of shape \(16, 2\) for examples of shape \(16,\)"),
            (lambda: model.evaluate(TEXTS, one_hot.tolist()), r"labels of shape \(16, 2\)"),
            (lambda: model.fit(TEXTS, NAMES, validation_data=(TEXTS, one_hot)), r"labels of shape \(16, 2\)"),
            (lambda: model.fit(dataset.batch(4)), r"labels of shape \(None, 2\)"),
            (lambda: model.fit(TEXTS, NAMES, sample_weight=["a"] * 16), "Weights are numbers. Received: "),
            (lambda: model.fit(TEXTS, NAMES, validation_data=(TEXTS,) * 4), "Received: 4 parts"),
        ):
            with pytest.raises(InputError, match=message):
                call()
        model.compile(loss=keras.losses.CategoricalCrossentropy(from_logits=True), metrics=[])
        assert model.evaluate(TEXTS, one_hot, verbose=0) > 0
        preprocessor = TibertTextClassifierPreprocessor(TibertTokenizer(spm_models["bpe"]), labels=["a"])
        with pytest.raises(InputError, match="must have the same labels"):
            TibertTextClassifier.from_preset(small_preset, labels=LABELS, preprocessor=preprocessor)
