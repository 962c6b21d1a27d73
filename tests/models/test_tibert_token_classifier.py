"""The token classifier: training on words with tags, words of raw text, presets of other tasks, bad input."""

import warnings

import keras
import keras_nlp
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from tests.support.base import EAGERLY, TestCase
from tests.support.tiny_models import one_layer
from tibert_keras import (
    TibertBackbone,
    TibertTokenClassifier,
    TibertTokenClassifierPreprocessor,
    TibertTokenizer,
)
from tibert_keras.errors import InputError
from tibert_keras.optimizers.losses import MaskedLanguageModelLoss

LABELS = ["ADP", "NOUN", "PUNCT", "CONT"]
WORDS = [["བཀྲ་ཤིས", "།"], ["ཆོས་", "ལ"], ["ཆོས་", "ལ་", "བཀྲ་ཤིས", "། ", "།"]] * 4
TAGS = [["NOUN", "PUNCT"], ["NOUN", "ADP"], ["NOUN", "ADP", "NOUN", "PUNCT", "PUNCT"]] * 4


@pytest.fixture(scope="module")
def trained(small_preset):
    """A tagger that knows the words above by heart. Tests only use it."""
    model = TibertTokenClassifier.from_preset(small_preset, labels=LABELS)
    model.compile(keras.optimizers.Adam(1e-2))
    model.fit(WORDS, TAGS, epochs=15, batch_size=6, verbose=0)
    return model


class TestTibertTokenClassifier(TestCase):
    @pytest.fixture(autouse=True)
    def setup(self):
        random = np.random.default_rng(0)
        ids = random.integers(5, 50, (8, 10))
        self.inputs = {
            "token_ids": ids,
            "segment_ids": np.zeros_like(ids),
            "padding_mask": np.ones_like(ids),
        }
        self.labels = random.integers(0, 4, (8, 10))
        self.weights = random.integers(0, 2, (8, 10)).astype("float32")
        self.data = (self.inputs, self.labels, self.weights)

    def make(self, dtype=None, **kwargs):
        return TibertTokenClassifier(one_layer(dtype=dtype), labels=LABELS, **kwargs)

    def test_layer(self):
        self.run_layer_test(self.make, self.inputs, (8, 10, 4), num_weights=27)

    def test_training_in_mixed_precision(self):
        self.run_training_test(self.make(dtype="mixed_bfloat16", dropout=0.1), self.data, jit_compile=True)

    def test_default_compilation(self):
        model = self.make()
        model.compile(**EAGERLY)
        expected = float(MaskedLanguageModelLoss()(self.labels, model(self.inputs), self.weights))
        logs = model.evaluate(*self.data[:2], sample_weight=self.weights, verbose=0, return_dict=True)
        right = np.argmax(ops.convert_to_numpy(model(self.inputs)), -1) == self.labels
        assert logs["loss"] == pytest.approx(expected, abs=1e-5)
        assert logs["accuracy"] == pytest.approx(np.average(right, weights=self.weights), abs=1e-6)

    def test_pooler_is_not_trained(self):
        model = self.make()
        pooler = {id(v) for v in model.backbone.pooled_dense.variables}
        assert {id(v) for v in model.non_trainable_variables} == pooler
        assert len(model.trainable_variables) + 2 == len(model.variables)

    def test_frozen_backbone(self):
        model = self.make()
        model.backbone.trainable = False
        model.compile(keras.optimizers.Adam(1e-2), **EAGERLY)
        before = model.backbone.get_weights()
        assert [v.path for v in model.trainable_variables] == ["logits/kernel", "logits/bias"]
        model.fit(*self.data[:2], sample_weight=self.weights, verbose=0)
        self.assert_close(model.backbone.get_weights(), before, atol=0)

    def test_lora(self):
        model = self.make()
        model.backbone.enable_lora(2)
        model.compile(keras.optimizers.Adam(1e-2), **EAGERLY)
        before = {v.path: ops.convert_to_numpy(v) for v in model.variables}
        model.fit(*self.data[:2], sample_weight=self.weights, epochs=2, verbose=0)
        changed = {v.path for v in model.variables if np.any(ops.convert_to_numpy(v) != before[v.path])}
        assert {"logits/kernel", "logits/bias"} < changed
        assert changed <= {v.path for v in model.trainable_variables}
        assert not any(path.endswith("query/kernel") or "embedding" in path for path in changed)

    def test_saving(self, tmp_path):
        copy = self.run_model_saving_test(self.make(), self.inputs, tmp_path)
        assert copy.labels == LABELS

    def test_preset_by_name(self):
        with pytest.raises(InputError, match="preset='tibert_nano', labels=None. Pass labels"):
            TibertTokenClassifier.from_preset("tibert_nano", vocabulary_size=50)
        with pytest.raises(InputError, match="preset='tibert_huge'"):
            TibertTokenClassifier.from_preset("tibert_huge", labels=LABELS)


class TestPresets(TestCase):
    def test_of_a_champion(self, small_preset):
        model = TibertTokenClassifier.from_preset(small_preset, labels=LABELS, dtype="mixed_bfloat16", name="tagger")
        assert (model.name, model.backbone.dtype_policy.name, model.preprocessor.sequence_length) == (
            "tagger",
            "mixed_bfloat16",
            32,
        )
        assert model.preprocessor.tokenizer.tsheg_pretokenization
        self.assert_close(model.backbone.get_weights(), TibertBackbone.from_preset(small_preset).get_weights(), atol=0)

    def test_own(self, trained, tmp_path):
        copy = self.run_preset_test(trained, trained.preprocessor.pack(["ཆོས་ལ།"]).inputs, tmp_path)
        assert copy.labels == LABELS and copy.preprocessor.labels == LABELS
        text = ["ཆོས་ལ། །བཀྲ་ཤིས། "]
        assert copy.predict_words(text) == trained.predict_words(text)
        same = TibertTokenClassifier.from_preset(str(tmp_path / "preset"), labels=LABELS)
        self.assert_close(same.output_dense.kernel, trained.output_dense.kernel, atol=0)
        other = TibertTokenClassifier.from_preset(str(tmp_path / "preset"), labels=["A", "B"])
        assert other.output_shape == (None, None, 2) and other.preprocessor.labels == ["A", "B"]
        self.assert_close(other.backbone.get_weights(), trained.backbone.get_weights(), atol=0)
        fresh = TibertTokenClassifier.from_preset(str(tmp_path / "preset"), load_weights=False, labels=["A"])
        assert np.any(fresh.backbone.get_weights()[0] != trained.backbone.get_weights()[0])

    @pytest.mark.any_backend
    def test_of_something_else(self, tmp_path, small_preset):
        (tmp_path / "empty").mkdir()
        bert = keras_nlp.models.BertBackbone(20, 1, 1, 4, 8)
        bert.save_to_preset(str(tmp_path / "bert"))
        TibertBackbone.from_preset(small_preset).save_to_preset(str(tmp_path / "no_tokenizer"))
        for name in ("empty", "bert", "no_tokenizer"):
            with pytest.raises(InputError, match=f"preset cannot be loaded: .*Received: .*{name}'") as e:
                TibertTokenClassifier.from_preset(str(tmp_path / name), labels=LABELS)
            assert "\n" not in str(e.value)
        model = TibertTokenClassifier.from_preset(str(tmp_path / "no_tokenizer"), labels=LABELS, preprocessor=None)
        with pytest.raises(InputError, match="has no tokenizer"):
            model.predict_words(["ཀ"])
        with pytest.raises(InputError, match="Weights of classes"):
            model.fit({}, np.zeros((1, 1)), class_weight={"ADP": 2})
        with pytest.raises(InputError, match="labels=None. Pass labels"):
            TibertTokenClassifier.from_preset(small_preset)

    @pytest.mark.any_backend
    def test_preprocessor_of_other_labels(self, small_preset, spm_models):
        preprocessor = TibertTokenClassifierPreprocessor(TibertTokenizer(spm_models["bpe"]), labels=["A", "CONT"])
        with pytest.raises(InputError, match=r"same labels. Received: labels=\['ADP'.* and \['A', 'CONT'\]"):
            TibertTokenClassifier.from_preset(small_preset, labels=LABELS, preprocessor=preprocessor)


class TestWords:
    def test_words_of_the_training(self, trained):
        texts = ["".join(words) for words in WORDS[:3]]
        words = trained.predict_words(texts)
        assert [[word.form for word in of_text] for of_text in words] == WORDS[:3]
        assert [[word.tag for word in of_text] for of_text in words] == TAGS[:3]
        assert trained.evaluate(WORDS, TAGS, verbose=0, return_dict=True)["accuracy"] == 1

    @pytest.mark.any_backend
    @pytest.mark.parametrize("text", ["  ཆོས་ལ།  ", "ཆོས་\nལ།\n\n།བཀྲ་", "Latin 12་", "༄༅། །", "ཀ\u200bཁ \u200b", "་་"])
    def test_nothing_is_lost(self, trained, text):
        # A Latin word, or a shad alone, may stand among Tibetan ones.
        words, _ = trained.predict_words([text, "ཀ"])
        assert "".join(word.form for word in words) == text
        assert {word.tag for word in words} <= set(LABELS[:-1])

    def test_alone_and_among_others(self, trained):
        texts = ["".join(words) for words in WORDS[:3]]
        alone = trained.predict_syllables(texts[:1])[0]
        among = trained.predict_syllables(texts, batch_size=2)[0]
        assert alone.syllables == among.syllables == ["བཀྲ་", "ཤིས", "།"]
        np.testing.assert_allclose(alone.probabilities, among.probabilities, atol=1e-5)
        np.testing.assert_allclose(alone.probabilities.sum(-1), 1, atol=1e-5)
        assert trained.predict_words([]) == []

    @pytest.mark.any_backend
    def test_the_length_is_the_limit(self, trained):
        room = trained.preprocessor.sequence_length - 2
        text = "ཀ" + "།" * 40
        while trained.preprocessor.pack([text]).lengths[0] > room + 2:
            text = text[:-1]
        assert len(trained.predict_words([text])[0]) >= 1
        with pytest.raises(InputError, match=f"longer than 32 tokens. Received: 33 tokens, in '{text}།'"):
            trained.predict_words([text + "།"])
        for nothing in ("", " \n"):
            with pytest.raises(InputError, match="nothing to tag"):
                trained.predict_words(["ཀ", nothing])

    @pytest.mark.any_backend
    def test_no_tibetan_at_all(self, trained):
        for call in (
            lambda: trained.predict_words(["Latin 12་", "། །"]),
            lambda: trained.predict_syllables(["Latin 12་", "། །"]),
            lambda: trained.predict(["Latin 12་", "། །"]),
            lambda: trained.fit([["Latin ", "12་"], ["། །"]], [["NOUN", "NOUN"], ["PUNCT"]]),
        ):
            with pytest.raises(InputError, match="no Tibetan letter in the text. Received: 'Latin ") as error:
                call()
            assert "\n" not in str(error.value)


@pytest.mark.any_backend
class TestFit:
    def test_logits(self, trained):
        texts = ["".join(words) for words in WORDS[:2]]
        expected = ops.convert_to_numpy(trained(trained.preprocessor(texts)))
        np.testing.assert_allclose(trained.predict(texts, verbose=0), expected, atol=1e-5)

    def test_dataset_and_lists_are_one(self, small_preset):
        data = tf.data.Dataset.from_tensor_slices((tf.ragged.constant(WORDS), tf.ragged.constant(TAGS))).batch(6)
        model = TibertTokenClassifier.from_preset(small_preset, labels=LABELS)
        model.compile(**EAGERLY)
        lists = model.evaluate(WORDS, TAGS, verbose=0)
        np.testing.assert_allclose(model.evaluate(data, verbose=0), lists, atol=1e-5)
        history = model.fit(data, validation_data=data, shuffle=False, verbose=0).history
        assert {"loss", "val_loss", "val_accuracy"} <= history.keys()
        history = model.fit(WORDS, TAGS, validation_data=data, verbose=0).history
        np.testing.assert_allclose(model.evaluate(WORDS, TAGS, verbose=0)[0], history["val_loss"][-1], atol=1e-5)

    def test_class_weight(self, small_preset):
        """Labels of no weight are not learned; in validation they count."""
        ds = tf.data.Dataset.from_tensor_slices((tf.ragged.constant(WORDS), tf.ragged.constant(TAGS))).batch(12)
        weights = {"NOUN": 0, 0: 0, 2: 5, "CONT": 0}
        for x, y in ((WORDS, TAGS), (ds, None)):
            model = TibertTokenClassifier.from_preset(small_preset, labels=LABELS)
            model.compile(keras.optimizers.Adam(1e-2), **EAGERLY)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # a dataset is not shuffled
                history = model.fit(
                    x, y, validation_data=(WORDS, TAGS), class_weight=weights, epochs=5, verbose=0, batch_size=None
                ).history
            assert history["accuracy"][-1] == 1 and history["val_accuracy"][-1] < 0.6
            assert model.preprocessor.class_weight is None

    def test_bad_labels(self, trained):
        with pytest.raises(InputError, match=r"no such label. Received: 'VERB'. Give one of ADP, NOUN, PUNCT, CONT"):
            trained.evaluate(WORDS[:1], [["VERB", "PUNCT"]])
        with pytest.raises(InputError, match="Received: 2 words and 1 tags, in 'བཀྲ་ཤིས།'"):
            trained.fit(WORDS[:1], [["NOUN"]])
        with pytest.raises(InputError, match="Received: 12 sentences and 1 lists of tags"):
            trained.fit(WORDS, TAGS[:1])
        for tags in ([[0, 1]], [np.eye(4)[:2]], ["NOUN"], [[None, "PUNCT"]]):
            with pytest.raises(InputError, match="are a list of names. Received: .* for 'བཀྲ་ཤིས།'"):
                trained.fit(WORDS[:1], tags)
        with pytest.raises(InputError, match="a sentence is a list of words. Received: the text 'ཀ།'"):
            trained.fit(["ཀ།", "ཁ།"], ["NOUN", "NOUN"])
        with pytest.raises(InputError, match=r"Weights are numbers. Received: \[\[1\], \[1, 2\]\]"):
            trained.fit(WORDS[:2], TAGS[:2], sample_weight=[[1], [1, 2]])
        with pytest.raises(InputError, match="no such label. Received: 'VERB'"):
            trained.fit(WORDS, TAGS, class_weight={"VERB": 2})
        with pytest.raises(InputError, match=r"must not be negative. Received: class_weight=\{'ADP': -1.0\}"):
            trained.fit(WORDS, TAGS, class_weight={"ADP": -1})
