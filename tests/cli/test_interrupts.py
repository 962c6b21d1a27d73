"""Ctrl-C while a verb starts, and a reader that closes the output."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-m", "tibert_keras.cli"]

# Stands for a library that takes long to import, and that takes Ctrl-C for a part that is missing.
SWALLOWING = """
import sys, time
for _ in range(600):
    try:
        open(sys.argv[2].removeprefix("--model=") + "/importing", "w").close()
        time.sleep(0.1)
    except BaseException:
        pass
"""


@pytest.mark.parametrize("module", ["tensorflow", "numpy"])
def test_ctrl_c_during_an_import_ends_quietly(module: str, tmp_path: Path) -> None:
    (tmp_path / f"{module}.py").write_text(SWALLOWING, encoding="utf-8")
    model = tmp_path / "model"
    model.mkdir()
    (model / "saved_model.pb").touch()
    process = subprocess.Popen(
        [*COMMAND, "fill-mask", f"--model={model}", "[MASK]"],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{Path(__file__).parents[2]}"},
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    started = time.monotonic()
    while not list(tmp_path.glob("**/importing")):
        assert time.monotonic() - started < 30 and process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=10)
    assert (process.returncode, out, errors) == (130, "", "tibert: Stopped.\n")


def test_a_closed_output_ends_quietly(tmp_path: Path) -> None:
    for index in range(3000):
        (tmp_path / f"run{index:04d}").symlink_to(tmp_path / "run0")
    (tmp_path / "run0").mkdir()
    (tmp_path / "run0/config.yaml").write_text("kind: pretrain\nnum_train_steps: 5\n", encoding="utf-8")
    process = subprocess.Popen(
        [*COMMAND, "runs", *map(str, sorted(tmp_path.glob("run????")))],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None and process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert (process.wait(timeout=60), process.stderr.read()) == (0, "")
