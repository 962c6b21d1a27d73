"""Fixtures for the tests of training."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tibert_keras.data import Records, RecordsConfig, build_records


@pytest.fixture
def own_records(sample_records: Path, tmp_path: Path) -> Records:
    """Records that a test may damage."""
    shutil.copytree(sample_records / "held_out", tmp_path / "records")
    return Records.find(f"{tmp_path}/records/*.tf_record")


@pytest.fixture(scope="session")
def sop_records(sample_corpus: Path, spm_models: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> str:
    """A pattern of the files of `sample_records/train`, with pairs of segments, half of them swapped."""
    folder = tmp_path_factory.mktemp("sop_records")
    config = RecordsConfig(
        workers=1, input_file=f"{sample_corpus}/train_[01].txt", output_dir=str(folder),
        spm_model_file=spm_models["bpe"], max_seq_length=32, max_predictions_per_seq=5, sop=True,
    )  # fmt: skip
    build_records(config)
    return f"{folder}/*.tf_record"
