"""Presets without Keras: the same answers as with it, and what needs it all the same."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.support.saved_models import tagger_of
from tests.support.tiny_models import randomize, tiny
from tibert_keras import TibertMaskedLM, TibertMaskedLMPreprocessor, TibertTokenClassifier, TibertTokenizer
from tibert_keras.errors import InputError
from tibert_keras.inference.fill import fill_gaps
from tibert_keras.inference.loading import load_fill_mask
from tibert_keras.inference.plain import PlainFillMask, PlainTagger, is_plain, read_preset_weights
from tibert_keras.models.tibert_presets import MASKED_LM, TAGGER, list_preset_files
from tibert_keras.saved_model.fill_mask import FillMask
from tibert_keras.tagging.windows import tag_lines

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="the other side is a TensorFlow module")

TEXTS = ["བཅོམ་[MASK]་འདས། ལ་[MASK]", "[MASK]", "བཀྲ་ཤིས་[MASK]།"]


@pytest.fixture(scope="module")
def models(spm_models, tmp_path_factory):
    """A preset with groups of several layers and more embeddings than pieces, and its model."""
    folder = str(tmp_path_factory.mktemp("plain") / "preset")
    sizes = {
        "num_groups": 2,
        "num_inner_repetitions": 2,
        "vocabulary_size": 410,
        "dropout": 0.1,
        "max_sequence_length": 32,
    }
    options = {"tsheg_pretokenization": True, "underline_between_sections": False}
    preprocessor = TibertMaskedLMPreprocessor(TibertTokenizer(spm_models["bpe"], **options), sequence_length=32)
    model = randomize(TibertMaskedLM(tiny(**sizes), preprocessor=preprocessor))
    model.save_to_preset(folder)
    return PlainFillMask(folder, top_k=4), FillMask(model, top_k=4)


def test_the_same_answers(models):
    plain, full = models
    ours = {name: np.asarray(each) for name, each in plain.fill_mask(TEXTS).items()}
    theirs = {name: each.numpy() for name, each in full.fill_mask(tf.constant(TEXTS)).items()}
    np.testing.assert_array_equal(ours["mask_count"], theirs["mask_count"])
    for row, count in enumerate(ours["mask_count"]):
        np.testing.assert_array_equal(ours["pieces"][row, :count], theirs["pieces"][row, :count])
        np.testing.assert_allclose(ours["probabilities"][row, :count], theirs["probabilities"][row, :count], rtol=1e-4)
    for name, each in plain.tokenize(TEXTS).items():
        np.testing.assert_array_equal(each, full.tokenize(tf.constant(TEXTS))[name])
    assert plain.vocabulary()["pieces"].tolist() == full.vocabulary()["pieces"].numpy().tolist()
    assert plain.vocabulary()["max_tokens"] == full.vocabulary()["max_tokens"] == 32
    text = "བཅོམ་[GAP:1-2]་འདས།"
    for one, other in zip(fill_gaps(text, model=plain)[0][0], fill_gaps(text, model=full)[0][0], strict=True):
        assert one.text == other.text and one.score == pytest.approx(other.score, rel=1e-4)
    with pytest.raises(InputError, match="A text is longer than 32 tokens. Received: 'ཀཀ"):
        plain.fill_mask(["[MASK]", "ཀ" * 40 + "[MASK]"])


def test_the_same_words(spm_models, tmp_path):
    tagger = tagger_of(spm_models["bpe"])
    tagger.save_to_preset(str(tmp_path))
    lines = ["བཀྲ་ཤིས་བདེ་ལེགས། ", "", "ཆོས་ལ་བསྔགས་པ། །" * 9, "abc"]
    assert is_plain(str(tmp_path), "TibertTokenClassifier")
    plain = PlainTagger(str(tmp_path))
    assert list(tag_lines(plain, lines)) == list(tag_lines(tagger, lines))
    inputs = tagger.preprocessor.pack(lines[:1]).inputs
    expected = keras.ops.log_softmax(tagger(inputs))
    np.testing.assert_allclose(plain.predict_on_batch(inputs), expected, rtol=0, atol=1e-5)


def test_weights_in_bfloat16(random_preset, tmp_path):
    model = TibertMaskedLM.from_preset(random_preset, dtype="bfloat16")
    model.save_to_preset(tmp_path)
    assert is_plain(str(tmp_path), "TibertMaskedLM")
    weights = read_preset_weights(str(tmp_path), inner=model.backbone.num_inner_repetitions)
    expected = {weight.path: np.asarray(keras.ops.cast(weight.value, "float32")) for weight in model.weights}
    assert weights.keys() == expected.keys()
    assert all((weights[name] == expected[name]).all() for name in weights)


def test_what_needs_keras(random_preset, tmp_path):
    model = TibertMaskedLM.from_preset(random_preset)
    assert is_plain(str(random_preset), "TibertMaskedLM") and not is_plain(str(random_preset), "TibertTokenClassifier")
    assert isinstance(load_fill_mask(random_preset, count=3), PlainFillMask)
    assert isinstance(load_fill_mask(random_preset), FillMask)
    model.backbone.save_to_preset(tmp_path / "encoder")
    config = Path(shutil.copytree(random_preset, tmp_path / "int8")) / "config.json"
    config.write_text(config.read_text().replace('"DTypePolicy"', '"DTypePolicyMap"'))
    list_preset_files(tmp_path / "int8")
    TibertTokenClassifier.from_preset(random_preset, labels=["X", "CONT"]).save_to_preset(tmp_path / "tagger")
    shutil.copytree(random_preset, tmp_path / "older")
    (tmp_path / "older/manifest.json").unlink()
    for name in ("encoder", "int8", "tagger", "older"):
        assert not is_plain(str(tmp_path / name), "TibertMaskedLM")
    assert not is_plain("hf://user/model", "TibertMaskedLM")
    # 2 layers of 8 units.
    limit = 2**23 // (2 * 8**2)
    assert [is_plain(str(random_preset), "TibertMaskedLM", count=each) for each in (limit, limit + 1)] == [True, False]
    shutil.copytree(random_preset, tmp_path / "damaged")
    (tmp_path / "damaged/task.weights.h5").write_bytes(b"")
    with pytest.raises(InputError, match="The preset cannot be loaded: its size or hash"):
        is_plain(str(tmp_path / "damaged"), "TibertMaskedLM")


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("config.json", {"num_layers": -7}),
        ("config.json", {"num_heads": 4}),
        ("config.json", {"num_groups": "x"}),
        ("config.json", {"num_inner_repetitions": 2}),
        ("config.json", {"hidden_dim": 0}),
        ("config.json", {"dtype": "float32"}),
        ("preprocessor.json", {"sequence_length": 10**30}),
        ("preprocessor.json", {"sequence_length": 0.5}),
    ],
)
def test_what_somebody_has_made_up(name, changes, random_preset, tmp_path):
    """With a list of files that fits: then no hash tells."""
    path = Path(shutil.copytree(random_preset, tmp_path / "preset")) / name
    content = json.loads(path.read_text(encoding="utf-8"))
    content["config"] |= changes
    path.write_text(json.dumps(content), encoding="utf-8")
    list_preset_files(tmp_path / "preset")
    with pytest.raises(InputError, match="The preset cannot be loaded: .* Received: '.*preset'"):
        is_plain(str(tmp_path / "preset"), "TibertMaskedLM")
        PlainFillMask(str(tmp_path / "preset"))


def test_few_texts_import_no_keras(box, tmp_path):
    code = f"""
import pathlib, sys
from tibert_keras import fill_gaps, fill_mask
from tibert_keras.cli.main import main
from tibert_keras.models import tibert_presets
tibert_presets.PRESETS = pathlib.Path({str(box(MASKED_LM).parent)!r})
assert fill_gaps("ཀ་[GAP:1]་ཁ") and fill_mask("ཀ་[MASK]") and main(["fill-mask", "ཀ་[MASK]"]) == 0
assert main(["tag", "--model={TAGGER}", "བཀྲ་ཤིས།"]) == 0
print(sorted({{"keras", "tensorflow"}} & sys.modules.keys()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    *lines, imported = done.stdout.splitlines()
    assert (len(lines), imported) == (2, "[]")
