"""Ids, and labels and weights of any shape beside them."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

from tibert_keras.errors import InputError
from tibert_keras.models.data_checks import as_weights, check_batch, check_data, reporting_input_errors
from tibert_keras.optimizers.losses import MaskedLanguageModelLoss

pytestmark = pytest.mark.any_backend

IDS = {name: np.ones((2, 3), "int32") for name in ("token_ids", "segment_ids", "padding_mask")}
MASKED = {**IDS, "mask_positions": np.ones((2, 5), "int32")}
SPARSE = keras.losses.SparseCategoricalCrossentropy()
TEXTS, TOKENS = (SPARSE, (None, 4), IDS), (MaskedLanguageModelLoss(), (None, None, 4), IDS)
MASKS = (*TOKENS[:2], MASKED)
SIZES = SimpleNamespace(vocabulary_size=20, num_segments=2, max_sequence_length=4)


def made(loss, shape, x):
    return SimpleNamespace(loss=loss, output=SimpleNamespace(shape=shape), input=x, backbone=SIZES)


def check(kind, y, weights=None):
    model, x = made(*kind), kind[2]
    check_batch(model, x, y, weights)
    if y is not None:
        batches = tf.data.Dataset.from_tensors((x, y) if weights is None else (x, y, weights))
        unknown = tf.data.Dataset.from_generator(
            lambda: [(x, y)], output_types=(tf.nest.map_structure(lambda _: tf.int64, x), y.dtype)
        )
        for each in (batches, unknown):
            check_data(model, {"x": each, "y": None, "sample_weight": None})


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
        (("mse", *TEXTS[1:]), None, None),
        ((keras.losses.SparseCategoricalCrossentropy(ignore_class=-100), *TOKENS[1:]), np.full((2, 3), -100), None),
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
        (TEXTS, np.array([1, np.nan]), "from 0. Received: nan. Give others"),
        (TEXTS, np.array([1, -1]), "from 0. Received: -1"),
    ],
)
def test_wrong_weights(kind, weights, message):
    with pytest.raises(InputError, match=message):
        check(kind, np.zeros(2 if kind is TEXTS else (2, 3)), weights)


def without(name):
    return {key: value for key, value in MASKED.items() if key != name}


@pytest.mark.parametrize(
    ("x", "message"),
    [
        ({**MASKED, "labels": np.ones(2)}, "Received: a dict of token_ids, .*, labels. Give a dict of"),
        (without("segment_ids"), "Received: a dict of token_ids, padding_mask, mask_positions. Give a dict of token_i"),
        (without("token_ids"), "takes ids by name. Received: a dict of segment_ids"),
        ({"input_ids": IDS["token_ids"]}, "Received: a dict of input_ids"),
        (IDS["token_ids"], r"takes ids by name. Received: ndarray of shape \(2, 3\)"),
        ({**MASKED, "padding_mask": np.ones((2, 2))}, r"padding_mask of shape \(2, 2\), token_ids of shape \(2, 3\)"),
        ({**MASKED, "mask_positions": np.ones((3, 5))}, r"mask_positions of shape \(3, 5\)"),
        ({name: value[0] for name, value in MASKED.items()}, r"token_ids of shape \(3,\)"),
        ({**MASKED, "token_ids": [[1, 2], [3]]}, "rows of a batch have one length. Received: a list of rows"),
        ({**MASKED, "token_ids": tf.ragged.constant([[1, 2], [3]])}, "one length. Received: a RaggedTensor"),
        ({name: np.ones((2, 5)) for name in MASKED}, "Received: 5 tokens, max_sequence_length=4. Cut them"),
        ({**MASKED, "token_ids": np.full((2, 3), 20)}, "token_ids. Received: 20. Give numbers from 0 to 19"),
        ({**MASKED, "token_ids": np.full((2, 3), 0.5)}, "token_ids. Received: 0.5"),
        ({**MASKED, "segment_ids": np.full((2, 3), -1)}, "segment_ids. Received: -1. Give numbers from 0 to 1"),
        ({**MASKED, "mask_positions": np.full((2, 5), 3)}, "mask_positions. Received: 3. Give numbers from 0 to 2"),
    ],
)
def test_wrong_inputs(x, message):
    with pytest.raises(InputError, match=message):
        check_batch(made(*MASKS), x, targets=False)


def test_errors_of_graphs_are_reported_in_one_line():
    def in_python(value):
        raise InputError(f"Wrong. Received: {value}. Give another.")

    def assertion(value):
        with tf.control_dependencies([tf.debugging.Assert(value > 9, ["Wrong. Received:", [value], "Give another."])]):
            return tf.identity(value)

    for call in (lambda value: tf.numpy_function(in_python, [value], tf.int64), assertion):
        with pytest.raises(InputError, match="^Wrong. Received: 7. Give another.$"), reporting_input_errors():
            tf.function(call)(tf.constant(7))
    with pytest.raises(tf.errors.InvalidArgumentError), reporting_input_errors():
        tf.debugging.assert_positive([-1])


@pytest.mark.parametrize("values", [["a"], [None, "b"], [[1.0], [1.0, 2.0]], object()])
def test_weights_that_are_no_numbers(values):
    with pytest.raises(InputError, match="Weights are numbers. Received: "):
        as_weights(values)
