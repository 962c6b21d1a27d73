"""Fixtures for the tests of exports."""

from __future__ import annotations

import pytest

from tests.tiny_models import randomize, tiny
from tibert_keras import TibertMaskedLMPreprocessor, TibertTokenizer
from tibert_keras.export import ConvertConfig, convert
from tibert_keras.models import TibertMaskedLM


@pytest.fixture(scope="session")
def random_preset(spm_models, tmp_path_factory):
    """A masked language model with random weights and a tokenizer. Tests only read it."""
    folder = tmp_path_factory.mktemp("preset") / "preset"
    preprocessor = TibertMaskedLMPreprocessor(TibertTokenizer(spm_models["bpe"]), sequence_length=16)
    randomize(TibertMaskedLM(tiny(vocabulary_size=400), preprocessor=preprocessor)).save_to_preset(str(folder))
    return folder


@pytest.fixture(scope="session")
def converted(random_preset, tmp_path_factory):
    """The same model in each format, by name. Tests only read them."""
    folder = tmp_path_factory.mktemp("converted")
    for to in ("google", "huggingface"):
        convert(ConvertConfig(from_="keras", input=str(random_preset), to=to, output=str(folder / to)))
    return {"keras": random_preset, "google": folder / "google", "huggingface": folder / "huggingface"}
