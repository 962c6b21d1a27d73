"""Runs side by side: how far each is, its losses and its speed, as a table and as curves. No model is loaded."""

from __future__ import annotations

import math
import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tibert_keras.errors import InputError
from tibert_keras.finetuning.scores import SCORES_FILE
from tibert_keras.runs.champion import CHAMPION_FILE
from tibert_keras.runs.checkpoints import Checkpoints
from tibert_keras.runs.columns import in_columns
from tibert_keras.runs.history import History
from tibert_keras.storage import exists, is_remote, join, read_json, write_picture
from tibert_keras.training.config import CONFIG_FILE, read_config

Status = Literal["finished", "running", "stopped", "not begun"]

# How many of the last intervals tell the speed.
_RECENT = 5
# A run is given so many times its interval, and so many seconds for validating and saving, before it counts as stopped.
_INTERVALS, _SECONDS = 2, 60
# By which of its scores a fine-tuning keeps an epoch.
_CRITERIA = ("joint_f1", "macro_f1")
# Where a run has two tasks, the masked tokens alone compare with a run of one.
_CURVES = {"loss": ("-", ""), "val_loss": ("--", ", validation"), "masked_lm_loss": (":", ", masked tokens alone")}
_HEADER = ("run", "status", "step", "loss", "best loss", "at step", "val_loss", "best F1", "examples/s", "champion")


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """What the files of a run tell about it, or those of a seed of a fine-tuning.

    Attributes:
        run_dir: The run's folder, or the seed's.
        status: `finished` if the last checkpoint is that of the last step, `not begun` if there is no checkpoint;
            else `running` if something was written about an interval ago or later, or `stopped`. A seed, which has
            epochs in place of checkpoints, is finished when it has its scores.
        step: Step of the last checkpoint, from which the run would go on, or of a seed's last epoch; 0 if there is
            none.
        num_train_steps: Step at which the run ends; of a seed 0 before its first epoch has ended.
        loss: Training loss over the last interval, or `None` before the first one ended.
        best_loss: The lowest of these losses.
        best_step: The step at the end of its interval.
        val_loss: The last validation loss, or `None` if the run has none.
        best_f1: Of a seed the highest validation score by which an epoch is kept: joint F1 of a tagger, macro F1 of a
            classifier of texts.
        examples_per_second: Median over the last intervals.
        champion_step: Step of the champion, or of the epoch that a finished seed kept; `None` if none was chosen.
    """

    run_dir: str
    status: Status
    step: int
    num_train_steps: int
    loss: float | None
    best_loss: float | None
    best_step: int | None
    val_loss: float | None
    best_f1: float | None
    examples_per_second: float | None
    champion_step: int | None


def summarize_runs(run_dirs: Sequence[str | os.PathLike[str]]) -> list[RunSummary]:
    """Summarize runs from their files, while they train or afterwards.

    Args:
        run_dirs: Folders of runs, of pretraining or of fine-tuning.

    Returns:
        A summary of each, in the same order; of a fine-tuning one for each seed.

    Raises:
        InputError: If a folder holds no run, or a file of one is damaged.

    Example:
    ```python
    print(table(summarize_runs(["runs/a", "runs/b"])))
    ```
    """
    return [summary for run_dir in run_dirs for summary in _summaries(os.fspath(run_dir).rstrip("/") or "/")]


def _summaries(run_dir: str) -> list[RunSummary]:
    config = read_config(run_dir)
    if "num_seeds" not in config:
        return [_summarize(run_dir, _number(run_dir, config, "num_train_steps"))]
    num_epochs = _number(run_dir, config, "num_epochs")
    seeds = range(_number(run_dir, config, "num_seeds"))
    return [_summarize_seed(join(run_dir, f"seed_{index}"), num_epochs) for index in seeds]


def _summarize(run_dir: str, num_train_steps: int) -> RunSummary:
    rows = _rows(run_dir)
    step = max(Checkpoints(run_dir).steps, default=0)
    rates = _column(rows, "examples_per_second")[-_RECENT:]
    # The configuration is written anew by a run that goes on.
    signs = [join(run_dir, name) for name in (CONFIG_FILE, "history.csv", "checkpoints")]
    interval = max(_column(rows, "seconds")[-_RECENT:], default=0.0)
    return RunSummary(
        run_dir=run_dir,
        status=_status(signs, interval, begun=step > 0, finished=step >= num_train_steps),
        step=step,
        num_train_steps=num_train_steps,
        **_losses(rows),
        best_f1=None,
        examples_per_second=statistics.median(rates) if rates else None,
        champion_step=_champion_step(run_dir),
    )


def _summarize_seed(seed_dir: str, num_epochs: int) -> RunSummary:
    rows = _rows(seed_dir)
    finished = exists(join(seed_dir, SCORES_FILE))
    step, epoch, seconds = (rows[-1].get(name, 0) if rows else 0 for name in ("step", "epoch", "seconds"))
    criterion = next((name for name in _CRITERIA if rows and name in rows[-1]), "")
    best = max((row for row in rows if criterion in row), key=lambda row: row[criterion], default={})
    return RunSummary(
        run_dir=seed_dir,
        # The seconds are those since the seed began.
        status=_status([join(seed_dir, "history.csv")], seconds / max(epoch, 1), begun=bool(rows), finished=finished),
        step=int(step),
        num_train_steps=round(step / epoch * num_epochs) if epoch else 0,
        **_losses(rows),
        best_f1=best.get(criterion),
        examples_per_second=None,
        champion_step=int(best["step"]) if finished and best else None,
    )


def _losses(rows: list[dict[str, float]]) -> dict[str, Any]:
    best = min(((row["loss"], int(row["step"])) for row in rows if "loss" in row), default=(None, None))
    losses = {"loss": _last(rows, "loss"), "val_loss": _last(rows, "val_loss")}
    return {**losses, "best_loss": best[0], "best_step": best[1]}


def _number(run_dir: str, config: dict[str, Any], name: str) -> int:
    try:
        return int(config[name])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"Not the configuration of a run. Received: {join(run_dir, CONFIG_FILE)!r} with "
            f"{name}={config.get(name)!r}. Give the folder of another."
        ) from error


def _rows(run_dir: str) -> list[dict[str, float]]:
    try:
        return History(run_dir).rows
    except InputError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        path = join(run_dir, "history.csv")
        raise InputError(f"Not the history of a run. Received: {path!r}. Give the folder of another.") from error


def _status(signs: Sequence[str], interval: float, *, begun: bool, finished: bool) -> Status:
    """Tell from the files that a run writes to, and the seconds between two times, whether it goes on."""
    if finished:
        return "finished"
    if not begun:
        return "not begun"
    silent = time.time() - max(_modified(path) for path in signs if exists(path))
    return "running" if silent < _INTERVALS * interval + _SECONDS else "stopped"


def _modified(path: str) -> float:
    """When a local or remote file or folder was last written, in seconds since 1970."""
    if not is_remote(path):
        return Path(path).stat().st_mtime
    import tensorflow as tf

    return float(tf.io.gfile.stat(path).mtime_nsec / 1e9)


def _champion_step(run_dir: str) -> int | None:
    path = join(run_dir, CHAMPION_FILE)
    if not exists(path):
        return None
    champion = read_json(path, what="the champion of a run", advice="Choose it anew with `tibert champion`.")
    return champion.get("step")


def _column(rows: list[dict[str, float]], name: str) -> list[float]:
    return [row[name] for row in rows if name in row]


def _last(rows: list[dict[str, float]], name: str) -> float | None:
    return next(reversed(_column(rows, name)), None)


# === For people ===


def table(summaries: Sequence[RunSummary]) -> str:
    """Lines of text, one a run under a header; `-` is what is not there (yet)."""
    rows = [_HEADER, *(_cells(name, run) for name, run in zip(_names(summaries), summaries, strict=True))]
    # The names and the status to the left, numbers to the right.
    return in_columns(rows, left=2)


def _cells(name: str, run: RunSummary) -> tuple[str, ...]:
    def text(value: float | None, form: str) -> str:
        return "-" if value is None else format(value, form)

    return (
        name,
        run.status,
        f"{run.step:,}/{run.num_train_steps:,}" if run.num_train_steps else "-",
        text(run.loss, ".4f"),
        text(run.best_loss, ".4f"),
        text(run.best_step, ","),
        text(run.val_loss, ".4f"),
        text(run.best_f1, ".4f"),
        text(run.examples_per_second, ",.1f"),
        text(run.champion_step, ","),
    )


def _names(summaries: Sequence[RunSummary]) -> list[str]:
    """The names of the folders, or their paths if two have the same name."""
    names = [run.run_dir.rpartition("/")[2] or run.run_dir for run in summaries]
    return names if len(set(names)) == len(names) else [run.run_dir for run in summaries]


def plot_runs(summaries: Sequence[RunSummary], path: str | os.PathLike[str]) -> None:
    """Draw the training loss of runs over their steps, and the validation loss and that of the masked tokens alone.

    Args:
        summaries: The runs; their histories are read again.
        path: The picture, a `.png`; an older one of that name is replaced.

    Raises:
        InputError: If `path` has another ending or is a folder, or if no run has a loss yet.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 6), layout="constrained")
    panel = figure.subplots()
    losses: list[float] = []
    for index, (name, run) in enumerate(zip(_names(summaries), summaries, strict=True)):
        losses += _draw(panel, _rows(run.run_dir), label=name, colour=f"C{index}")
    if not losses:
        runs = [run.run_dir for run in summaries]
        raise InputError(f"There is no loss to draw yet. Received: run_dir={runs}. Wait for the first checkpoint.")
    # A first loss far above the others would press all of them flat.
    scale = "log" if 0 < 10 * min(losses) < max(losses) < math.inf else "linear"
    panel.set(title="Loss over the interval before each checkpoint", xlabel="step", ylabel="loss (nats)", yscale=scale)
    panel.xaxis.set_major_formatter("{x:,.0f}")
    panel.grid(alpha=0.3)
    figure.legend(loc="outside right upper")
    write_picture(figure, path)


def _draw(panel: Any, rows: list[dict[str, float]], *, label: str, colour: str) -> list[float]:
    """Draw the curves of a run, and return their losses."""
    losses = []
    for name, (style, addition) in _CURVES.items():
        points = [(row["step"], row[name]) for row in rows if name in row]
        if points:
            # Of few points there may be only one, which makes no line.
            marker = "." if len(points) <= 50 else ""
            panel.plot(*zip(*points, strict=True), style, marker=marker, color=colour, label=f"{label}{addition}")
            losses += [loss for _, loss in points]
    return losses
