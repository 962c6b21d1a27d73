"""A run that is killed again and again, with real processes: it ends with the bits of one that was not."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import pytest

from tibert_keras.runs.checkpoints import VARIABLES_FILE, Checkpoints
from tibert_keras.runs.history import History
from tibert_keras.storage import sha256

KILLS = 20
INTERVAL = 5
# As many as the blows can use up, two intervals each, on a machine of any speed.
NUM_TRAIN_STEPS = 2 * INTERVAL * KILLS
# What is waited for, in turn, before a blow: some seconds, or something of this kind on the disk that is not whole yet.
MOMENTS = ("any", "saved_model", "any", "checkpoint", "any", "champion")
# In front of which blows there is a notice, which the run has to follow.
NOTICES = (3, 7, 11)
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TF_CPP_MIN_LOG_LEVEL": "3"}


class End(NamedTuple):
    """How a process ended: what for, when, and what it left."""

    signal: str
    moment: str
    status: int
    step: int
    seconds: float
    unfinished: list[str]


def command(config, output_dir):
    options = {name: value for name, value in dataclasses.asdict(config).items() if value is not None}
    options |= {"output_dir": output_dir, "num_train_steps": NUM_TRAIN_STEPS, "save_checkpoints_steps": INTERVAL}
    # Batches so small that not each window has the lowest loss: an export takes longer than the window.
    options |= {"train_batch_size": 4, "keep_checkpoint_max": 3, "export_saved_model": True}
    options |= {"deterministic": True, "jit_compile": False}
    flags = [f"--{name}={value}" for name, value in options.items()]
    return [sys.executable, "-m", "tibert_keras.cli.main", "pretrain", *flags]


def finish(words):
    done = subprocess.run(words, env=ENVIRONMENT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    return done


def unfinished(run: Path) -> set[Path]:
    return {Path(entry) for folder in (run, run / "checkpoints") for entry in folder.glob(".*.part")}


def kind_of(path: Path) -> str:
    """What an unfinished file or folder is of: `checkpoint`, `champion`, `saved_model`, or the like."""
    return "checkpoint" if path.parent.name == "checkpoints" else path.name.split(".")[1]


def last_step(run: Path) -> int:
    return max(Checkpoints(run).steps, default=0)


def end_it(words: Sequence[str], run: Path, kind: signal.Signals, moment: str, delay: float) -> tuple[End, str]:
    """Start the command, wait until it trains and then for the moment, and send the signal.

    Args:
        words: The command.
        run: The run's folder.
        kind: The signal.
        moment: `any` for so many seconds, or `checkpoint`, `champion` or `saved_model` until one is unfinished on the
            disk, but for two intervals at the most; `training` until there is a new checkpoint.
        delay: The seconds.

    Returns:
        How it ended, and its log.
    """
    before, first = unfinished(run), last_step(run)

    def is_time() -> bool:
        step = last_step(run)
        if moment == "training":
            return step > first
        if moment == "any":
            has_come = time.monotonic() > began + delay
        else:
            has_come = moment in map(kind_of, unfinished(run) - before)
        return has_come or step >= first + 2 * INTERVAL

    with subprocess.Popen(words, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as job:
        log = []
        for line in job.stderr:
            log.append(line)
            if line.startswith(("LAMB:", "The run is already")):
                break
        began = time.monotonic()
        while job.poll() is None and not is_time():
            time.sleep(0.001)
        job.send_signal(kind)
        sent = time.monotonic()
        log += job.stderr.readlines()
        status, seconds = job.wait(timeout=120), time.monotonic() - sent
    kinds = sorted({kind_of(path) for path in unfinished(run) - before})
    return End(kind.name, moment, status, last_step(run), seconds, kinds), "".join(log)


def table(ends: Sequence[End]) -> str:
    lines = [
        "| signal | moment | exit status | after, s | last checkpoint | left unfinished |",
        "|---|---|---|---|---|---|",
    ]
    for end in ends:
        kinds = ", ".join(end.unfinished)
        lines.append(f"| {end.signal} | {end.moment} | {end.status} | {end.seconds:.1f} | {end.step} | {kinds} |")
    return "\n".join(lines)


@pytest.mark.slow
@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="it exports SavedModels; test_pretrain resumes on JAX"
)
def test_killed_at_random_moments(run_config, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finish(command(run_config(whole), whole))
    words, random_times = command(run_config(killed), killed), random.Random(1)
    ends: list[End] = []
    # One that ends before the blow does not count, and another takes its place.
    for number in range(2 * KILLS):
        if number in NOTICES:
            notice, log = end_it(words, killed, signal.SIGTERM, "training", 0)
            assert notice.status == 0 and "Stopped at step" in log, log
            assert notice.seconds < 60, log
            ends.append(notice)
        end, log = end_it(words, killed, signal.SIGKILL, MOMENTS[number % len(MOMENTS)], random_times.uniform(0, 8))
        assert end.status in (0, -signal.SIGKILL), log
        ends.append(end)
        landed = [end for end in ends if end.status == -signal.SIGKILL]
        if len(landed) == KILLS:
            break
    finish(words)
    hashes = [sha256(run / "checkpoints" / str(NUM_TRAIN_STEPS) / VARIABLES_FILE) for run in (whole, killed)]
    print(table(ends), f"{len(landed)} kills", "SHA-256 of the last checkpoint's variables", sep="\n\n")
    print("", f"never killed: {hashes[0]}", f"killed: {hashes[1]}", sep="\n")
    assert len(landed) == KILLS
    # Saves and both parts of the export were hit, and the training was not over before most of the blows.
    assert {"checkpoint", "champion", "saved_model"} <= {kind for end in landed for kind in end.unfinished}
    assert sum(end.step < NUM_TRAIN_STEPS for end in landed) > KILLS / 2
    assert_same_end(killed, whole)
    assert hashes[0] == hashes[1]


def assert_same_end(killed: Path, whole: Path) -> None:
    assert last_step(killed) == last_step(whole) == NUM_TRAIN_STEPS
    for step in sorted({*Checkpoints(whole).steps} & {*Checkpoints(killed).steps}):
        ours, theirs = (np.load(run / "checkpoints" / str(step) / VARIABLES_FILE) for run in (killed, whole))
        assert sorted(ours) == sorted(theirs)
        for name in ours:
            np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
    columns = ("step", "loss", "masked_lm_accuracy", "learning_rate")
    rows, expected = ([[row[name] for name in columns] for row in History(run).rows] for run in (killed, whole))
    assert rows == expected
    champions = [json.loads((run / "champion.json").read_text()) for run in (killed, whole)]
    assert [champion["step"] for champion in champions] == [champions[1]["step"]] * 2
    assert not unfinished(killed)
    assert _files(killed / "saved_model") == _files(whole / "saved_model")


def _files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
