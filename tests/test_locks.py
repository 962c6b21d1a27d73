"""One writer at a time, who says who it is, and whose death sets the folder free."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tibert_keras.errors import InputError
from tibert_keras.locks import only_writer
from tibert_keras.storage import list_folder

HOLD = """
import sys, time
from tibert_keras.locks import only_writer
with only_writer(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def other(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that writes to `run`."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_a_second_writer_is_told_who_writes_since_when(other: subprocess.Popen[str], tmp_path: Path) -> None:
    holder = (
        rf"Another process writes there: process {other.pid} on .*, since 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d\. Received: "
    )
    with pytest.raises(InputError, match=holder), only_writer(tmp_path / "run"):
        pass
    # Whatever links lead there.
    (tmp_path / "link").symlink_to(tmp_path / "run")
    with pytest.raises(InputError, match=holder), only_writer(tmp_path / "link"):
        pass


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_death_of_the_writer_sets_the_folder_free(
    other: subprocess.Popen[str], tmp_path: Path, number: int
) -> None:
    other.send_signal(number)
    other.wait()
    with only_writer(tmp_path / "run"):
        pass
    assert os.listdir(tmp_path) == []


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    with only_writer(tmp_path / "new/run"):
        assert list_folder(tmp_path / "new") == []
        with pytest.raises(InputError, match=f"process {os.getpid()} on"), only_writer(tmp_path / "new/run"):
            pass
        with only_writer(tmp_path / "new/other"):
            pass
    assert os.listdir(tmp_path) == []


def test_a_short_work_is_waited_for(tmp_path: Path) -> None:
    with only_writer(tmp_path / "run"), pytest.raises(InputError), only_writer(tmp_path / "run", wait=0.1):
        pass


def test_in_the_folder_where_only_that_is_writable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mounted").mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    with only_writer(tmp_path / "mounted"):
        assert os.listdir(tmp_path) == ["mounted"] and len(os.listdir(tmp_path / "mounted")) == 1
        assert list_folder(tmp_path / "mounted") == []
    assert os.listdir(tmp_path / "mounted") == []


def test_a_remote_folder_warns(caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("tensorflow")
    folder = "ram://tibert-locks/run"
    with only_writer(folder):
        assert not caplog.records
        with only_writer(folder):
            assert f"may be writing to '{folder}': process {os.getpid()} on" in caplog.text
    assert list_folder(folder) == []
