"""An exported model to serve."""

from collections.abc import Callable
from pathlib import Path

import keras
import pytest


@pytest.fixture(scope="session")
def exported(finished_run: Path, once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """A folder of versions, with version 1, a SavedModel of the finished run. Tests only read it."""
    if keras.backend.backend() != "tensorflow":
        pytest.skip("SavedModels are TensorFlow's")
    from tibert_keras.saved_model.export import export_saved_model

    return once("served/tibert", lambda folder: export_saved_model(finished_run, folder / "1", top_k=3))
