"""Loading a model from a path, or taking one that is loaded already."""

import re
from pathlib import Path

import pytest

from tests.support.tiny_models import tiny
from tibert_keras import TibertMaskedLM
from tibert_keras.errors import InputError
from tibert_keras.models.tibert_presets import TAGGER
from tibert_keras.runs.presets import describe_preset, load_model


def test_a_preset(small_preset):
    model = load_model(small_preset, dtype="float32")
    assert type(model) is TibertMaskedLM and model.preprocessor is not None
    with pytest.raises(InputError, match="Neither a preset nor a run with a champion. Received: 'nothing'"):
        load_model("nothing")


def test_a_loaded_model():
    model = TibertMaskedLM(tiny())
    assert load_model(model) is model


def test_description(small_preset, finished_run):
    date, parameters = r"\d{4}-\d\d-\d\d", r"[\d,]+ parameters"
    assert re.fullmatch(rf"{Path(small_preset).name}, {parameters}, {date}", describe_preset(small_preset))
    of_run = describe_preset(finished_run)
    assert re.fullmatch(rf"{Path(finished_run).name}, step [\d,]+, {parameters}, {date}", of_run)
    assert describe_preset(Path(finished_run) / "champion") == of_run


def test_description_of_one_that_comes_with_the_package(box):
    description = describe_preset(TAGGER)
    assert description == describe_preset(box(TAGGER))
    assert description.startswith(f"{TAGGER}, A tagger of 4 layers, fine-tuned on the SOAS corpus, ")
