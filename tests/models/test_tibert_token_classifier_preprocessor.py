"""The tagger's preprocessor: which piece has which label, in Python and in a graph; joining words; bad input."""

import numpy as np
import pytest
import tensorflow as tf
from keras import tree

from tests.support.base import TestCase
from tibert_keras import TibertTokenClassifierPreprocessor, TibertTokenizer
from tibert_keras.errors import InputError

LABELS = ["NOUN", "VERB", "PUNCT", "CONT"]
LENGTH = 24
WORDS = [["བཀྲ་ཤིས་", "བདེ་ལེགས", "། ", "།"], ["ཆོས་"]]
TAGS = [["NOUN", "VERB", "PUNCT", "PUNCT"], ["NOUN"]]


class TestTibertTokenClassifierPreprocessor(TestCase):
    @pytest.fixture(autouse=True)
    def setup(self, spm_models):
        self.tokenizer = TibertTokenizer(spm_models["bpe"], tsheg_pretokenization=True)

    def make(self, **kwargs):
        return TibertTokenClassifierPreprocessor(
            self.tokenizer, **{"labels": LABELS, "sequence_length": LENGTH} | kwargs
        )

    def test_first_pieces_have_the_labels(self):
        x, y, weights = self.make()(WORDS, TAGS)
        syllables = [["བཀྲ་", "ཤིས་", "བདེ་", "ལེགས", "། ", "།"], ["ཆོས་"]]
        labels = [["NOUN", "CONT", "VERB", "CONT", "PUNCT", "PUNCT"], ["NOUN"]]
        for row in range(2):
            pieces = self.tokenizer.encode_syllables(syllables)[row]
            ids = [2, *(piece for of_syllable in pieces for piece in of_syllable), 3]
            assert x["token_ids"][row].tolist() == ids + [0] * (LENGTH - len(ids))
            assert x["padding_mask"][row].tolist() == [n < len(ids) for n in range(LENGTH)]
            places = 1 + np.cumsum([0, *map(len, pieces)])[:-1]
            assert np.flatnonzero(weights[row]).tolist() == places.tolist()
            assert [LABELS[n] for n in y[row, places]] == labels[row]
        assert not x["segment_ids"].any() and not y[weights == 0].any()
        assert (y.dtype, weights.dtype, x["token_ids"].dtype, x["padding_mask"].dtype) == (
            "int32", "float32", "int32", "int32",
        )  # fmt: skip

    def test_texts_and_words_are_one(self):
        texts = ["".join(words) for words in WORDS]
        expected, _, _ = self.make()(WORDS, TAGS)
        for x in (self.make()(texts), self.make()(WORDS), self.make().pack(texts).inputs):
            tree.map_structure(np.testing.assert_array_equal, x, expected)
        tree.map_structure(lambda a, b: np.testing.assert_array_equal(a, b[0]), self.make()(texts[0]), expected)

    def test_in_a_graph(self):
        expected = self.make()(WORDS, TAGS, sample_weight=np.array([2.0, 1.0]))
        data = tf.ragged.constant(WORDS), tf.ragged.constant(TAGS), tf.constant([2.0, 1.0])
        batches = tf.data.Dataset.from_tensor_slices(data).batch(2).map(self.make())
        assert {tuple(spec.shape) for spec in tree.flatten(batches.element_spec)} == {(None, LENGTH)}
        tree.map_structure(np.testing.assert_array_equal, next(batches.as_numpy_iterator()), expected)
        single = next(tf.data.Dataset.from_tensor_slices(data[:2]).map(self.make()).as_numpy_iterator())
        tree.map_structure(lambda a, b: np.testing.assert_array_equal(a, b[0]), single, self.make()(WORDS, TAGS))
        texts = tf.data.Dataset.from_tensor_slices(["".join(words) for words in WORDS])
        tree.map_structure(
            np.testing.assert_array_equal, next(texts.batch(2).map(self.make()).as_numpy_iterator()), expected[0]
        )
        with pytest.raises(tf.errors.InvalidArgumentError, match="no such label. Received: 'VERB'"):
            next(iter(batches.map(lambda *_: data[:2]).map(self.make(labels=["NOUN"]))))

    def test_masks_in_a_text_are_text(self):
        ids = self.make()(["ཀ་[MASK]་ཁ"])["token_ids"][0].tolist()
        assert ids.count(4) == 0 and ids.count(1) == 1

    def test_what_is_too_long_is_cut(self):
        full, short = self.make(), self.make(sequence_length=6)
        x, y, weights = full(WORDS, TAGS)
        cut_x, cut_y, cut_weights = short(WORDS, TAGS)
        assert cut_x["token_ids"][0].tolist() == [*x["token_ids"][0, :5], 3]
        assert cut_y[0, :5].tolist() == y[0, :5].tolist() and cut_weights[0, :5].tolist() == weights[0, :5].tolist()
        text = "".join(WORDS[0])
        packed = short.pack([text])
        assert packed.lengths == full.pack([text]).lengths and packed.lengths[0] > 6
        assert packed.positions[0].max() <= 4 and packed.positions[0].min() == -1

    def test_weights_of_classes(self):
        plain, weighed = self.make(), self.make(class_weight={"VERB": 0.5, np.int64(2): 0})
        assert weighed.class_weight == {"VERB": 0.5, "PUNCT": 0}
        _, y, expected = plain(WORDS, TAGS)
        expected = expected * np.array([1, 0.5, 0, 1])[y]
        np.testing.assert_array_equal(weighed(WORDS, TAGS)[2], expected)

    def test_without_continuation(self):
        preprocessor = self.make(labels=LABELS[:3])
        _, y, weights = preprocessor(WORDS, TAGS)
        assert [LABELS[n] for n in y[weights > 0]] == ["NOUN", "VERB", "PUNCT", "PUNCT", "NOUN"]
        assert [word.form for word in preprocessor.join(["ཀ་", "ཁ"], np.eye(3)[:2])] == ["ཀ་", "ཁ"]

    def test_join(self):
        scores = np.array([[0.1, 0.2, 0, 9], [3, 0, 0, 4], [5, 0, 0, 4]])
        words = self.make().join(["ཀ་", "ཁ་", "ག"], scores)
        assert [(word.form, word.tag) for word in words] == [("ཀ་ཁ་", "VERB"), ("ག", "NOUN")]

    def test_tokenizer_whose_pieces_cross_syllables(self, spm_models):
        plain = TibertTokenizer(spm_models["bpe"], nbest_size=64, alpha=0.1, underline_between_sections=False)
        tokenizer = TibertTokenClassifierPreprocessor(plain, labels=LABELS).tokenizer
        assert tokenizer.proto == plain.proto and tokenizer.tsheg_pretokenization and not tokenizer.nbest_size
        assert not tokenizer.underline_between_sections
        assert self.make().tokenizer is self.tokenizer
        with pytest.raises(InputError, match="tsheg_pretokenization=False"):
            plain.encode_syllables([["ཀ"]])

    def test_serialization(self):
        copy = self.run_serialization_test(self.make(class_weight={"NOUN": 2}))
        assert (copy.labels, copy.class_weight, copy.sequence_length) == (LABELS, {"NOUN": 2}, LENGTH)

    @pytest.mark.parametrize(
        "words, tags, message",
        [
            ([["ཀ་", "ཁ"]], [["NOUN"]], "Received: 2 words and 1 tags, in 'ཀ་ཁ'"),
            ([["ཀ་"], ["ཁ"]], [["NOUN"]], "Received: 2 sentences and 1 lists of tags"),
            (
                ["ཀ་ཁ", "ཀ"],
                [["NOUN", "NOUN"], ["NOUN"]],
                r"list of words. Received: the text 'ཀ་ཁ' with \['NOUN', 'NOUN'\]",
            ),
            ([[]], [[]], r"A sentence is empty. Received: words=\[\]"),
            ([[" "]], [["NOUN"]], "A sentence is empty"),
            ([["ཀ་"]], [["NOUNS"]], "no such label. Received: 'NOUNS'. Give one of NOUN, VERB, PUNCT, CONT"),
            ([["དམ་པ", "འི་"]], [["NOUN", "VERB"]], "ends in the middle of a syllable. Received: 'དམ་པ'"),
        ],
    )
    def test_bad_sentences(self, words, tags, message):
        with pytest.raises(InputError, match=message):
            self.make()(words, tags)

    def test_bad_weights(self):
        with pytest.raises(InputError, match="Received: 2 sentences and 2 lists of tags, 1 weights"):
            self.make()(WORDS, TAGS, sample_weight=[1.0])

    def test_bad_options(self):
        with pytest.raises(InputError, match=r"all different. Received: labels=\[\]"):
            self.make(labels=[])
        with pytest.raises(InputError, match=r"Received: labels=\['A', 'A'\]"):
            self.make(labels=["A", "A"])
        with pytest.raises(InputError, match="Received: sequence_length=2"):
            self.make(sequence_length=2)
        with pytest.raises(InputError, match=r"class_weight=\{'NOUN': -1.0\}"):
            self.make(class_weight={"NOUN": -1})
        with pytest.raises(InputError, match="no such label. Received: '7'"):
            self.make(class_weight={7: 1})
