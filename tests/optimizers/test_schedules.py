"""The learning rate, against Google's and by its closed form."""

import keras
import numpy as np
import pytest

from tests.support import google_albert
from tests.support.base import TestCase
from tibert_keras.optimizers.schedules import WarmupPolynomialDecay


class TestWarmupPolynomialDecay(TestCase):
    @pytest.mark.parametrize("start", [0, 15])
    def test_google(self, shared, start):
        reference = np.load(google_albert.folder(shared) / "lamb_warm_restart.npz")
        expected = reference[f"lr_by_global_step_start{start}"]
        schedule = google_albert.lamb(reference, start)._learning_rate
        rates = np.array([float(schedule(step)) for step in range(len(expected))])
        # Google's rate is negative before the warm-up starts; ours is 0 there.
        np.testing.assert_allclose(rates, np.maximum(expected, 0), rtol=2e-6, atol=1e-10)

    def test_end_and_power(self):
        schedule = WarmupPolynomialDecay(1.0, 100, 0, end_learning_rate=0.2, power=2.0)
        rates = [float(schedule(step)) for step in (0, 50, 100, 1000)]
        np.testing.assert_allclose(rates, [1.0, 0.2 + 0.8 * 0.25, 0.2, 0.2], rtol=1e-6)

    def test_start_without_warmup(self):
        schedule = WarmupPolynomialDecay(1.0, 100, 0, start_warmup_step=10)
        np.testing.assert_allclose([float(schedule(9)), float(schedule(10))], [0.0, 0.9], rtol=1e-6)

    def test_late_steps_are_exact(self):
        schedule = WarmupPolynomialDecay(1.0, 1_000_000, 3_125)
        assert float(schedule(999_999)) == pytest.approx(1e-6, rel=0.05)

    def test_step_as_variable(self):
        schedule = WarmupPolynomialDecay(1.0, 100, 10)
        assert float(schedule(keras.Variable(5, dtype="int32"))) == pytest.approx(0.5)

    def test_serialization(self):
        schedule = WarmupPolynomialDecay(
            0.5, 100, 10, start_warmup_step=5, end_learning_rate=0.1, power=2.0, name="rate"
        )
        copy = self.run_serialization_test(schedule)
        assert copy.get_config() == schedule.get_config()

    @pytest.mark.parametrize("steps", [(0, 1, 0), (10, -1, 0), (10, 1, -1)])
    def test_bad_steps(self, steps):
        decay, warmup, start = steps
        with pytest.raises(ValueError, match=f"Received: decay_steps={decay}"):
            WarmupPolynomialDecay(0.1, decay, warmup, start_warmup_step=start)
