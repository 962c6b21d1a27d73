"""Both pretraining tasks: Google's forward pass and trajectory, training, presets, the way down."""

import warnings

import keras
import keras_nlp
import numpy as np
import pytest
from keras import ops

from tests.support import google_albert
from tests.support.base import EAGERLY, TestCase
from tests.support.tiny_models import one_layer, randomize
from tibert_keras import TibertMaskedLMPreprocessor, TibertTokenizer
from tibert_keras.errors import InputError
from tibert_keras.models.tibert_backbone import TibertBackbone
from tibert_keras.models.tibert_masked_lm import TibertMaskedLM
from tibert_keras.models.tibert_pretraining import TibertPretraining
from tibert_keras.optimizers.lamb import LAMB
from tibert_keras.optimizers.losses import MaskedLanguageModelLoss, SentenceOrderLoss

LOGGED = {"loss", "masked_lm_loss", "sentence_order_loss", "masked_lm_accuracy", "sentence_order_accuracy"}


def google_model(golden):
    """Our model with Google's first checkpoint."""
    model = TibertPretraining(TibertBackbone.from_albert_config(golden / "albert_config.json"))
    google_albert.load(model, np.load(golden / "weights_ckpt0.npz"))
    return model


def google_batch(arrays, step=...):
    """A batch of Google's for both tasks."""
    x, labels, weights = google_albert.batch(arrays, step)
    order = arrays["next_sentence_labels"][step]
    ones = np.ones(len(order), "float32")
    return x, {"masked_lm": labels, "sentence_order": order}, {"masked_lm": weights, "sentence_order": ones}


class TestTibertPretraining(TestCase):
    @pytest.fixture(autouse=True)
    def setup(self):
        random = np.random.default_rng(0)
        ids = random.integers(5, 50, (8, 10))
        self.inputs = {
            "token_ids": ids,
            "segment_ids": np.repeat([[0] * 6 + [1] * 4], 8, axis=0),
            "padding_mask": np.ones_like(ids),
            "mask_positions": random.integers(0, 10, (8, 3)),
        }
        self.labels = {"masked_lm": random.integers(5, 50, (8, 3)), "sentence_order": random.integers(0, 2, 8)}
        self.weights = {
            "masked_lm": (np.arange(3) < random.integers(0, 4, (8, 1))).astype("float32"),
            "sentence_order": np.ones(8, "float32"),
        }
        self.data = (self.inputs, self.labels, self.weights)

    def make(self, **kwargs):
        return TibertPretraining(one_layer(**kwargs))

    def test_layer(self):
        shapes = {"masked_lm": (8, 3, 50), "sentence_order": (8, 2)}
        self.run_layer_test(self.make, self.inputs, shapes, num_weights=32)

    # === Training ===
    # In float32: `test_trajectory`.
    def test_training_in_mixed_precision(self):
        self.run_training_test(self.make(dtype="mixed_bfloat16"), self.data)

    def test_default_compilation(self):
        model = self.make()
        model.compile(**EAGERLY)
        logs = model.evaluate(*self.data[:2], sample_weight=self.weights, verbose=0, return_dict=True)
        assert logs.keys() == LOGGED
        outputs = model(self.inputs)
        of_tokens = float(
            MaskedLanguageModelLoss()(*(part["masked_lm"] for part in (self.labels, outputs, self.weights)))
        )
        of_order = float(SentenceOrderLoss()(self.labels["sentence_order"], outputs["sentence_order"]))
        expected = {"masked_lm_loss": of_tokens, "sentence_order_loss": of_order, "loss": of_tokens + of_order}
        assert {name: logs[name] for name in expected} == pytest.approx(expected, abs=1e-5)
        for name, labels in self.labels.items():
            right = np.argmax(ops.convert_to_numpy(outputs[name]), -1) == labels
            assert logs[f"{name}_accuracy"] == pytest.approx(np.average(right, weights=self.weights[name]), abs=1e-6)
        model.compile(loss={"masked_lm": "sparse_categorical_crossentropy", "sentence_order": None})
        assert model.loss["sentence_order"] is None

    def test_every_variable_is_trained(self):
        model = self.make()
        model.compile(LAMB(0.1), **EAGERLY)
        before = model.get_weights()
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            history = model.fit(*self.data[:2], sample_weight=self.weights, verbose=0, shuffle=False).history
        assert history.keys() == LOGGED
        assert {v.path for v in model.trainable_variables} == {v.path for v in model.variables}
        assert {v.path for v in model.trainable_weights} == {v.path for v in model.weights}
        assert model.non_trainable_variables == model.non_trainable_weights == []
        for variable, old in zip(model.weights, before, strict=True):
            # Of segment embeddings no more than two rows are used, and the softmax does not see the key's bias.
            if not variable.path.endswith("key/bias"):
                assert np.any(ops.convert_to_numpy(variable) != old), variable.path

    @pytest.mark.any_backend
    def test_labels_with_an_axis_of_one(self):
        model, losses = self.make(), []
        for order in (self.labels["sentence_order"], self.labels["sentence_order"][:, None]):
            labels = self.labels | {"sentence_order": order}
            weights = self.weights | {"sentence_order": np.ones(order.shape, "float32")}
            model.compile(**EAGERLY)  # anew, as for another shape
            losses.append(model.evaluate(self.inputs, labels, sample_weight=weights, verbose=0))
        assert losses[0] == losses[1]

    # === Saving ===
    def test_saving_goes_on_where_it_was(self, tmp_path):
        model = self.make()
        model.compile(LAMB(0.01), **EAGERLY)
        model.fit(*self.data[:2], sample_weight=self.weights, verbose=0)
        copy = self.run_model_saving_test(model, self.inputs, tmp_path)
        assert isinstance(copy.optimizer, LAMB) and isinstance(copy.loss["sentence_order"], SentenceOrderLoss)
        for each in (model, copy):
            each.fit(*self.data[:2], sample_weight=self.weights, verbose=0)
        self.assert_close(copy.get_weights(), model.get_weights())

    def test_preset_folder(self, tmp_path):
        model = randomize(self.make())
        copy = self.run_preset_test(model, self.inputs, tmp_path)
        assert copy.sentence_order_head.kernel.path == "sop_head/kernel"

    @pytest.mark.any_backend
    def test_preset_folders_of_less(self, tmp_path):
        masked_lm = TibertMaskedLM.from_preset("tibert_nano", vocabulary_size=50)
        masked_lm.save_to_preset(str(tmp_path / "masked_lm"))
        masked_lm.backbone.save_to_preset(str(tmp_path / "backbone"))
        model = TibertPretraining.from_preset(str(tmp_path / "masked_lm"), name="both")
        assert type(model) is TibertPretraining and model.name == "both"
        self.assert_close(model(self.inputs)["masked_lm"], masked_lm(self.inputs), atol=0)
        model = TibertPretraining.from_preset(str(tmp_path / "backbone"), preprocessor=None)
        self.assert_close(model.backbone.get_weights(), masked_lm.backbone.get_weights(), atol=0)

    @pytest.mark.any_backend
    def test_keras_hub_finds_the_masked_language_model(self, tmp_path):
        # KerasHub goes through its set of classes in an order that differs from process to process.
        candidates = {
            cls
            for cls in keras.saving.get_custom_objects().values()
            if isinstance(cls, type)
            and issubclass(cls, keras_nlp.models.MaskedLM)
            and cls.backbone_cls is TibertBackbone
        }
        assert candidates == {TibertMaskedLM}
        self.make().save_to_preset(str(tmp_path))
        assert type(TibertMaskedLM.from_preset(str(tmp_path))) is TibertPretraining

    def test_preset_with_arguments(self):
        options = {"dtype": "mixed_bfloat16", "name": "lm", "compile": False}
        model = TibertPretraining.from_preset("tibert_nano", vocabulary_size=50, **options)
        assert (model.backbone.dtype_policy.name, model.name, model.compiled) == ("mixed_bfloat16", "lm", False)
        assert list(TibertPretraining.presets) == list(TibertBackbone.presets)
        with pytest.raises(InputError, match="preset='tibert_huge'"):
            TibertPretraining.from_preset("tibert_huge", vocabulary_size=50)
        with pytest.raises(InputError, match="vocabulary_size=None"):
            TibertPretraining.from_preset("tibert_nano")

    # === The way down ===
    def test_masked_lm(self):
        model = randomize(self.make())
        masked_lm = model.masked_lm()
        assert type(masked_lm) is TibertMaskedLM and masked_lm.backbone is model.backbone
        self.assert_close(masked_lm(self.inputs), model(self.inputs)["masked_lm"], atol=0)
        assert [v.path for v in masked_lm.variables] == [v.path for v in model.variables if "sop_head" not in v.path]
        masked_lm.compile(**EAGERLY)
        assert masked_lm.evaluate(self.inputs, self.labels["masked_lm"], verbose=0)[0] > 0

    @pytest.mark.any_backend
    def test_preprocessor_is_kept_for_it(self, spm_models, tmp_path):
        preprocessor = TibertMaskedLMPreprocessor(TibertTokenizer(spm_models["bpe"]), sequence_length=16)
        model = TibertPretraining.from_preset("tibert_nano", preprocessor=preprocessor)
        assert model.backbone.vocabulary_size == preprocessor.tokenizer.vocabulary_size()
        # Batches go in as they are.
        model.compile(**EAGERLY)
        model.fit(*self.data[:2], sample_weight=self.weights, verbose=0, batch_size=8)
        model.save_to_preset(str(tmp_path))
        copy = TibertPretraining.from_preset(str(tmp_path)).masked_lm()
        assert np.isfinite(copy.evaluate(["བཀྲ་ཤིས་བདེ་ལེགས།"] * 4, verbose=0)[0])


class TestGoogle(TestCase):
    """The numbers that Google's own code produced."""

    @pytest.mark.parametrize("checkpoint", [pytest.param(0, marks=pytest.mark.any_backend), 30])
    def test_forward(self, shared, checkpoint):
        golden = google_albert.folder(shared)
        reference = np.load(golden / ("forward_ckpt30.npz" if checkpoint else "forward.npz"))
        model = google_model(golden)
        if checkpoint:
            final, names = np.load(golden / "lamb_sop.npz"), np.load(golden / "weights_ckpt0.npz")
            google_albert.load(model, {name: final[f"final/{name}"] for name in names})
        x, y, weight = google_batch(reference)
        outputs = model(x)
        log_probs = {name: ops.log_softmax(logits) for name, logits in outputs.items()}
        vocabulary = outputs["masked_lm"].shape[-1]
        self.assert_close(ops.reshape(log_probs["masked_lm"], (-1, vocabulary)), reference["mlm_log_probs"], atol=1e-5)
        self.assert_close(log_probs["sentence_order"], reference["sop_log_probs"], atol=1e-5)
        model.compile(**EAGERLY)
        logs = model.evaluate(x, y, sample_weight=weight, verbose=0, return_dict=True)
        for name in ("masked_lm_loss", "sentence_order_loss"):
            assert logs[name] == pytest.approx(float(reference[name]), abs=1e-5)

    def test_trajectory(self, shared):
        golden = google_albert.folder(shared)
        reference = np.load(golden / "lamb_sop.npz")
        model = google_model(golden)
        model.compile(google_albert.lamb(reference), jit_compile=True)
        arrays = google_albert.batches(reference)
        log = {name: [] for name in ("loss", "masked_lm_loss", "sentence_order_loss", "learning_rate", "grad_norm")}
        for step in range(30):
            log["learning_rate"].append(float(model.optimizer.learning_rate))
            model.reset_metrics()
            logs = model.train_on_batch(*google_batch(arrays, step), return_dict=True)
            for name in ("loss", "masked_lm_loss", "sentence_order_loss"):
                log[name].append(float(logs[name]))
            log["grad_norm"].append(float(model.optimizer.gradient_norm))
        tolerances = {"learning_rate": {"rtol": 2e-6, "atol": 1e-10}, "grad_norm": {"rtol": 1e-5}}
        for name, values in log.items():
            tolerance = tolerances.get(name, {"rtol": 0, "atol": 1e-5})
            np.testing.assert_allclose(values, reference[name], **tolerance, err_msg=name)
        worst = google_albert.differences(model, reference)
        assert worst["weights"] < 5e-6 and worst["adam_m"] < 1e-6 and worst["adam_v"] < 1e-7, worst


class TestSentenceOrderLoss(TestCase):
    labels = np.array([0, 1, 1])
    logits = np.array([[1, 2], [3, -1], [0, 0.5]], "float32")

    def expected(self, weights):
        log_probs = self.logits - np.log(np.exp(self.logits).sum(-1, keepdims=True))
        return np.average(-log_probs[np.arange(3), self.labels], weights=weights)

    def test_formula(self):
        loss, weights = SentenceOrderLoss(), np.array([1, 0.5, 0])
        assert float(loss(self.labels, self.logits)) == pytest.approx(self.expected(np.ones(3)), abs=1e-6)
        for shape in ((3,), (3, 1)):
            actual = loss(self.labels.reshape(shape), self.logits, weights.reshape(shape))
            assert float(actual) == pytest.approx(self.expected(weights), abs=1e-6)
        assert float(loss(self.labels, self.logits, 0 * weights)) == 0.0

    def test_float32_whatever_the_logits(self):
        loss = SentenceOrderLoss()(self.labels, ops.cast(self.logits, "bfloat16"))  # which holds these exactly
        assert keras.backend.standardize_dtype(loss.dtype) == "float32"
        assert float(loss) == pytest.approx(self.expected(np.ones(3)), abs=1e-6)

    def test_shapes_that_do_not_fit(self):
        loss = SentenceOrderLoss()
        with pytest.raises(ValueError, match=r"one axis.* Received: y_true.shape=\(3, 2\)"):
            loss(np.ones((3, 2)), self.logits)
        with pytest.raises(ValueError, match=r"one weight for each label. Received: sample_weight.shape=\(3, 2\)"):
            loss(self.labels, self.logits, np.ones((3, 2)))

    def test_serialization(self):
        assert self.run_serialization_test(SentenceOrderLoss(name="sop")).name == "sop"
