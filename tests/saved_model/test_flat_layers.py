"""The layers of SavedModels give what KerasHub's give."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.support.tiny_models import randomize, tiny
from tibert_keras.models.tibert_masked_lm import TibertMaskedLM
from tibert_keras.models.tibert_token_classifier import TibertTokenClassifier
from tibert_keras.saved_model.flat_layers import flat_layers

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="SavedModels are TensorFlow's")


def features(**more):
    rng = np.random.default_rng(0)
    mask = np.arange(9) < np.array([9, 4, 0])[:, None]
    return {
        "token_ids": rng.integers(5, 20, (3, 9)) * mask,
        "segment_ids": rng.integers(0, 2, (3, 9)),
        "padding_mask": mask.astype("int32"),
        **more,
    }


@pytest.mark.parametrize(
    "options", [{}, {"num_groups": 2, "num_inner_repetitions": 2}, {"num_heads": 1}, {"num_heads": 3}]
)
def test_same_as_keras(options):
    model = randomize(TibertTokenClassifier(tiny(**options), labels=["a", "b"]))
    expected = model.backbone(features())
    logits = model(features())
    with flat_layers(model.backbone):
        for name, values in model.backbone(features()).items():
            # Padding as well, of which nobody makes use.
            np.testing.assert_allclose(values, expected[name], atol=2e-6, err_msg=name)
        np.testing.assert_allclose(model(features()), logits, atol=2e-6)


def test_no_texts_and_bfloat16():
    model = randomize(TibertTokenClassifier(tiny(dtype="mixed_bfloat16"), labels=["a", "b"]))
    with flat_layers(model.backbone):
        assert model({name: values[:0] for name, values in features().items()}).shape == (0, 9, 2)
        logits = keras.ops.cast(model(features()), "float32")
    np.testing.assert_allclose(logits, keras.ops.cast(model(features()), "float32"), atol=0.02)


def test_no_sums_over_named_axes():
    """It is what makes it faster: and it shows that the layers are in use."""
    model = tiny()

    def ops():
        graph = tf.function(lambda: model(features())).get_concrete_function().graph
        return {operation.type for operation in graph.get_operations()}

    with flat_layers(model):
        assert "Einsum" not in ops()
    assert "Einsum" in ops()


def test_quantized_layers_stay():
    model = randomize(TibertTokenClassifier(tiny(), labels=["a", "b"]))
    model.quantize("int8")
    expected = model(features())
    with flat_layers(model.backbone):
        np.testing.assert_array_equal(model(features()), expected)


def test_at_some_positions():
    model = randomize(TibertMaskedLM(tiny()))
    x = features(mask_positions=np.array([[8, 3], [1, 0], [0, 0]]))
    expected = model(x)
    with flat_layers(model.backbone):
        np.testing.assert_allclose(model(x), expected, atol=2e-6)


def test_lora():
    model = TibertTokenClassifier(tiny(), labels=["a", "b"])
    model.backbone.enable_lora(2)
    randomize(model)
    expected = model(features())
    with flat_layers(model.backbone):
        np.testing.assert_allclose(model(features()), expected, atol=2e-6)


def test_layers_are_as_they_were_afterwards():
    model = TibertMaskedLM(tiny())
    model.compile(rematerialize=True)
    (layer,) = (layer for group in model.backbone.transformer_layers for layer in group)
    own = vars(layer)["call"]
    with pytest.raises(ZeroDivisionError), flat_layers(model.backbone):
        assert vars(layer)["call"] is not own
        raise ZeroDivisionError
    assert vars(layer)["call"] is own
    model.compile(rematerialize=False)
    with flat_layers(model.backbone):
        pass
    assert "call" not in vars(layer)
