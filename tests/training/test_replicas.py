"""N replicas give what one gives: on logical devices, in processes that talk over the network, on JAX."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from tests.support.preloaded import Command
from tests.support.train_on_replicas import environments
from tibert_keras.models.tibert_backbone import TibertBackbone
from tibert_keras.records.build import build_records
from tibert_keras.records.config import RecordsConfig
from tibert_keras.records.pipeline import Records
from tibert_keras.runs.checkpoints import VARIABLES_FILE
from tibert_keras.runs.history import History

SCRIPT = Path(__file__).parents[1] / "support/train_on_replicas.py"
# What is compared with what. Two replicas are the workers, four have more uneven shares.
KINDS = {
    "4 devices": "1 device",
    "2 workers": "1 device",
    "8 JAX devices": "1 JAX device",
}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="it starts processes of both backends itself"),
]


def train(kind: str, records: Path, folder: Path) -> Path:
    """Run the script for a kind, in as many processes as it takes."""
    folder.mkdir()
    count, what = int(kind.split()[0]), kind.split(maxsplit=1)[1]
    words = [SCRIPT, records, folder]
    if what.startswith("JAX"):
        flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={count}"
        (place,) = environments(KERAS_BACKEND="jax", XLA_FLAGS=flags)
        done = subprocess.run([sys.executable, *words], env=place, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return folder
    workers = count if what.startswith("worker") else 1
    words += [count] if workers == 1 else []
    jobs = [Command(words, folder, place) for place in environments(workers)]
    for job in jobs:
        assert job.wait(600) == 0, job.log
    return folder


def results(folder: Path) -> dict[str, np.ndarray]:
    """What a run logged, and its last checkpoint."""
    found = dict(np.load(folder / "worker0.npz"))
    found.pop("strings", None)
    with np.load(folder / "run/checkpoints/20" / VARIABLES_FILE) as saved:
        for what in ("model", "adam_m", "adam_v"):
            found[what] = np.concatenate([np.ravel(saved[name]) for name in saved if _kind(name) == what])
        found["last_gradient_norm"] = np.array([saved[name] for name in saved if name.endswith("gradient_norm")])
    for name in ("val_loss", "masked_lm_accuracy", "val_masked_lm_accuracy"):
        found[name] = np.array([row[name] for row in History(folder / "run").rows])
    return found


def _kind(name: str) -> str:
    return "model" if name.startswith("model/") else name[-6:]


@pytest.fixture(scope="module")
def records(sample_corpus, spm_models, tmp_path_factory) -> Path:
    """Records of sequences of many lengths, and so with unequal numbers of masked tokens."""
    folder = tmp_path_factory.mktemp("records")
    backbone = TibertBackbone.from_preset("tibert_nano", vocabulary_size=400, num_layers=1)
    (folder / "albert_config.json").write_text(json.dumps(backbone.to_albert_config()))
    for name, text in (("train", "train_[01].txt"), ("held_out", "train_2.txt")):
        build_records(
            RecordsConfig(
                input_file=f"{sample_corpus}/{text}", output_dir=str(folder / name), spm_model_file=spm_models["bpe"],
                max_seq_length=32, max_predictions_per_seq=5, short_seq_prob=0.7, workers=1,
            )
        )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def folders(records, tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("replicas")
    kinds = dict.fromkeys([*KINDS.values(), *KINDS])
    return {kind: train(kind, records, folder / kind.replace(" ", "_")) for kind in kinds}


@pytest.fixture(scope="module")
def runs(folders) -> dict[str, dict[str, np.ndarray]]:
    return {kind: results(folder) for kind, folder in folders.items()}


def test_the_records_put_it_to_the_test(records, runs):
    batches = Records.find(f"{records}/train/*.tf_record").training_batches(8, seed=12345).take(20)
    tokens = np.array([weights.numpy().reshape(2, -1).sum(1) for _, _, weights in batches])
    assert np.mean(tokens[:, 0] != tokens[:, 1]) > 0.7
    assert Records.find(f"{records}/held_out/*.tf_record").num_examples % 40 % 8 != 0
    assert runs["1 device"]["gradient_norm"].min() > 1.0  # clipping is at work
    assert runs["1 device"]["pairs/gradient_norm"].min() > 1.0


@pytest.mark.parametrize("kind", KINDS)
def test_same_as_one(runs, kind):
    ours, theirs = runs[kind], runs[KINDS[kind]]
    assert {"loss", "last_gradient_norm", "model", "adam_m", "adam_v", "val_loss"} <= ours.keys() <= theirs.keys()
    for name, values in ours.items():
        np.testing.assert_allclose(values, theirs[name], rtol=0, atol=1e-5, err_msg=name)


def test_strings_on_two_workers(folders):
    """Models train, evaluate and predict on raw strings; both workers take the same batches, masks and labels."""
    losses = [np.load(folders["2 workers"] / f"worker{number}.npz")["strings"] for number in range(2)]
    assert losses[0].shape == (2, 4) and np.isfinite(losses[0]).all()
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)
