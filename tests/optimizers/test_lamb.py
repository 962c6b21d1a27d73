"""LAMB: against Google's own trajectories and edge cases, and as a Keras optimizer."""

import gc
import logging
from contextlib import ExitStack

import keras
import numpy as np
import pytest
from keras import ops

from tests.support import google_albert
from tests.support.base import TestCase
from tibert_keras.optimizers.lamb import LAMB
from tibert_keras.optimizers.schedules import WarmupPolynomialDecay

SHAPES = ((3, 2), (2,), (2,))


def variable(path: str, value: np.ndarray) -> keras.Variable:
    *scopes, name = path.split("/")
    with ExitStack() as stack:
        for scope in scopes:
            stack.enter_context(keras.name_scope(scope))
        return keras.Variable(value, name=name)


class TestGoogle(TestCase):
    """The numbers that Google's own code produced."""

    # That of both tasks is in the tests of the model; and, not compiled with XLA and with a second warm-up on the way,
    # in those of runs that begin with a checkpoint of Google's.
    def test_trajectory(self, shared):
        golden = google_albert.folder(shared)
        reference = np.load(golden / "lamb_no_sop.npz")
        model = google_albert.masked_lm(golden)
        model.compile(google_albert.lamb(reference), google_albert.losses(sop=False), jit_compile=True)
        log = google_albert.train(model, google_albert.batches(reference), range(30), sop=False)
        np.testing.assert_allclose(log["loss"], reference["loss"], rtol=0, atol=1e-5)
        np.testing.assert_allclose(log["learning_rate"], reference["learning_rate"], rtol=2e-6, atol=1e-10)
        np.testing.assert_allclose(log["grad_norm"], reference["grad_norm"], rtol=1e-5)
        worst = google_albert.differences(model, reference)
        assert worst["weights"] < 5e-6 and worst["adam_m"] < 1e-6 and worst["adam_v"] < 1e-7, worst

    def test_edge_cases(self, shared):
        reference = np.load(google_albert.folder(shared) / "lamb_unit.npz")
        names = [n.removeprefix("init/") for n in reference if n.startswith("init/")]
        variables = {name: variable(name, reference[f"init/{name}"]) for name in names}
        optimizer = LAMB(float(reference["learning_rate"]), global_clipnorm=None)
        for step in range(8):
            grads = {n: reference[f"grads/{n}"][step] for n in names if n != "enc/never/kernel"}
            pairs = [(None if n not in grads else ops.convert_to_tensor(grads[n]), variables[n]) for n in names]
            with pytest.warns(UserWarning, match="enc/never/kernel"):
                optimizer.apply_gradients(pairs)
            for name, ours in variables.items():
                self.assert_close(ours, reference[f"steps/{name}"][step], atol=1e-5)
                if name in grads:
                    for slot, value in optimizer.slots(ours).items():
                        self.assert_close(value, reference[f"steps/{name}/{slot}"][step], atol=1e-6)
        self.assert_close(optimizer.slots(variables["enc/never/kernel"])["adam_m"], np.zeros((3, 3)), atol=0)


class TestLAMB(TestCase):
    """What the optimizer does by itself, and as a Keras optimizer."""

    def make(self, **kwargs):
        paths = ("dense/kernel", "dense/bias", "norm/LayerNorm/gamma")
        variables = [variable(p, np.ones(s, "float32")) for p, s in zip(paths, SHAPES, strict=True)]
        optimizer = LAMB(**kwargs)
        optimizer.build(variables)
        return optimizer, variables

    def grads(self, *values):
        return [ops.convert_to_tensor(np.full(s, v, "float32")) for s, v in zip(SHAPES, values, strict=True)]

    def test_exclusions_are_resolved_once_and_logged(self, caplog):
        with caplog.at_level(logging.DEBUG, logger="tibert_keras"):
            optimizer, _ = self.make(exclude_from_layer_adaptation=["kernel$"])
        assert optimizer._decayed == {0} and optimizer._adapted == {1, 2}
        assert "2 of 3 variables take no weight decay" in caplog.text
        assert "Without layer adaptation: dense/kernel" in caplog.text

    def test_keras_own_exclusions_hold(self):
        optimizer = LAMB(0.1, exclude_from_layer_adaptation=[".*"])
        kernels = [variable(f"{name}/kernel", np.ones((2, 2), "float32")) for name in "ab"]
        optimizer.exclude_from_weight_decay(var_list=kernels[:1])
        optimizer.build(kernels)
        optimizer.apply([ops.zeros((2, 2))] * 2)
        self.assert_close(kernels[0], np.ones((2, 2)), atol=0)
        self.assert_close(kernels[1], np.full((2, 2), 1 - 0.1 * 0.01))

    @pytest.mark.parametrize("scale", [0.1, 10.0])
    def test_global_clipping(self, scale):
        optimizer, variables = self.make()
        optimizer.apply(self.grads(scale, 2 * scale, -scale))
        norm = scale * np.sqrt(6 + 8 + 2)
        assert float(optimizer.gradient_norm) == pytest.approx(norm, rel=1e-6)
        m = optimizer.slots(variables[1])["adam_m"]
        self.assert_close(m, np.full(2, 0.1 * 2 * scale / max(norm, 1)))

    @pytest.mark.parametrize("name", ["clipnorm", "clipvalue"])
    def test_another_clipping_replaces_the_default(self, name):
        optimizer, variables = self.make(**{name: 0.5})
        optimizer.apply(self.grads(0.0, 2.0, 0.0))
        clipped = 0.5 / np.sqrt(2) if name == "clipnorm" else 0.5
        self.assert_close(optimizer.slots(variables[1])["adam_m"], np.full(2, 0.1 * clipped))

    def test_a_gradient_that_is_not_finite_spoils_all(self):
        optimizer, variables = self.make()
        optimizer.apply(self.grads(1.0, np.inf, 1.0))
        assert all(np.isnan(ops.convert_to_numpy(v)).all() for v in variables)

    def test_gradient_accumulation(self):
        schedule = WarmupPolynomialDecay(0.1, 10, 2)
        whole, expected = self.make(learning_rate=schedule)
        parts, variables = self.make(learning_rate=schedule, gradient_accumulation_steps=2)
        for _ in range(3):
            # Either part alone would be clipped otherwise than their mean.
            whole.apply(self.grads(1.0, 0.0, 3.0))
            parts.apply(self.grads(-4.0, 1.0, 2.0))
            parts.apply(self.grads(6.0, -1.0, 4.0))
        self.assert_close(variables, expected)
        self.assert_close(parts.gradient_norm, whole.gradient_norm)

    def test_serialization(self):
        optimizer = LAMB(WarmupPolynomialDecay(0.1, 10, 2), weight_decay=0.02, exclude_from_weight_decay=["a", "b"])
        copy = self.run_serialization_test(optimizer)
        assert copy.get_config()["exclude_from_weight_decay"] == ["a", "b"]
        assert copy.get_config()["exclude_from_layer_adaptation"] == ["LayerNorm", "layer_norm", "bias"]
        assert copy.global_clipnorm == 1.0

    @pytest.mark.parametrize("factor", [None, 4.0])
    def test_repeated_lookups_count_as_one_gradient(self, factor):
        embedding = keras.layers.Embedding(3, 2, embeddings_initializer="ones")
        model = keras.Sequential([keras.Input((4,), dtype="int32"), embedding, keras.layers.Flatten()])
        model.compile(LAMB(0.0, loss_scale_factor=factor), loss=lambda y, x: ops.sum(x, axis=-1))
        model.train_on_batch(np.array([[1, 1, 1, 2]]), np.zeros((1, 8)))
        # Rows (3, 3) and (1, 1): the norm of the four lookups one by one would be sqrt(8).
        assert float(model.optimizer.gradient_norm) == pytest.approx(np.sqrt(20), rel=1e-6)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="graphs of TensorFlow's")
def test_the_graph_of_a_step_is_let_go():
    def graphs():
        gc.collect()
        return [each for each in gc.get_objects() if type(each).__name__ == "FuncGraph"]

    before = len(graphs())
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(LAMB(0.01), loss="mse")
    model.fit(np.ones((8, 4)), np.ones((8, 1)), verbose=0)
    assert len(graphs()) > before
    del model
    assert len(graphs()) == before


def test_without_layer_adaptation_it_is_googles_adamw():
    """As `AdamWeightDecayOptimizer` of Google's `optimization.py`: no bias correction, and decay in the update."""
    random = np.random.default_rng(0)
    weights = {path: random.normal(size=(3, 2)).astype("float32") for path in ("dense/kernel", "dense/bias")}
    variables = [variable(path, value) for path, value in weights.items()]
    optimizer = LAMB(0.05, exclude_from_layer_adaptation=[""], global_clipnorm=None, name="adamw")
    optimizer.build(variables)
    moments = {path: [0.0, 0.0] for path in weights}
    for _ in range(5):
        gradients = [random.normal(size=(3, 2)).astype("float32") for _ in variables]
        optimizer.apply([ops.convert_to_tensor(gradient) for gradient in gradients], variables)
        for path, gradient in zip(weights, gradients, strict=True):
            m, v = moments[path]
            m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
            moments[path] = [m, v]
            decay = 0.01 * weights[path] if path == "dense/kernel" else 0.0
            weights[path] = weights[path] - 0.05 * (m / (np.sqrt(v) + 1e-6) + decay)
    for each, expected in zip(variables, weights.values(), strict=True):
        np.testing.assert_allclose(ops.convert_to_numpy(each), expected, atol=2e-6)
