"""Texts in a graph."""

import keras
import pytest
import tensorflow as tf

from tibert_keras.errors import InputError
from tibert_keras.saved_model.text_module import bounded
from tibert_keras.tokenizers.bounds import MAX_RUN, check_text

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="SavedModels are TensorFlow's")


@pytest.mark.parametrize(
    ("text", "count"),
    [("", 1), ("ཀ་", 600_000), ("a", MAX_RUN), ("a", MAX_RUN + 1), ("་ a", MAX_RUN), ("a ", 9_000), ("ཀ་", 700_000)],
)
def test_texts_are_bounded_as_in_python(text, count):
    text *= count
    try:
        check_text(text)
    except InputError as error:
        with pytest.raises(tf.errors.InvalidArgumentError, match=str(error).partition(" Received")[0]):
            bounded(tf.constant(["ཀ་", text]))
    else:
        assert bounded(tf.constant(["ཀ་", text]))[1] == text.encode()
