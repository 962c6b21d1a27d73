"""Fixtures for the tests of training."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tibert_keras.data import Records


@pytest.fixture
def own_records(sample_records: Path, tmp_path: Path) -> Records:
    """Records that a test may damage."""
    shutil.copytree(sample_records / "held_out", tmp_path / "records")
    return Records.find(f"{tmp_path}/records/*.tf_record")
