"""Labels and weights, of any shape, beside ids."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

from tibert_keras.errors import InputError
from tibert_keras.models.targets import as_weights, check_targets
from tibert_keras.optimizers.losses import MaskedLanguageModelLoss

pytestmark = pytest.mark.any_backend

IDS = {"token_ids": np.ones((2, 3), "int32")}
MASKED = {**IDS, "mask_positions": np.ones((2, 5), "int32")}
SPARSE = keras.losses.SparseCategoricalCrossentropy()
TEXTS, TOKENS = (SPARSE, (None, 4), IDS), (MaskedLanguageModelLoss(), (None, None, 4), IDS)
MASKS = (*TOKENS[:2], MASKED)


def check(kind, y, weights=None):
    loss, shape, x = kind
    model = SimpleNamespace(loss=loss, output=SimpleNamespace(shape=shape))
    check_targets(model, {"x": x, "y": y, "sample_weight": weights})
    if y is not None:
        batches = tf.data.Dataset.from_tensors((x, y) if weights is None else (x, y, weights))
        unknown = tf.data.Dataset.from_generator(
            lambda: [(x, y)], output_types=(tf.nest.map_structure(lambda _: tf.int64, x), y.dtype)
        )
        for each in (batches, unknown):
            check_targets(model, {"x": each, "y": None, "sample_weight": None})


@pytest.mark.parametrize(
    ("kind", "y", "weights"),
    [
        (TEXTS, np.array([0, 3]), None),
        (TEXTS, np.array([[0.0], [3.0]]), np.ones((2, 1))),
        (TEXTS, np.array([True, False]), np.array([0, 2])),
        (TOKENS, np.full((2, 3), 3), np.ones((2, 1))),
        (MASKS, np.full((2, 5), 3), np.ones((2, 5))),
        # Others mean what they say, or are Keras's.
        (("categorical_crossentropy", *TEXTS[1:]), np.eye(4)[:2], None),
        ((SPARSE, (None, 4), np.ones((2, 3))), np.array([9, 9]), None),
    ],
)
def test_right(kind, y, weights):
    check(kind, y, weights)


@pytest.mark.parametrize(
    ("kind", "y", "message"),
    [
        (TEXTS, None, "y=None"),
        (TEXTS, np.eye(4)[:2], r"labels of shape \(2, 4\) for examples of shape \(2,\). Give .* y.argmax\(-1\)"),
        (("sparse_categorical_crossentropy", *TEXTS[1:]), np.eye(4)[:2], r"shape \(2, 4\)"),
        (TEXTS, np.array([0, 1, 2]), r"labels of shape \(3,\) for examples of shape \(2,\)"),
        (TOKENS, np.zeros((2, 3, 4)), r"labels of shape \(2, 3, 4\) for examples of shape \(2, 3\)"),
        (TOKENS, np.zeros(2), r"labels of shape \(2,\) for examples of shape \(2, 3\)"),
        (MASKS, np.zeros((2, 3)), r"labels of shape \(2, 3\) for examples of shape \(2, 5\)"),
        (TEXTS, np.array([0, 4]), "no such class. Received: 4. Give numbers from 0 to 3"),
        (TOKENS, np.full((2, 3), -100), "no such class. Received: -100."),
        (TEXTS, np.array([0, np.nan]), "no such class. Received: nan"),
        (TEXTS, np.array([0, 0.5]), "no such class. Received: 0.5"),
        (TEXTS, np.array(["prose", "verse"]), "are numbers. Received: 'prose'"),
    ],
)
def test_wrong_labels(kind, y, message):
    with pytest.raises(InputError, match=message):
        check(kind, y)


@pytest.mark.parametrize(
    ("kind", "weights", "message"),
    [
        (TEXTS, np.ones(1), r"weights of shape \(1,\) for labels of shape \(2,\)"),
        (TEXTS, np.ones((2, 3)), r"weights of shape \(2, 3\)"),
        (TOKENS, np.ones(2), r"weights of shape \(2,\) for labels of shape \(2, 3\)"),
        (TOKENS, np.ones((1, 3)), r"weights of shape \(1, 3\)"),
        (TEXTS, np.array([1, np.nan]), "from 0. Received: nan to nan"),
        (TEXTS, np.array([1, -1]), "from 0. Received: -1 to 1"),
    ],
)
def test_wrong_weights(kind, weights, message):
    with pytest.raises(InputError, match=message):
        check(kind, np.zeros(2 if kind is TEXTS else (2, 3)), weights)


@pytest.mark.parametrize("values", [["a"], [None, "b"], [[1.0], [1.0, 2.0]], object()])
def test_weights_that_are_no_numbers(values):
    with pytest.raises(InputError, match="Weights are numbers. Received: "):
        as_weights(values)
