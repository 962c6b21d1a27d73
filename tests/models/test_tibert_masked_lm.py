"""The masked language model: Google's forward pass, training, the pooler, presets and preprocessors."""

import io
import warnings

import keras
import keras_nlp
import numpy as np
import pytest
import sentencepiece
from keras import ops

from tests.support import google_albert
from tests.support.base import EAGERLY, TestCase
from tests.support.tiny_models import one_layer
from tibert_keras.errors import InputError
from tibert_keras.models.tibert_backbone import TibertBackbone
from tibert_keras.models.tibert_masked_lm import TibertMaskedLM
from tibert_keras.optimizers.lamb import LAMB
from tibert_keras.optimizers.losses import MaskedLanguageModelLoss

TEXT = ["བཅོམ་ལྡན་འདས་ ལ་ ཕྱག་ འཚལ་ ལོ །", "འདི་ སྐད་ བདག་གིས་ ཐོས་པ་ དུས་ གཅིག་ན །"] * 8


@pytest.fixture(scope="module")
def preprocessor():
    """KerasHub's own preprocessor, with a small SentencePiece model."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT),
        model_writer=model,
        vocab_size=40,
        hard_vocab_limit=False,
        pad_id=0,
        unk_id=1,
        bos_id=2,
        eos_id=3,
        pad_piece="<pad>",
        unk_piece="<unk>",
        bos_piece="[CLS]",
        eos_piece="[SEP]",
        user_defined_symbols=["[MASK]"],
        minloglevel=2,
    )
    tokenizer = keras_nlp.models.AlbertTokenizer(proto=model.getvalue())
    return keras_nlp.models.AlbertMaskedLMPreprocessor(tokenizer, sequence_length=16, mask_selection_length=4)


class TestTibertMaskedLM(TestCase):
    @pytest.fixture(autouse=True)
    def setup(self):
        random = np.random.default_rng(0)
        ids = random.integers(5, 50, (8, 10))
        self.inputs = {
            "token_ids": ids,
            "segment_ids": np.zeros_like(ids),
            "padding_mask": np.ones_like(ids),
            "mask_positions": random.integers(0, 10, (8, 3)),
        }
        self.labels = random.integers(5, 50, (8, 3))
        self.weights = (np.arange(3) < random.integers(0, 4, (8, 1))).astype("float32")
        self.data = (self.inputs, self.labels, self.weights)

    def make(self, **kwargs):
        return TibertMaskedLM(one_layer(**kwargs))

    def test_layer(self):
        self.run_layer_test(self.make, self.inputs, (8, 3, 50), num_weights=30)

    def test_google(self, shared):
        golden = google_albert.folder(shared)
        reference = np.load(golden / "forward.npz")
        logits = google_albert.masked_lm(golden)(google_albert.batch(reference)[0])
        log_probs = ops.reshape(ops.log_softmax(logits), (-1, logits.shape[-1]))
        self.assert_close(log_probs, reference["mlm_log_probs"], atol=1e-5)

    # === Training ===
    # In float32: `tests/optimizers/test_lamb.py::TestGoogle::test_trajectory`.
    def test_training_in_mixed_precision(self):
        model = self.make(dtype="mixed_bfloat16")
        self.run_training_test(model, self.data)
        expected = MaskedLanguageModelLoss()(self.labels, ops.cast(model(self.inputs), "float32"), self.weights)
        # Compiled, bfloat16 is rounded at other places.
        assert model.evaluate(*self.data[:2], sample_weight=self.weights, verbose=0)[0] == pytest.approx(
            float(expected), abs=1e-2
        )

    def test_default_compilation(self):
        model = self.make()
        assert isinstance(model.loss, MaskedLanguageModelLoss)
        model.compile(**EAGERLY)
        expected = float(MaskedLanguageModelLoss()(self.labels, model(self.inputs), self.weights))
        logs = model.evaluate(*self.data[:2], sample_weight=self.weights, verbose=0, return_dict=True)
        assert logs["loss"] == pytest.approx(expected, abs=1e-5)
        assert "masked_lm_accuracy" in logs
        model.compile(loss="sparse_categorical_crossentropy")
        assert model.loss == "sparse_categorical_crossentropy"

    def test_pooler_is_not_trained(self):
        model = self.make()
        model.compile(LAMB(0.1), **EAGERLY)
        pooler = model.backbone.pooled_dense
        before, embeddings = pooler.get_weights(), model.backbone.token_embedding.get_weights()
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            model.fit(*self.data[:2], sample_weight=self.weights, verbose=0, shuffle=False)
        self.assert_close(pooler.get_weights(), before, atol=0)
        assert np.any(model.backbone.token_embedding.get_weights()[0] != embeddings[0])
        # Not even a slot for it; one pair for each trained variable, and step, rate and norm.
        assert len(model.optimizer.variables) == 2 * 28 + 3

    def test_variables_are_partitioned(self):
        model = self.make()
        pooler = {id(v) for v in model.backbone.pooled_dense.variables}
        for trained, others, all_of_them in (
            (model.trainable_variables, model.non_trainable_variables, model.variables),
            (model.trainable_weights, model.non_trainable_weights, model.weights),
        ):
            assert {id(v) for v in others} == pooler
            assert {id(v) for v in trained} | pooler == {id(v) for v in all_of_them}
        # The backbone's own view, that other tasks train by, is whole.
        assert pooler <= {id(v) for v in model.backbone.trainable_variables}

    def test_lora(self):
        model = self.make()
        model.backbone.enable_lora(2)
        model.compile(**EAGERLY)
        trained = [v.path for v in model.trainable_variables if not v.path.startswith("mlm_head")]
        # KerasHub leaves the biases of these layers trainable.
        assert [path.split("/")[-1] for path in trained] == ["bias", "lora_kernel_a", "lora_kernel_b"] * 2
        before = {v.path: ops.convert_to_numpy(v) for v in model.backbone.variables}
        model.fit(*self.data[:2], sample_weight=self.weights, verbose=0)
        changed = [v.path for v in model.backbone.variables if np.any(ops.convert_to_numpy(v) != before[v.path])]
        assert changed and set(changed) <= set(trained)

    # === Saving ===
    def test_saving_goes_on_where_it_was(self, tmp_path):
        model = self.make()
        model.compile(LAMB(0.01), **EAGERLY)
        model.fit(*self.data[:2], sample_weight=self.weights, verbose=0)
        copy = self.run_model_saving_test(model, self.inputs, tmp_path)
        assert isinstance(copy.optimizer, LAMB) and isinstance(copy.loss, MaskedLanguageModelLoss)
        for each in (model, copy):
            each.fit(*self.data[:2], sample_weight=self.weights, verbose=0)
        self.assert_close(copy.get_weights(), model.get_weights())

    def test_weights_file(self, tmp_path):
        model, copy = self.make(), self.make()
        model.save_weights(tmp_path / "model.weights.h5")
        copy.load_weights(tmp_path / "model.weights.h5")
        self.assert_close(copy.get_weights(), model.get_weights(), atol=0)

    def test_preset_folder(self, tmp_path):
        self.run_preset_test(self.make(), self.inputs, tmp_path)
        found = keras_nlp.models.MaskedLM.from_preset(str(tmp_path / "preset"))
        assert isinstance(found, TibertMaskedLM)
        assert found.loss.get_config() == self.make().loss.get_config()

    @pytest.mark.any_backend
    def test_preset_folder_of_a_backbone(self, tmp_path, caplog):
        backbone = TibertBackbone.from_preset("tibert_nano", vocabulary_size=50)
        backbone.save_to_preset(str(tmp_path))
        model = TibertMaskedLM.from_preset(str(tmp_path), preprocessor=None)
        self.assert_close(model.backbone.get_weights(), backbone.get_weights(), atol=0)
        assert "the head of the model is new and untrained" in caplog.text
        caplog.clear()
        model.save_to_preset(str(tmp_path / "whole"))
        TibertMaskedLM.from_preset(str(tmp_path / "whole"))
        assert not caplog.text

    # === Presets by name, and preprocessors ===
    def test_preset_with_arguments(self):
        options = {"dtype": "mixed_bfloat16", "name": "lm", "compile": False}
        model = TibertMaskedLM.from_preset("tibert_nano", vocabulary_size=50, **options)
        assert (model.backbone.dtype_policy.name, model.name, model.compiled) == ("mixed_bfloat16", "lm", False)
        assert list(TibertMaskedLM.presets) == list(TibertBackbone.presets)

    def test_unknown_preset(self):
        with pytest.raises(InputError, match="preset='tibert_huge'"):
            TibertMaskedLM.from_preset("tibert_huge", vocabulary_size=50)

    def test_preset_without_vocabulary(self):
        with pytest.raises(InputError, match="vocabulary_size=None"):
            TibertMaskedLM.from_preset("tibert_nano")

    def test_vocabulary_is_the_tokenizers(self, preprocessor):
        model = TibertMaskedLM.from_preset("tibert_nano", preprocessor=preprocessor)
        assert model.backbone.vocabulary_size == preprocessor.tokenizer.vocabulary_size()
        with pytest.raises(InputError, match="pieces in the tokenizer, vocab_size=7"):
            TibertMaskedLM.from_preset("tibert_nano", preprocessor=preprocessor, vocabulary_size=7)

    @pytest.mark.any_backend
    def test_strings_and_preset_folder(self, preprocessor, tmp_path):
        model = TibertMaskedLM.from_preset("tibert_nano", preprocessor=preprocessor)
        model.compile(LAMB(0.1), **EAGERLY)
        model.fit(TEXT, batch_size=8, verbose=0)
        model.save_to_preset(str(tmp_path))
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # of an optimizer's state, which is no part of a preset
            copy = TibertMaskedLM.from_preset(str(tmp_path))
        assert type(copy.preprocessor) is type(preprocessor)
        assert copy.preprocessor.sequence_length == 16
        expected = ops.convert_to_numpy(preprocessor.tokenizer(TEXT[0]))
        np.testing.assert_array_equal(ops.convert_to_numpy(copy.preprocessor.tokenizer(TEXT[0])), expected)
        self.assert_close(copy.get_weights(), model.get_weights(), atol=0)
        assert np.isfinite(copy.evaluate(TEXT, batch_size=4, verbose=0)[0])
        assert keras.saving.serialize_keras_object(copy)["registered_name"] == "tibert_keras>TibertMaskedLM"
