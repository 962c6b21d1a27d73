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
from pathlib import Path

import keras
import numpy as np
import pytest

from tibert_keras.training.checkpoints import VARIABLES_FILE, Checkpoints
from tibert_keras.training.history import History

KILLS = 20
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TF_CPP_MIN_LOG_LEVEL": "3"}


def command(config, output_dir):
    options = {name: value for name, value in dataclasses.asdict(config).items() if value is not None}
    options |= {"output_dir": output_dir, "num_train_steps": 60, "export_saved_model": True, "keep_checkpoint_max": 3}
    options["deterministic"] = True
    flags = [f"--{name}={value}" for name, value in options.items()]
    return [sys.executable, "-m", "tibert_keras.cli", "pretrain", *flags]


def finish(words):
    done = subprocess.run(words, env=ENVIRONMENT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done


def unfinished(run):
    return [path for path in run.rglob("*") if path.name.endswith(".part")]


def kill_at(words, run, delay, kind, *, in_save):
    """Start the command, wait until it trains, a little longer and, with `in_save`, until it is writing something."""
    with subprocess.Popen(words, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as job:
        log = []
        for line in job.stderr:
            log.append(line)
            if line.startswith(("LAMB:", "The run is already")):
                break
        time.sleep(delay)
        while in_save and job.poll() is None and not unfinished(run):
            pass
        job.send_signal(kind)
        began = time.monotonic()
        log += job.stderr.readlines()
        return job.wait(timeout=60), time.monotonic() - began, "".join(log)


@pytest.mark.slow
@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="it exports SavedModels; test_pretrain resumes on JAX"
)
def test_killed_at_random_moments(run_config, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finish(command(run_config(whole), whole))
    words, moments = command(run_config(killed), killed), random.Random(1)
    ends, leftovers = [], 0
    for number in range(KILLS):
        # From the first step over saves to exports; each fourth is a notice, and not a blow.
        kind = signal.SIGTERM if number % 4 == 3 else signal.SIGKILL
        delay = moments.uniform(0, 9)
        status, seconds, log = kill_at(words, killed, delay, kind, in_save=number % 4 == 1)
        leftovers += bool(unfinished(killed))
        steps = Checkpoints(killed).steps
        ends.append((kind.name, status, steps[-1] if steps else 0, round(seconds, 1)))
        assert status in (0, -kind), log
        assert kind == signal.SIGKILL or seconds < 30, log
    print(*ends, f"{leftovers} kills left something unfinished", sep="\n")
    assert leftovers > 0
    finish(words)
    assert Checkpoints(killed).steps[-1] == Checkpoints(whole).steps[-1] == 60
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
