"""Work on several processes and machines: the same results, errors in words, and workers that may be lost."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import tensorflow as tf

from tibert_keras import parallel
from tibert_keras.corpus.build import CorpusConfig, build_corpus
from tibert_keras.corpus.sample import write_sample
from tibert_keras.errors import InputError
from tibert_keras.parallel import check_shared, run_tasks

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


@pytest.mark.parametrize(
    ("workers", "input_bytes", "processes"),
    [(0, 0, []), (0, (4 << 20) - 1, []), (0, 4 << 20, [2]), (0, 30 << 20, [8]), (0, None, [8]), (3, 0, [3])],
)
def test_small_inputs_need_no_processes(monkeypatch, workers, input_bytes, processes):
    started = []

    @contextlib.contextmanager
    def count_processes(workers):
        started.append(workers)
        with ThreadPoolExecutor(workers) as executor:
            yield executor

    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(parallel, "_processes", count_processes)
    found = results(divmod, [(n, 3) for n in range(9)], workers=workers, input_bytes=input_bytes)
    assert found == {n: divmod(n, 3) for n in range(9)}
    assert started == processes


def test_nothing_to_do():
    assert results(divmod, [], workers=2) == {}


@pytest.mark.parametrize("workers", [1, 2])
def test_errors_stay_what_they_are(workers, tmp_path):
    with pytest.raises(FileNotFoundError, match="No such file") as caught:
        results(os.stat, [(str(tmp_path / "missing"),), (str(tmp_path),)], workers=workers)
    assert "Traceback" not in str(caught.value)


@pytest.mark.parametrize("workers", [1, 2])
def test_the_other_tasks_are_done_all_the_same(workers, tmp_path):
    found = {}
    with pytest.raises(FileNotFoundError):
        tasks = [(str(tmp_path / "missing"),), *[(str(tmp_path),)] * 3]
        run_tasks(os.path.getsize, tasks, workers=workers, scheduler=None, on_result=found.__setitem__)
    assert sorted(found) == [1, 2, 3]


def test_a_killed_process():
    with pytest.raises(InputError, match="killed, perhaps for want of memory, or could not .* Received: workers=2"):
        results(os._exit, [(1,), (1,)], workers=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": -1}, "Received: -1"),
        ({"scheduler": "nonsense"}, "No Dask scheduler with workers answers. Received: scheduler='nonsense'"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(InputError, match=message):
        results(divmod, [(1, 2)], **options)


def test_errors_of_tensorflow_are_put_in_words(tmp_path):
    with pytest.raises(
        InputError, match=r"cannot be read or written: .*No such file.* Received: the work on '.*/none/x'"
    ):
        results(_write_record, [(str(tmp_path / "none" / "x"),)])


def _write_record(path):
    with tf.io.TFRecordWriter(path) as writer:
        writer.write(b"x")


def test_what_workers_do_not_share(tmp_path):
    check_shared(str(tmp_path))
    with pytest.raises(InputError, match="do not share this folder.* Received: '.*/none'"):
        check_shared(str(tmp_path / "none"))


@pytest.mark.slow
def test_workers_end_with_a_killed_command(tmp_path):
    # Each task writes the number of its process and sleeps.
    task = "import os, time; open(f'{os.getpid()}.pid', 'w').close(); time.sleep(100)"
    script = f"""
from tibert_keras.parallel import check_shared, run_tasks
if __name__ == "__main__":
    run_tasks(exec, [({task!r},)] * 2, workers=2, scheduler=None, on_result=print)
"""
    (tmp_path / "tibetan.py").write_text(script)
    with subprocess.Popen([sys.executable, "tibetan.py"], cwd=tmp_path, env=ENVIRONMENT) as command:
        workers = _wait_for(lambda: sorted(tmp_path.glob("*.pid")), count=2)
        command.kill()
    _wait_for(lambda: [path for path in workers if not Path(f"/proc/{path.stem}").exists()], count=2)


def _wait_for(find, *, count, seconds=90):
    deadline = time.monotonic() + seconds
    while len(found := find()) < count:
        assert time.monotonic() < deadline, found
        time.sleep(0.1)
    return found


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
def test_the_corpus_on_a_cluster(cluster, tmp_path, monkeypatch):
    address, _ = cluster
    write_sample(str(tmp_path / "here" / "raw"), seed=1, num_documents=40, num_files=5)
    # The workers have another working directory.
    monkeypatch.chdir(tmp_path / "here")
    reports = [
        build_corpus(CorpusConfig(input_file="raw/*.txt", output_dir=name, **options))
        for name, options in (("alone", {"workers": 1}), ("together", {"scheduler": address}))
    ]
    assert reports[0] == reports[1] and len(reports[0].files) == 5
    alone, together = (
        {path.name: path.read_bytes() for path in Path(name).iterdir()} for name in ("alone", "together")
    )
    assert alone == together


@pytest.mark.slow
def test_records_and_a_killed_worker(cluster, sample_corpus, spm_models, tmp_path):
    from tibert_keras.records.build import build_records
    from tibert_keras.records.config import RecordsConfig

    address, workers = cluster
    # Documents enough for each file to take its worker a second.
    text = "\n\n".join((sample_corpus / f"train_{n}.txt").read_text(encoding="utf-8") for n in range(3))
    for name in range(4):
        (tmp_path / f"train_{name}.txt").write_text("\n".join([text] * 30), encoding="utf-8")
    config = {"input_file": f"{tmp_path}/train_*.txt", "spm_model_file": spm_models["bpe"], "dupe_factor": 4}
    alone = build_records(RecordsConfig(**config, output_dir=str(tmp_path / "alone"), workers=1))

    command = [sys.executable, "-m", "tibert_keras.cli", "records", f"--output_dir={tmp_path}/together"]
    command += [f"--{name}={value}" for name, value in config.items()]
    command.append(f"--scheduler={address}")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT) as job:
        together = tmp_path / "together"
        # The first worker is killed while both write.
        _wait_for(lambda: list(together.glob(".train*.part")), count=2)
        os.killpg(workers[0].pid, signal.SIGKILL)
        output, log = job.communicate(timeout=200)
    assert job.returncode == 0, log.decode()
    assert b"4 files" in output
    built = {path.name: path.read_bytes() for path in together.iterdir()}
    assert built == {path.name: path.read_bytes() for path in (tmp_path / "alone").iterdir()}
    assert len(alone.files) == 4
