"""Loading a model from a path, or taking one that is loaded already."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.tiny_models import tiny
from tibert_keras import TibertMaskedLM
from tibert_keras.errors import InputError
from tibert_keras.runs.presets import describe_preset, load_model

REFUSED = """
import sys
from pathlib import Path
from tibert_keras.errors import InputError
from tibert_keras.formats.config import ConvertConfig
from tibert_keras.formats.convert import convert
from tibert_keras.runs.presets import load_model
calls = [lambda: load_model("nothing")]
for name in ("google", "huggingface", "keras"):
    config = ConvertConfig(from_=name, input="nothing", to="keras", output="out")
    calls.append(lambda config=config: convert(config))
for call in calls:
    try:
        call()
    except InputError as error:
        print(error)
print(sorted({"keras", "keras_hub", "tensorflow", "jax", "torch"} & sys.modules.keys()))
"""


def test_a_preset(small_preset):
    model = load_model(small_preset, dtype="float32")
    assert type(model) is TibertMaskedLM and model.preprocessor is not None
    with pytest.raises(InputError, match="Neither a preset nor a run with a champion. Received: 'nothing'"):
        load_model("nothing")


def test_a_loaded_model():
    model = TibertMaskedLM(tiny())
    assert load_model(model) is model


def test_no_model_is_refused_before_keras_is_imported():
    done = subprocess.run([sys.executable, "-c", REFUSED], capture_output=True, text=True, check=True)
    *refused, imported = done.stdout.splitlines()
    assert len(refused) == 4 and all("Received: 'nothing" in line for line in refused)
    assert imported == "[]"


def test_description(small_preset, finished_run):
    date, parameters = r"\d{4}-\d\d-\d\d", r"[\d,]+ parameters"
    assert re.fullmatch(rf"{Path(small_preset).name}, {parameters}, {date}", describe_preset(small_preset))
    of_run = describe_preset(finished_run)
    assert re.fullmatch(rf"{Path(finished_run).name}, step [\d,]+, {parameters}, {date}", of_run)
    assert describe_preset(Path(finished_run) / "champion") == of_run
