"""The masked language model loss: its value, its dtype, its errors; replicas are tested with LAMB."""

import keras
import numpy as np
import pytest
from keras import ops

from tests.support import google_albert
from tests.support.base import TestCase
from tibert_keras.optimizers.losses import MaskedLanguageModelLoss


def reference(labels, logits, weights):
    logits = logits.astype("float64")
    log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    losses = -np.take_along_axis(log_probs, labels[..., None], -1)[..., 0]
    return (weights * losses).sum() / (weights.sum() + 1e-5)


class TestMaskedLanguageModelLoss(TestCase):
    @pytest.fixture(autouse=True)
    def setup(self):
        random = np.random.default_rng(0)
        self.labels = random.integers(0, 11, (3, 5))
        self.logits = random.normal(size=(3, 5, 11)).astype("float32")
        self.weights = np.array([[1, 1, 1, 0, 0], [1, 0, 0, 0, 0], [0.5, 2, 1, 1, 0]], "float32")
        self.loss = MaskedLanguageModelLoss()

    def test_formula(self):
        actual = self.loss(self.labels, self.logits, self.weights)
        assert float(actual) == pytest.approx(reference(self.labels, self.logits, self.weights), abs=1e-6)

    def test_google(self, shared):
        golden = google_albert.folder(shared)
        forward = np.load(golden / "forward.npz")
        x, y, weight = google_albert.batch(forward)
        loss = self.loss(y, google_albert.masked_lm(golden)(x), weight)
        assert float(loss) == pytest.approx(float(forward["masked_lm_loss"]), abs=1e-5)

    def test_without_weights_all_count(self):
        ones = np.ones_like(self.weights)
        expected = reference(self.labels, self.logits, ones)
        assert float(self.loss(self.labels, self.logits)) == pytest.approx(expected, abs=1e-6)

    def test_padding_does_not_count(self):
        padded = [np.pad(a, ((0, 0), (0, 7)) + ((0, 0),) * (a.ndim - 2)) for a in self.batch()]
        assert float(self.loss(*padded)) == pytest.approx(float(self.loss(*self.batch())), abs=1e-6)

    def test_nothing_masked(self):
        assert float(self.loss(self.labels, self.logits, 0 * self.weights)) == 0.0

    def test_float32_whatever_the_logits(self):
        logits = ops.cast(self.logits, "bfloat16")
        loss = self.loss(self.labels, logits, ops.cast(self.weights, "bfloat16"))
        rounded = ops.convert_to_numpy(ops.cast(logits, "float32"))
        assert keras.backend.standardize_dtype(loss.dtype) == "float32"
        assert float(loss) == pytest.approx(reference(self.labels, rounded, self.weights), abs=1e-6)

    def test_weights_of_another_rank(self):
        with pytest.raises(ValueError, match=r"one weight for each label. Received: sample_weight.shape=\(3,\)"):
            self.loss(self.labels, self.logits, np.ones(3))

    def test_labels_of_another_rank(self):
        with pytest.raises(ValueError, match=r"one axis.* Received: y_true.shape=\(3,\)"):
            self.loss(self.labels[:, 0], self.logits)

    def test_serialization(self):
        assert self.run_serialization_test(MaskedLanguageModelLoss(name="mlm")).name == "mlm"

    def batch(self):
        return self.labels, self.logits, self.weights
