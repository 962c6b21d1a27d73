"""Muon against Keras's own, and what it does with attention's kernels and with embeddings."""

import keras
import numpy as np
import pytest
from keras import ops

from tibert_keras.models.tibert_masked_lm import TibertMaskedLM
from tibert_keras.optimizers.lamb import LAMB
from tibert_keras.optimizers.muon import Muon

SHAPES = {"query": (12, 3, 4), "attention_output": (3, 4, 12), "tall": (12, 5), "wide": (5, 12)}


def steps(
    optimizer: keras.optimizers.Optimizer, values: dict[str, np.ndarray], number: int = 4
) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(2)
    variables = [keras.Variable(value, name=name) for name, value in values.items()]
    optimizer.build(variables)
    for _ in range(number):
        optimizer.apply([ops.convert_to_tensor(rng.normal(size=each.shape).astype("float32")) for each in variables])
    return {name: ops.convert_to_numpy(each) for name, each in zip(values, variables, strict=True)}


@pytest.fixture
def values() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {name: rng.normal(size=shape).astype("float32") for name, shape in SHAPES.items()}


def test_keras(values):
    """As Keras's own on the kernels as matrices."""
    ours = steps(Muon(0.01, weight_decay=0.1, global_clipnorm=None), values)
    matrices = {name: value.reshape(value.shape if value.ndim == 2 else (12, 12)) for name, value in values.items()}
    theirs = steps(keras.optimizers.Muon(0.01, weight_decay=0.1), matrices)
    for name, value in values.items():
        np.testing.assert_allclose(ours[name], theirs[name].reshape(value.shape), atol=2e-5, err_msg=name)
        assert np.abs(ours[name] - value).max() > 1e-3


def test_the_rest_is_adam(values):
    rest = {"token_embedding": values["tall"], "bias": values["tall"][0], "gamma": values["tall"][1]}
    adam = LAMB(0.01, beta_2=0.99, exclude_from_layer_adaptation=[""])
    ours, theirs = steps(Muon(0.01), rest), steps(adam, rest)
    for name in rest:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)


def test_a_model():
    model = TibertMaskedLM.from_preset("tibert_nano", vocabulary_size=50)
    optimizer = Muon.from_config({**Muon(0.01).get_config(), "momentum": 0.9})
    assert optimizer.momentum == 0.9
    optimizer.build(model.trainable_variables)
    paths = [model.trainable_variables[index].path for index in optimizer._matrices]
    # Query, key, value and output, two of the feed-forward block, the projection and the head's.
    assert len(paths) == 8 and not any("token_embedding" in path or "position" in path for path in paths)
    assert set(optimizer._matrices.values()) == {(64, 64), (64, 256), (256, 64), (32, 64), (64, 32)}
