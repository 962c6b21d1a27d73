"""What using a model imports, and what is refused before anything heavy is."""

import subprocess
import sys

import keras
import pytest

from tibert_keras.inference.loading import load_fill_mask

HEAVY = ["tensorflow", "keras", "keras_hub", "keras_nlp", "sklearn", "matplotlib"]
LIGHT = [
    *(f"tagging.{name}" for name in ["words", "reading", "preparation", "windows", "metrics", "writing"]),
    *(f"inference.{name}" for name in ["fill", "gaps", "gap_search", "gap_model", "piece_table"]),
    *(f"inference.{name}" for name in ["loading", "tag", "segment"]),
    "tibetan",
]


def imported_by(code: str) -> set[str]:
    """Run code in a fresh process, and return which heavy modules it imported."""
    report = f"import sys; print(*[name for name in {HEAVY} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True, check=True)
    return set(result.stdout.split())


def test_modules_are_light():
    assert imported_by("\n".join(f"import tibert_keras.{name}" for name in LIGHT)) == set()


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="its model is a TensorFlow module")
def test_a_saved_model_needs_no_keras(exported, tmp_path):
    import tensorflow as tf
    import tensorflow_text

    foreign = tf.Module()
    foreign.words = tf.function(
        lambda text: tensorflow_text.WhitespaceTokenizer().tokenize(text).to_tensor(),
        input_signature=[tf.TensorSpec([None], tf.string)],
    )
    tf.saved_model.save(foreign, str(tmp_path / "foreign"))
    code = f"""
import sys
from tibert_keras.inference.fill import fill_gaps, fill_mask
for fill in fill_mask, fill_gaps:
    assert fill(["[MASK]"], model={str(exported)!r})
assert "keras" not in sys.modules
from tibert_keras.saved_model.versions import load_saved_model
assert load_saved_model({str(tmp_path / "foreign")!r}).words(["a b"]).shape == (1, 2)
"""
    # The foreign one needs all of TensorFlow Text, which imports Keras, and so registers our classes.
    assert {"tensorflow", "keras"} <= imported_by(code)


def test_a_loaded_model_passes_through():
    model = object()
    assert load_fill_mask(model) is model
