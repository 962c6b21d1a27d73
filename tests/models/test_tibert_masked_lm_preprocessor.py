"""The preprocessor: strings to masked batches, in Python and in a graph, for `fit()` and in presets."""

import keras
import keras_nlp
import numpy as np
import pytest
import tensorflow as tf
from keras import tree

from tests.support.base import EAGERLY, TestCase
from tests.support.masking import tokenizer
from tibert_keras import TibertMaskedLM, TibertMaskedLMPreprocessor, TibertTokenizer
from tibert_keras.records.masking import MaskingPolicy, mask_tokens

LENGTH, SLOTS = 24, 5


@pytest.mark.any_backend
class TestTibertMaskedLMPreprocessor(TestCase):
    @pytest.fixture(autouse=True)
    def setup(self, spm_models, sample_corpus):
        self.tokenizer = TibertTokenizer(spm_models["bpe"])
        text = (sample_corpus / "train_0.txt").read_text(encoding="utf-8")
        self.texts = [line for line in text.split("\n") if line][:48]

    def make(self, **kwargs):
        options = {"sequence_length": LENGTH, "mask_selection_length": SLOTS, "seed": 1}
        return TibertMaskedLMPreprocessor(self.tokenizer, **options | kwargs)

    def packed(self, texts):
        """`[CLS] tokens [SEP]` and padding, without masks."""
        rows = [[2, *tokens[: LENGTH - 2], 3] for tokens in self.tokenizer.encode(texts)]
        return np.array([row + [0] * (LENGTH - len(row)) for row in rows], "int32")

    def assert_outputs(self, outputs, token_ids, **options):
        """The outputs are what `mask_tokens` makes of the ids with the preprocessor's seed and defaults."""
        policy = MaskingPolicy(max_predictions_per_seq=SLOTS, **options)
        draws = np.random.default_rng(1).random((len(token_ids), policy.num_draws(LENGTH)))
        ids = tokenizer(range(5, 400), self.tokenizer.starts_syllable(token_ids))
        masked = mask_tokens(token_ids, policy=policy, tokenizer=ids, draws=draws)
        x, y, sample_weight = tree.map_structure(np.asarray, outputs)
        expected = {
            "token_ids": masked.token_ids,
            "padding_mask": (token_ids != 0).astype("int32"),
            "segment_ids": np.zeros_like(token_ids),
            "mask_positions": masked.mask_positions,
        }
        assert x.keys() == expected.keys()
        for actual, wanted in [*((x[name], expected[name]) for name in x), (y, masked[2]), (sample_weight, masked[3])]:
            assert (actual.dtype, actual.shape) == (wanted.dtype, wanted.shape)
            assert np.array_equal(actual, wanted)

    def test_batch(self):
        self.assert_outputs(self.make()(self.texts), self.packed(self.texts))

    def test_single_string(self):
        outputs = self.make()(self.texts[0])
        assert {tuple(array.shape) for array in tree.flatten(outputs)} == {(LENGTH,), (SLOTS,)}
        self.assert_outputs(
            tree.map_structure(lambda array: np.asarray(array)[None], outputs), self.packed(self.texts[:1])
        )

    def test_in_a_graph(self):
        dataset = tf.data.Dataset.from_tensor_slices(self.texts)
        batches = dataset.batch(48).map(self.make())
        self.assert_outputs(next(iter(batches)), self.packed(self.texts))
        widths = {tuple(spec.shape) for spec in tree.flatten(batches.element_spec)}
        assert widths == {(None, LENGTH), (None, SLOTS)}
        single = dataset.map(self.make())
        assert {tuple(spec.shape) for spec in tree.flatten(single.element_spec)} == {(LENGTH,), (SLOTS,)}
        first = tree.map_structure(lambda array: array.numpy()[None], next(iter(single)))
        self.assert_outputs(first, self.packed(self.texts[:1]))

    def test_two_segments(self):
        x, _, _ = tree.map_structure(np.asarray, self.make()(x=(self.texts[:8], self.texts[8:16])))
        assert x["token_ids"].shape == (8, LENGTH)
        assert np.all((x["token_ids"] == 3).sum(axis=1) == 2)
        first = np.argmax(x["token_ids"] == 3, axis=1)[:, None]
        columns = np.arange(LENGTH)
        assert np.array_equal(x["segment_ids"], (columns > first) & x["padding_mask"])

    def test_masks_in_the_text_are_text(self):
        """As in KerasHub. Those to predict are for `predict()`."""
        texts = ["ཀ་[MASK]་[CLS]་ཁ", "ཁ[MASK]"]
        theirs = keras_nlp.models.AlbertTokenizer(self.tokenizer.proto)(texts)
        token_ids = np.array([[2, *ids, 3] + [0] * (LENGTH - 2 - len(ids)) for ids in theirs], "int32")
        self.assert_outputs(self.make()(texts), token_ids)
        self.assert_outputs(next(iter(tf.data.Dataset.from_tensors(texts).map(self.make()))), token_ids)

    # === Randomness ===
    def test_masks_are_drawn_anew(self):
        preprocessor = self.make()
        first, second = (np.asarray(preprocessor(self.texts)[0]["mask_positions"]) for _ in range(2))
        assert np.mean(np.any(first != second, axis=1)) > 0.5
        unseeded = [np.asarray(self.make(seed=None)(self.texts)[0]["mask_positions"]) for _ in range(2)]
        assert np.mean(np.any(unseeded[0] != unseeded[1], axis=1)) > 0.5

    def test_the_seed_repeats_all_calls(self):
        def masks(seed):
            preprocessor = self.make(seed=seed)
            return [np.asarray(preprocessor(self.texts)[0]["token_ids"]).tolist() for _ in range(3)]

        assert masks(1) == masks(1) != masks(2)

    def test_the_seed_repeats_a_dataset(self):
        def masks():
            batches = tf.data.Dataset.from_tensor_slices(self.texts).batch(8).map(self.make()).repeat(2)
            return [x["token_ids"].numpy().tolist() for x, _, _ in batches]

        first, second = masks(), masks()
        assert first == second
        assert first[: len(first) // 2] != first[len(first) // 2 :]

    # === Options ===
    def test_options_reach_the_masking(self):
        texts = self.texts * 4
        always = {"mask_token_rate": 1.0, "random_token_rate": 0.0, "mask_selection_rate": 0.5}
        x, _, sample_weight = self.make(**always, mask_selection_length=20, ngram=1)(texts)
        masked = np.asarray(x["token_ids"]) == 4
        assert masked.sum() == np.asarray(sample_weight).sum()
        lengths = np.count_nonzero(self.packed(texts), axis=1)
        assert np.array_equal(masked.sum(axis=1), np.minimum(np.rint(lengths * 0.5), 20))
        neighbours = []
        for ngram, shorter in ((1, False), (4, True), (4, False)):
            options = always | {"mask_selection_rate": 0.2, "ngram": ngram, "favor_shorter_ngram": shorter}
            flags = np.asarray(self.make(**options)(texts)[0]["token_ids"]) == 4
            neighbours.append((flags[:, 1:] & flags[:, :-1]).sum())
        assert neighbours[2] > 1.3 * neighbours[1] > 1.3 * 1.3 * neighbours[0]

    @pytest.mark.parametrize(("whole_word", "permutation"), [(True, False), (False, True), (True, True)])
    def test_whole_words_and_permutation(self, whole_word, permutation):
        options = {"do_whole_word_mask": whole_word, "do_permutation": permutation}
        self.assert_outputs(self.make(**options)(self.texts), self.packed(self.texts), **options)
        batches = tf.data.Dataset.from_tensor_slices(self.texts).batch(48).map(self.make(**options))
        self.assert_outputs(next(iter(batches)), self.packed(self.texts), **options)
        slots = 2 * SLOTS if permutation else SLOTS
        widths = {tuple(spec.shape) for spec in tree.flatten(batches.element_spec)}
        assert widths == {(None, LENGTH), (None, slots)}
        single = self.make(**options)(self.texts[0])
        assert {tuple(array.shape) for array in tree.flatten(single)} == {(LENGTH,), (slots,)}

    def test_config(self):
        options = {
            "sequence_length": 9,
            "truncate": "waterfall",
            "mask_selection_rate": 0.3,
            "mask_selection_length": 7,
            "mask_token_rate": 0.7,
            "random_token_rate": 0.2,
            "ngram": 2,
            "favor_shorter_ngram": True,
            "do_whole_word_mask": True,
            "do_permutation": True,
            "seed": 5,
        }
        copy = self.run_serialization_test(self.make(**options))
        assert {name: copy.get_config()[name] for name in options} == options

    # === In a model ===
    def test_fit_on_strings_and_saving(self, tmp_path):
        model = TibertMaskedLM.from_preset("tibert_nano", preprocessor=self.make(favor_shorter_ngram=True))
        model.compile(keras.optimizers.Adam(1e-2), weighted_metrics=[], **EAGERLY)
        losses = model.fit(self.texts, batch_size=16, epochs=3, verbose=0, shuffle=False).history["loss"]
        assert losses[-1] < losses[0] - 0.2
        model.save(tmp_path / "model.keras")
        model.save_to_preset(str(tmp_path / "preset"))
        for copy in (
            keras.saving.load_model(tmp_path / "model.keras").preprocessor,
            TibertMaskedLM.from_preset(str(tmp_path / "preset")).preprocessor,
            TibertMaskedLMPreprocessor.from_preset(str(tmp_path / "preset")),
            keras_nlp.models.MaskedLMPreprocessor.from_preset(str(tmp_path / "preset")),
        ):
            assert type(copy) is TibertMaskedLMPreprocessor
            assert copy.favor_shorter_ngram and copy.seed == 1
            expected = self.make(favor_shorter_ngram=True)(self.texts)
            tree.map_structure(np.testing.assert_array_equal, copy(self.texts), expected)
