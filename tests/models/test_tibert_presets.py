"""A preset is loaded whole or not at all."""

from __future__ import annotations

import resource
import shutil
import signal
from pathlib import Path

import h5py
import keras_nlp
import pytest

from tests.support.tiny_models import tiny
from tibert_keras import TibertBackbone, TibertMaskedLM, TibertTextClassifier
from tibert_keras.errors import InputError
from tibert_keras.storage import atomic_output

FILES = [
    "config.json", "metadata.json", "model.weights.h5", "preprocessor.json", "task.json", "task.weights.h5",
    "tokenizer.json", "assets/tokenizer/vocabulary.spm",
]  # fmt: skip


@pytest.fixture
def preset(random_preset: Path, tmp_path: Path) -> Path:
    return shutil.copytree(random_preset, tmp_path / "preset")


@pytest.fixture
def older(preset: Path) -> Path:
    """A preset as older versions wrote it."""
    (preset / "manifest.json").unlink()
    return preset


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("cls", [TibertMaskedLM, TibertBackbone, TibertTextClassifier])
def test_without_one_of_its_files(cls, name, preset):
    (preset / name).unlink()
    kwargs = {"labels": ["a", "b"]} if cls is TibertTextClassifier else {}
    with pytest.raises(InputError, match=f"The preset cannot be loaded: a file is missing. Received: .*{name}'"):
        cls.from_preset(preset, **kwargs)


def test_kerashubs_own_classes_take_no_less(preset):
    models = keras_nlp.models
    assert isinstance(models.MaskedLM.from_preset(str(preset)), TibertMaskedLM)
    (preset / "task.weights.h5").unlink()
    for cls in (models.MaskedLM, models.Backbone, models.Tokenizer, models.MaskedLMPreprocessor):
        with pytest.raises(InputError, match="a file is missing. Received: .*task.weights.h5'"):
            cls.from_preset(str(preset))


def test_a_changed_bit(preset):
    content = bytearray((preset / "task.weights.h5").read_bytes())
    content[len(content) // 2] ^= 1
    (preset / "task.weights.h5").write_bytes(content)
    with pytest.raises(InputError, match="its size or hash is not the one that was written.*task.weights.h5'"):
        TibertMaskedLM.from_preset(preset)


@pytest.mark.parametrize("name", ["config.json", "model.weights.h5", "task.json", "task.weights.h5"])
def test_older_without_one_of_its_files(name, older):
    (older / name).unlink()
    with pytest.raises(InputError, match=f"The preset cannot be loaded: a file is missing. Received: .*{name}'"):
        TibertMaskedLM.from_preset(older)


@pytest.mark.parametrize("name", ["model.weights.h5", "task.weights.h5"])
def test_older_without_a_variable(name, older):
    """Each of them in turn, as none may begin with random values."""
    with h5py.File(older / name) as file:
        variables: list[str] = []
        file.visititems(lambda path, item: variables.append(path) if isinstance(item, h5py.Dataset) else None)
    assert variables
    whole = (older / name).read_bytes()
    for variable in variables[:: 1 if name.startswith("task") else 5]:
        (older / name).write_bytes(whole)
        with h5py.File(older / name, "a") as file:
            del file[variable]
        with pytest.raises(InputError, match="The preset cannot be loaded: "):
            TibertMaskedLM.from_preset(older)


def test_other_files_beside_it_do_not_matter(preset):
    (preset / "README.md").write_text("mine", encoding="utf-8")
    model = TibertMaskedLM.from_preset(preset)
    model.save_to_preset(preset)  # over the older one
    (preset / "README.md").write_text("ours", encoding="utf-8")
    assert TibertMaskedLM.from_preset(preset).preprocessor is not None


def test_a_model_that_was_never_compiled_is_saved(preset, tmp_path):
    TibertMaskedLM.from_preset(preset, compile=False).save_to_preset(tmp_path / "again")
    assert TibertMaskedLM.from_preset(tmp_path / "again", compile=False) is not None


def test_a_full_disk(tmp_path):
    """HDF5 would end the process at the limit, as on a full disk."""
    model = TibertMaskedLM(tiny(vocabulary_size=3000, embedding_dim=16))
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large: '.*new'"), atomic_output(tmp_path / "new") as folder:
            model.save_to_preset(folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert list(tmp_path.iterdir()) == []
