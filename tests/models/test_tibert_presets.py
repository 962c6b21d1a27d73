"""A preset is loaded by name or from its folder, whole or not at all."""

import resource
import shutil
import signal
from pathlib import Path

import h5py
import keras_hub
import keras_nlp
import numpy as np
import pytest
from hatchling.builders.wheel import WheelBuilder

from tests.support.tiny_models import tiny
from tibert_keras import (
    TibertBackbone,
    TibertMaskedLM,
    TibertMaskedLMPreprocessor,
    TibertTextClassifier,
    TibertTokenClassifier,
    TibertTokenizer,
)
from tibert_keras.errors import InputError
from tibert_keras.models import tibert_presets
from tibert_keras.models.tibert_presets import MASKED_LM, TAGGER, backbone_presets, list_presets
from tibert_keras.storage import atomic_output

ROOT = Path(__file__).parents[2]

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


@pytest.mark.any_backend
class TestNames:
    """Of presets with weights, which come with the package."""

    def test_listed_with_description_and_size(self, box):
        listed = list_presets()
        assert list(listed) == [*backbone_presets, MASKED_LM, TAGGER]
        for name in (MASKED_LM, TAGGER):
            metadata = listed[name]["metadata"]
            assert metadata["description"].endswith(".")
            assert metadata["params"] == TibertBackbone.from_preset(name).count_params()

    def test_those_that_are_there_are_complete(self):
        """Of this checkout, once it has weights."""
        assert TibertMaskedLM.presets == list_presets()
        assert keras_hub.models.MaskedLM.presets.items() >= list_presets().items()
        for name in list_presets().keys() - backbone_presets.keys():
            assert (tibert_presets.PRESETS / name / "CARD.md").read_text(encoding="utf-8").count("o fill in") == 0
            TibertBackbone.from_preset(name)

    @pytest.mark.parametrize(
        ("classes", "expected"),
        [
            ((TibertMaskedLM, keras_hub.models.MaskedLM), TibertMaskedLM),
            ((TibertBackbone, keras_hub.models.Backbone), TibertBackbone),
            ((TibertTokenizer, keras_hub.models.Tokenizer), TibertTokenizer),
            ((TibertMaskedLMPreprocessor, keras_hub.models.MaskedLMPreprocessor), TibertMaskedLMPreprocessor),
        ],
    )
    def test_ours_and_theirs_load_them(self, box, classes, expected):
        by_name, by_folder = [cls.from_preset(MASKED_LM) for cls in classes], expected.from_preset(box(MASKED_LM))
        for made in by_name:
            assert type(made) is expected
            for one, other in zip(made.weights, by_folder.weights, strict=True):
                np.testing.assert_array_equal(one, other)

    def test_other_tasks(self, box):
        tagger = TibertTokenClassifier.from_preset(TAGGER)
        assert tagger.predict_words(["བཀྲ་ཤིས།"])
        other = TibertTokenClassifier.from_preset(MASKED_LM, labels=["X", "CONT"], preprocessor=None)
        assert other.labels == ["X", "CONT"] and other.backbone.vocabulary_size == 400

    def test_float16_on_disk_only(self, box, random_preset):
        with h5py.File(box(MASKED_LM) / "model.weights.h5") as file:
            kinds = set()
            file.visititems(lambda _, item: kinds.add(str(item.dtype)) if isinstance(item, h5py.Dataset) else None)
        assert kinds == {"float16"}
        whole, half = TibertMaskedLM.from_preset(random_preset), TibertMaskedLM.from_preset(MASKED_LM)
        for one, other in zip(whole.weights, half.weights, strict=True):
            assert other.dtype == "float32"
            np.testing.assert_array_equal(np.asarray(one).astype("float16"), other)
        mixed = TibertMaskedLM.from_preset(MASKED_LM, dtype="mixed_bfloat16")
        assert (mixed.backbone.compute_dtype, mixed.weights[0].dtype) == ("bfloat16", "float32")

    def test_a_name_without_weights(self, tmp_path, monkeypatch):
        monkeypatch.setattr(tibert_presets, "PRESETS", tmp_path)
        assert list_presets() == backbone_presets
        for cls in (TibertMaskedLM, TibertTokenizer, TibertTokenClassifier, keras_hub.models.MaskedLM):
            with pytest.raises(InputError, match=f"not come with this build.*Received: model='{MASKED_LM}'. Give"):
                cls.from_preset(MASKED_LM)

    def test_the_wheel_has_them(self, tmp_path):
        for name in ("pyproject.toml", "README.md", "LICENSE", ".gitignore"):
            shutil.copyfile(ROOT / name, tmp_path / name)
        place = Path("tibert_keras/presets", MASKED_LM)
        names = {str(place / name) for name in (*FILES, "manifest.json", "CARD.md", "loss.png")}
        for name in (*names, "tibert_keras/__init__.py"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        assert names < {file.distribution_path for file in WheelBuilder(str(tmp_path)).recurse_included_files()}
