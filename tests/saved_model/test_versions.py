"""SavedModels and their versions on disk, found without TensorFlow."""

import pytest

from tibert_keras.errors import InputError
from tibert_keras.saved_model.versions import check_export_folder, find_saved_model, next_version


def test_versions(tmp_path):
    assert next_version(tmp_path) == f"{tmp_path}/1" and find_saved_model(tmp_path) is None
    for version, name in ((1, "1"), (2, "10")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "saved_model.pb").touch()
        assert find_saved_model(tmp_path) == f"{tmp_path}/{name}", version
    assert next_version(tmp_path) == f"{tmp_path}/11"
    # What TensorFlow Serving does not write itself is no version.
    for name in ("0", "012", "\u0f21", "13.part"):
        (tmp_path / name).mkdir()
    assert next_version(tmp_path) == f"{tmp_path}/11"
    # One that is still being copied is not there yet.
    (tmp_path / "11").mkdir()
    assert find_saved_model(tmp_path) == f"{tmp_path}/10"


def test_folders_to_export_to(tmp_path):
    check_export_folder(tmp_path / "new")
    check_export_folder(tmp_path)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError, match="is not empty and holds no SavedModel. Received: output_dir="):
        check_export_folder(tmp_path)
    (tmp_path / "saved_model.pb").touch()
    check_export_folder(tmp_path)
