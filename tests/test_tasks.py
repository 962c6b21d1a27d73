"""Work on several processes and machines: the same results, errors in words, and workers that may be lost."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tibert_keras.corpus import CorpusConfig, build_corpus, write_sample
from tibert_keras.errors import InputError
from tibert_keras.tasks import run_tasks

# What is imported here, source tree or installed package, is imported there.
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
# Functions of the standard library stand for the work: workers can import them, these tests they cannot.


def results(function, tasks, **options):
    found = {}
    run_tasks(function, tasks, **{"workers": 1, "scheduler": None, **options}, on_result=found.__setitem__)
    return found


@pytest.mark.parametrize("workers", [1, 2])
def test_every_task_once(workers):
    assert results(divmod, [(n, 3) for n in range(9)], workers=workers) == {n: divmod(n, 3) for n in range(9)}


def test_nothing_to_do():
    assert results(divmod, [], workers=2) == {}


@pytest.mark.parametrize("workers", [1, 2])
def test_errors_stay_what_they_are(workers, tmp_path):
    with pytest.raises(FileNotFoundError, match="No such file") as caught:
        results(os.stat, [(str(tmp_path / "missing"),), (str(tmp_path),)], workers=workers)
    assert "Traceback" not in str(caught.value)


def test_a_killed_process():
    with pytest.raises(InputError, match="killed, perhaps for want of memory. Received: workers=2"):
        results(os._exit, [(1,), (1,)], workers=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": -1}, "Received: -1"),
        ({"scheduler": "nonsense"}, "No Dask scheduler answers. Received: scheduler='nonsense'"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(InputError, match=message):
        results(divmod, [(1, 2)], **options)


# === A cluster ===


@contextlib.contextmanager
def _process(*words: str, folder: Path) -> Iterator[subprocess.Popen]:
    # A group of its own, so that what it starts ends with it.
    with (folder / f"{words[0]}-{time.time_ns()}.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "distributed.cli.dask_" + words[0], *words[1:]],
            stdout=log, stderr=log, cwd=folder, start_new_session=True, env=ENVIRONMENT,
        )  # fmt: skip
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture
def cluster(tmp_path):
    """Address of a scheduler with two worker processes, and these processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    with contextlib.ExitStack() as stack:
        words = ["scheduler", "--host=127.0.0.1", f"--port={port}", "--no-dashboard"]
        stack.enter_context(_process(*words, folder=tmp_path))
        worker = ["worker", address, "--nthreads=1", "--no-nanny", "--no-dashboard", "--host=127.0.0.1"]
        workers = [stack.enter_context(_process(*worker, folder=tmp_path)) for _ in range(2)]
        from distributed import Client

        with Client(address, timeout=60) as client:
            client.wait_for_workers(2, timeout=60)
        yield address, workers


@pytest.mark.slow
def test_a_cluster(cluster):
    address, _ = cluster
    assert results(divmod, [(n, 3) for n in range(5)], scheduler=address) == {n: divmod(n, 3) for n in range(5)}
    with pytest.raises(FileNotFoundError):
        results(os.stat, [("/missing",)], scheduler=address)


@pytest.mark.slow
def test_the_corpus_on_a_cluster(cluster, tmp_path):
    address, _ = cluster
    write_sample(str(tmp_path / "raw"), seed=1, num_documents=40, num_files=5)
    reports = [
        build_corpus(CorpusConfig(input_file=f"{tmp_path}/raw/*.txt", output_dir=str(tmp_path / name), **options))
        for name, options in (("alone", {"workers": 1}), ("together", {"scheduler": address}))
    ]
    assert reports[0] == reports[1] and len(reports[0].files) == 5
    alone, together = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("alone", "together")
    )
    assert alone == together


@pytest.mark.slow
def test_records_and_a_killed_worker(cluster, sample_corpus, spm_models, tmp_path):
    from tibert_keras.data import RecordsConfig, build_records

    address, workers = cluster
    # Documents enough for each file to take its worker a second or two.
    text = "\n\n".join((sample_corpus / f"train_{n}.txt").read_text(encoding="utf-8") for n in range(3))
    for name in range(6):
        (tmp_path / f"train_{name}.txt").write_text("\n".join([text] * 60), encoding="utf-8")
    config = {"input_file": f"{tmp_path}/train_*.txt", "spm_model_file": spm_models["bpe"], "dupe_factor": 4}
    alone = build_records(RecordsConfig(**config, output_dir=str(tmp_path / "alone"), workers=1))

    command = [sys.executable, "-m", "tibert_keras.cli", "records", f"--output_dir={tmp_path}/together"]
    command += [f"--{name}={value}" for name, value in config.items()]
    command.append(f"--scheduler={address}")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT) as job:
        together = tmp_path / "together"
        deadline = time.monotonic() + 120
        # The first worker is killed while both write.
        while not (together.is_dir() and len(list(together.glob(".train*.part"))) == 2):
            assert job.poll() is None and time.monotonic() < deadline, job.communicate()
            time.sleep(0.01)
        os.killpg(workers[0].pid, signal.SIGKILL)
        output, log = job.communicate(timeout=200)
    assert job.returncode == 0, log.decode()
    assert b"6 files" in output
    built = {path.name: path.read_bytes() for path in together.iterdir()}
    assert built == {path.name: path.read_bytes() for path in (tmp_path / "alone").iterdir()}
    assert len(alone.files) == 6
