"""A run that loses power at any moment, or is killed again and again, ends with the bits of one that was not."""

import dataclasses
import json
import random
import re
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import pytest

from tests.support.power_cuts import every_moment
from tests.support.preloaded import Command
from tibert_keras.runs.checkpoints import VARIABLES_FILE, Checkpoints
from tibert_keras.runs.history import History
from tibert_keras.storage import sha256
from tibert_keras.training.pretrain import pretrain

INTERVAL = 5
# What is waited for, in turn, before a blow: some seconds, or something of this kind on the disk that is not whole yet.
MOMENTS = ("saved_model", "checkpoint", "champion", "any", "any", "any")
# In front of which blows there is a notice, which the run has to follow.
NOTICES = (1, 7, 11)


class End(NamedTuple):
    """How a process ended: what for, when, and what it left."""

    signal: str
    moment: str
    status: int
    step: int
    seconds: float
    unfinished: list[str]


def command(config, output_dir, num_train_steps):
    options = {name: value for name, value in dataclasses.asdict(config).items() if value is not None}
    options |= {"output_dir": output_dir, "num_train_steps": num_train_steps, "save_checkpoints_steps": INTERVAL}
    # Batches so small that not each window has the lowest loss: an export takes longer than the window.
    options |= {"train_batch_size": 4, "keep_checkpoint_max": 3, "export_saved_model": True}
    options |= {"deterministic": True, "jit_compile": False}
    flags = [f"--{name}={value}" for name, value in options.items()]
    return ["tibert_keras.cli", "pretrain", *flags]


def finish(words, logs):
    job = Command(words, logs)
    assert job.wait(900) == 0, job.log


def unfinished(run: Path) -> set[Path]:
    return {Path(entry) for folder in (run, run / "checkpoints") for entry in folder.glob(".*.part")}


def kind_of(path: Path) -> str:
    """What an unfinished file or folder is of: `checkpoint`, `champion`, `saved_model`, or the like."""
    return "checkpoint" if path.parent.name == "checkpoints" else path.name.split(".")[1]


def last_step(run: Path) -> int:
    return max(Checkpoints(run).steps, default=0)


def end_it(
    words: Sequence[str], run: Path, kind: signal.Signals, moment: str, delay: float, logs: Path
) -> tuple[End, str]:
    """Start the command, wait until it trains and then for the moment, and send the signal.

    Args:
        words: The command.
        run: The run's folder.
        kind: The signal.
        moment: `any` for so many seconds, or `checkpoint`, `champion` or `saved_model` until one is unfinished on the
            disk, but for two intervals at the most; `training` until there is a new checkpoint.
        delay: The seconds.
        logs: The folder of logs.

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

    job = Command(words, logs)
    while job.poll() is None and not re.search("^(LAMB:|The run is already)", job.log, re.MULTILINE):
        time.sleep(0.01)
    began = time.monotonic()
    while job.poll() is None and not is_time():
        time.sleep(0.004)
    job.send_signal(kind)
    sent = time.monotonic()
    status, seconds = job.wait(), time.monotonic() - sent
    kinds = sorted({kind_of(path) for path in unfinished(run) - before})
    return End(kind.name, moment, status, last_step(run), seconds, kinds), job.log


def table(ends: Sequence[End]) -> str:
    lines = [
        "| signal | moment | exit status | after, s | last checkpoint | left unfinished |",
        "|---|---|---|---|---|---|",
    ]
    for end in ends:
        kinds = ", ".join(end.unfinished)
        lines.append(f"| {end.signal} | {end.moment} | {end.status} | {end.seconds:.1f} | {end.step} | {kinds} |")
    return "\n".join(lines)


tensorflow_only = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="it exports SavedModels; test_pretrain resumes on JAX"
)


@pytest.mark.slow
@tensorflow_only
@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.soak)])
def test_killed_again_and_again(run_config, tmp_path, kills):
    whole, killed, logs = (tmp_path / name for name in ("whole", "killed", "logs"))
    logs.mkdir()
    # As many as the blows can use up, two intervals each, on a machine of any speed.
    steps = 2 * INTERVAL * (kills + 1)
    finish(command(run_config(whole), whole, steps), logs)
    words, random_times = command(run_config(killed), killed, steps), random.Random(1)
    ends: list[End] = []
    # One that ends before the blow does not count, and another takes its place.
    for number in range(2 * kills):
        if number in NOTICES:
            notice, log = end_it(words, killed, signal.SIGTERM, "training", 0, logs)
            assert notice.status == 0 and "Stopped at step" in log, log
            assert notice.seconds < 60, log
            ends.append(notice)
        moment, delay = MOMENTS[number % len(MOMENTS)], random_times.uniform(0, 8)
        end, log = end_it(words, killed, signal.SIGKILL, moment, delay, logs)
        assert end.status in (0, -signal.SIGKILL), log
        ends.append(end)
        landed = [end for end in ends if end.status == -signal.SIGKILL]
        if len(landed) == kills:
            break
    finish(words, logs)
    hashes = [sha256(run / "checkpoints" / str(steps) / VARIABLES_FILE) for run in (whole, killed)]
    print(table(ends), f"{len(landed)} kills", "SHA-256 of the last checkpoint's variables", sep="\n\n")
    print("", f"never killed: {hashes[0]}", f"killed: {hashes[1]}", sep="\n")
    assert len(landed) == kills
    # Something unfinished was hit (saves and both parts of the export, if there was time enough to), and the training
    # was not over before most of the blows.
    hit = {kind for end in landed for kind in end.unfinished}
    assert hit and (kills < 20 or {"checkpoint", "champion", "saved_model"} <= hit)
    assert sum(end.step < steps for end in landed) > kills / 2
    assert_same_end(killed, whole, steps)
    assert _files(killed / "saved_model") == _files(whole / "saved_model")
    assert hashes[0] == hashes[1]


@pytest.mark.any_backend
@pytest.mark.slow
def test_a_power_cut_at_every_moment(run_config, tmp_path):
    """Before each sync, rename and removal on the disk; what was not synced is lost."""

    def config(folder):
        options = {"train_batch_size": 4, "jit_compile": False}
        # The second save replaces the champion and removes the first checkpoint, as every later one would.
        steps = {"num_train_steps": 4, "num_warmup_steps": 1, "save_checkpoints_steps": 2, "keep_checkpoint_max": 1}
        return run_config(folder, **options, **steps)

    whole = tmp_path / "whole"
    with every_moment(whole, tmp_path / "moments") as moments:
        pretrain(config(whole))
    assert moments.calls["fsync"] > 25 and moments.calls["replace"] > 6 and moments.calls["unlink"] >= 2
    assert len(moments.folders) > 8
    # Moments that leave the same finished files behind are one.
    for folder in moments.folders:
        folder.mkdir(exist_ok=True)
        pretrain(config(folder))
        assert_same_end(folder, whole, 4)


def assert_same_end(killed: Path, whole: Path, steps: int) -> None:
    assert last_step(killed) == last_step(whole) == steps
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


def _files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
