"""Several hosts: what is refused, and that a run is the same whatever befalls one of two real processes."""

import gc
import json
import signal
import time
import weakref
from multiprocessing.pool import ThreadPool

import keras
import numpy as np
import pytest

from tests.support.preloaded import Command
from tests.support.train_on_replicas import environments
from tibert_keras.errors import InputError
from tibert_keras.runs.checkpoints import VARIABLES_FILE, Checkpoints
from tibert_keras.runs.history import History
from tibert_keras.training.config import PretrainConfig
from tibert_keras.training.pretrain import pretrain
from tibert_keras.training.strategy import chosen_strategy
from tibert_keras.training.workers import is_chief, reporting_lost_workers, this_worker

CLUSTER = {"chief": ["a:1"], "worker": ["b:1", "c:1"]}


def place(monkeypatch, cluster, kind, index):
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}}))
    return this_worker()


def test_places(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert this_worker() == (0, 1) and is_chief()
    monkeypatch.setenv("TF_CONFIG", "{}")
    assert this_worker() == (0, 1)
    assert place(monkeypatch, {"worker": ["a:1"]}, "worker", 0) == (0, 1)
    assert place(monkeypatch, CLUSTER, "chief", 0) == (0, 3) and is_chief()
    assert place(monkeypatch, CLUSTER, "worker", 1) == (2, 3) and not is_chief()
    del CLUSTER["chief"]
    assert place(monkeypatch, CLUSTER, "worker", 0) == (0, 2) and is_chief()


@pytest.mark.parametrize(
    "text, reason",
    [
        ("{", "Expecting property name"),
        ("[1]", "no attribute"),
        ('{"cluster": {"ps": ["a:1"]}}', "no ps"),
        ('{"cluster": {"worker": ["a", "b:1"]}}', "'a' is not HOST:PORT"),
        ('{"cluster": {"worker": ["a:1", "b:1"]}}', "'None' number -1, is not in the cluster"),
        ('{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 2}}', "number 2, is not in"),
    ],
)
def test_a_wrong_description(monkeypatch, text, reason):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(InputError, match=f"^TF_CONFIG is wrong: .*{reason}.* Received: TF_CONFIG=.* Give ") as caught:
        this_worker()
    assert "\n" not in str(caught.value)


def test_where_there_can_be_no_workers(monkeypatch):
    place(monkeypatch, {"worker": ["a:1", "b:1"]}, "worker", 0)
    config = PretrainConfig(input_file="a", output_dir="b", preset="tibert_nano", use_tpu=True, tpu_name="local")
    with pytest.raises(InputError, match="Received: TF_CONFIG=.*Unset TF_CONFIG"), chosen_strategy(config):
        pass


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="several hosts are TensorFlow's")
def test_tensorflow_is_in_use_already(monkeypatch):
    keras.ops.ones(1)
    place(monkeypatch, {"worker": ["localhost:1", "localhost:2"]}, "worker", 0)
    config = PretrainConfig(input_file="a", output_dir="b", preset="tibert_nano")
    with pytest.raises(InputError, match="cannot be connected: .*Train before anything else"), chosen_strategy(config):
        pass


def test_what_failed_is_let_go():
    """A pool of TensorFlow's that outlives its error complains when Python ends, after our line."""
    tf = pytest.importorskip("tensorflow")
    pools = []

    def reduce():
        pool = ThreadPool(1)
        pools.append(weakref.ref(pool))
        pool.map(fail, [0])

    def fail(device):
        raise tf.errors.UnavailableError(None, None, f"device {device} is gone")

    with pytest.raises(InputError, match="device 0 is gone") as caught, reporting_lost_workers():
        reduce()
    gc.collect()
    assert caught.value.__cause__ is not None and pools[0]() is None


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="several hosts are TensorFlow's")
class TestTwoWorkers:
    STEPS, INTERVAL = 100, 20

    def config(self, run_config, folder):
        changes = {"num_train_steps": self.STEPS, "save_checkpoints_steps": self.INTERVAL, "train_batch_size": 8}
        return run_config(folder, jit_compile=False, **changes)

    def start(self, config, logs):
        names = ["input_file", "output_dir", "albert_config_file", "train_batch_size", "max_seq_length",
                 "max_predictions_per_seq", "learning_rate", "num_train_steps", "num_warmup_steps",
                 "save_checkpoints_steps"]  # fmt: skip
        flags = [f"--{name}={getattr(config, name)}" for name in names]
        words = ["tibert_keras.cli", "pretrain", *flags]
        return [Command(words, logs, environment) for environment in environments(2)]

    def strike(self, run, jobs, kind, *, worker):
        """Send a signal to a worker after one more checkpoint; returns the statuses and last words of both."""
        saved = len(Checkpoints(run).steps)
        while len(Checkpoints(run).steps) == saved and all(job.poll() is None for job in jobs):
            time.sleep(0.01)
        jobs[worker].send_signal(kind)
        statuses, logs = [job.wait() for job in jobs], [job.log for job in jobs]
        print(*logs, sep="\n\n")  # which is shown if the test fails
        said = [[line for line in log.splitlines() if line.startswith("tibert pretrain: ")] for log in logs]
        return statuses, [lines[-1] if lines else "" for lines in said]

    def test_killed_and_told_to_end_and_started_again(self, run_config, tmp_path):
        run = tmp_path / "two"
        config = self.config(run_config, run)
        statuses, words = self.strike(run, self.start(config, tmp_path), signal.SIGKILL, worker=1)
        assert statuses == [1, -signal.SIGKILL]
        assert words[0].startswith("tibert pretrain: Another worker cannot be reached: ") and "TF_CONFIG=" in words[0]

        statuses, words = self.strike(run, self.start(config, tmp_path), signal.SIGTERM, worker=1)
        assert statuses == [0, 0] and words[0] == words[1], words
        step = Checkpoints(run).steps[-1]
        assert words[0].startswith(f"tibert pretrain: Stopped at step {step},")
        assert 2 * self.INTERVAL <= step < self.STEPS

        jobs = self.start(config, tmp_path)
        statuses, outputs, logs = zip(*((job.wait(), job.output, job.log) for job in jobs), strict=True)
        assert statuses == (0, 0), logs
        assert outputs[0] == outputs[1] and f"step: {self.STEPS}" in outputs[0]
        assert "worker 1 of 2" in logs[0] and "worker 2 of 2" in logs[1]
        # TensorBoard's files have the number of their process in their names: that of the chief at each start.
        assert len({path.name.split(".")[-3] for path in (run / "logs").iterdir()}) == 3
        self.assert_same(run, self.alone(run_config, tmp_path / "one"))

    def alone(self, run_config, folder):
        pretrain(self.config(run_config, folder))
        return folder

    def assert_same(self, run, other):
        ours, theirs = (np.load(each / "checkpoints" / str(self.STEPS) / VARIABLES_FILE) for each in (run, other))
        assert sorted(ours) == sorted(theirs)
        for name in ours:
            np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-6, atol=1e-5, err_msg=name)
        rows, expected = ([[row["step"], row["loss"]] for row in History(each).rows] for each in (run, other))
        np.testing.assert_allclose(rows, expected, rtol=0, atol=1e-5)
