"""Filled masks: order, counts and text, the same from a preset, a run and a SavedModel."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import keras
import pytest
import tensorflow as tf

from tibert_keras.errors import InputError
from tibert_keras.inference.fill_mask import FilledMask, fill_mask
from tibert_keras.saved_model.export import export_saved_model

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="its model is a TensorFlow module")

TEXTS = ["སངས་རྒྱས་[MASK]བཅོམ་[MASK]འདས།", "[MASK]", "བཀྲ་ཤིས་[MASK]"]


@pytest.fixture(scope="module")
def filled(finished_run) -> list[FilledMask]:
    return fill_mask(TEXTS, model=finished_run, top_k=4)


class TestFillMask:
    def test_one_item_a_mask_in_order(self, filled):
        assert [(mask.text, mask.mask) for mask in filled] == [(0, 0), (0, 1), (1, 0), (2, 0)]
        assert all(len(mask.pieces) == len(mask.probabilities) == 4 for mask in filled)
        assert all(mask.probabilities == sorted(mask.probabilities, reverse=True) for mask in filled)

    def test_filled_text(self, filled):
        first, second = (mask.pieces[0].replace("▁", " ") for mask in filled[:2])
        assert filled[0].filled == filled[1].filled == f"སངས་རྒྱས་{first}བཅོམ་{second}འདས།"
        assert filled[2].filled == filled[2].pieces[0].replace("▁", " ").strip()

    @pytest.mark.parametrize("batch_size", [1, 2])
    def test_batches(self, filled, finished_run, batch_size):
        assert_same(fill_mask(TEXTS, model=finished_run, top_k=4, batch_size=batch_size), filled)

    def test_top_k(self, filled, finished_run):
        for one, four in zip(fill_mask(TEXTS, model=finished_run, top_k=1), filled, strict=True):
            assert (one.pieces, one.filled) == (four.pieces[:1], four.filled)

    def test_from_a_preset_and_a_saved_model(self, filled, finished_run, tmp_path):
        export_saved_model(finished_run, tmp_path / "saved_model", top_k=6)
        for model in (finished_run / "champion", tmp_path / "saved_model"):
            assert_same(fill_mask(TEXTS, model=model, top_k=4), filled)
        assert len(fill_mask(TEXTS[1:2], model=tmp_path / "saved_model", top_k=10)[0].pieces) == 6

    @pytest.mark.parametrize("text", ["ཀ་[GAP:1-2]་ཁ", "ཀ་[GAP:1-2]་[MASK]", "[MASK]་[GAP:"])
    def test_a_gap_of_syllables_is_for_fill_gaps(self, text):
        with pytest.raises(InputError, match="There is a gap of syllables.*Give it to fill_gaps"):
            fill_mask([text], model="")

    def test_a_filling_that_looks_like_a_mask(self, monkeypatch):
        """An untrained model guesses anything, a mask too."""
        answer = {
            "pieces": tf.constant([[["[MASK]"], ["▁ཀ"]]]),
            "probabilities": tf.constant([[[0.5], [0.5]]]),
            "mask_count": tf.constant([2]),
        }
        loaded = SimpleNamespace(fill_mask=lambda text: answer)
        monkeypatch.setattr(sys.modules[fill_mask.__module__], "load_fill_mask", lambda *_, **__: loaded)
        first, second = fill_mask(["ག[MASK]ང[MASK]ཅ"], model="")
        assert first.filled == second.filled == "ག[MASK]ང ཀཅ"


class TestRefused:
    def test_no_mask(self, finished_run):
        with pytest.raises(InputError, match=r"Received: 'བཀྲ་ཤིས'. Write \[MASK\]"):
            fill_mask(["[MASK]", "བཀྲ་ཤིས"], model=finished_run)
        with pytest.raises(InputError, match=r"Received: 'ཀ{100}…'\. Write \[MASK\]"):
            fill_mask(["ཀ" * 1_000_000], model=finished_run)

    def test_a_text_that_is_too_long(self, finished_run):
        texts = ["[MASK]", "[MASK]ཀ", "[MASK]" * 31]
        with pytest.raises(InputError) as caught:
            fill_mask(texts, model=finished_run)
        shown = f"{texts[2][:100]}…"
        assert str(caught.value) == f"A text is longer than 32 tokens. Received: {shown!r}. Give a shorter text."

    @pytest.mark.parametrize("options", [{"top_k": 0}, {"batch_size": 0}])
    def test_numbers(self, finished_run, options):
        with pytest.raises(InputError, match="must be at least 1"):
            fill_mask(TEXTS, model=finished_run, **options)

    def test_no_model(self, tmp_path):
        with pytest.raises(InputError, match=f"Neither a preset nor a run with a champion. Received: '{tmp_path}'"):
            fill_mask(TEXTS, model=tmp_path)


def assert_same(actual: list[FilledMask], expected: list[FilledMask]) -> None:
    for ours, theirs in zip(actual, expected, strict=True):
        assert ours._replace(probabilities=[]) == theirs._replace(probabilities=[])
        assert ours.probabilities == pytest.approx(theirs.probabilities, abs=1e-5)
