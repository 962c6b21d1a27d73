"""One of everything that a user may have on disk, and a way to damage it and see what the verbs say."""

import shutil
import tarfile
from pathlib import Path

import keras
import pytest

from tibert_keras.cli.main import main


@pytest.fixture(scope="session")
def artefacts(once, tmp_path_factory) -> Path:
    """What an older version wrote (see tests/before), and beside it a preset and a SavedModel with lists of files."""
    if keras.backend.backend() != "tensorflow":
        pytest.skip("SavedModels are TensorFlow's")

    def make(folder: Path) -> None:
        with tarfile.open(Path(__file__).parents[1] / "before/artefacts.tar.xz") as archive:
            archive.extractall(folder, filter="data")
        assert main(["champion", shutil.copytree(folder / "run", folder / "again").as_posix()]) == 0
        (folder / "again/champion").rename(folder / "preset")
        shutil.copytree(folder / "preset", folder / "older_preset")
        (folder / "older_preset/manifest.json").unlink(missing_ok=True)
        for name in ("train.txt", "validation.txt"):
            (folder / "texts").mkdir(exist_ok=True)
            shutil.copy(folder / name, folder / "texts" / name)
        (folder / "flags").mkdir()
        flags = f"input_file: {folder}/corpus/*.txt\nvocab_size: 120\nrecipe: olive\n"
        (folder / "flags/flags.yaml").write_text(flags, encoding="utf-8")
        assert main(["export", f"--model={folder}/preset", f"--output_dir={folder}/listed_saved_model"]) == 0

    return once("hostile", make)
