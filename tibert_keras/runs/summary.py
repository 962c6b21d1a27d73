"""Compares runs by their files: progress, losses and speed, as a table and as curves. No model is loaded."""

import math
import os
import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict

from tibert_keras.errors import InputError
from tibert_keras.json_types import misfit, read_typed_json
from tibert_keras.lazy import tf
from tibert_keras.pictures import write_picture
from tibert_keras.runs.folder import CHAMPION_FILE, CONFIG_FILE, SCORES_FILE, read_kind
from tibert_keras.runs.history import HISTORY_FILE, History
from tibert_keras.runs.run import Run
from tibert_keras.storage import exists, is_remote, join

Status = Literal["finished", "running", "stopped", "not begun"]

# The number of windows that the speed is the median of.
_RECENT = 5
# A run counts as stopped once nothing was written for 2 windows, and 60 seconds more for validating and saving.
_WINDOWS, _SECONDS = 2, 60
# A fine-tuning has a few seeds, each of which has a line.
_MOST_SEEDS = 1000
# The scores by which fine-tunings choose an epoch.
_CRITERIA = ("joint_f1", "macro_f1")
# In a run with two tasks, the loss of the masked tokens alone compares with that of other runs.
_CURVES = {"loss": ("-", ""), "val_loss": ("--", ", validation"), "masked_lm_loss": (":", ", masked tokens alone")}
# The columns of the table after the first three: header, field and format.
_COLUMNS = (
    ("loss", "loss", ".4f"),
    ("best loss", "best_loss", ".4f"),
    ("at step", "best_step", ","),
    ("val_loss", "val_loss", ".4f"),
    ("best F1", "best_f1", ".4f"),
    ("examples/s", "examples_per_second", ",.1f"),
    ("champion", "champion_step", ","),
)


class _Champion(TypedDict, total=False):
    step: int


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """A summary of a run, or of one seed of a fine-tuning, from its files.

    Attributes:
        run_dir: The folder of the run or the seed.
        status: `finished` if the last checkpoint is that of the last step; `not begun` if there is no checkpoint; else
            `running` if something was written within about the last window, or `stopped`. A seed has epochs in place
            of checkpoints, and is finished once it has its scores.
        step: Step of the last checkpoint, from which the run would resume, or of a seed's last epoch; 0 without one.
        num_train_steps: The last step of the run; for a seed 0 until its first epoch has ended.
        loss: Training loss over the last window, or `None` before the first one has ended.
        best_loss: The lowest of these losses.
        best_step: The step at the end of its window.
        val_loss: The last validation loss, or `None` if the run has none.
        best_f1: For a seed, the highest validation score by which an epoch is chosen: joint F1 of a tagger, macro F1 of
            a text classifier.
        examples_per_second: Median over the last windows.
        champion_step: Step of the champion, or of the epoch that a finished seed kept; `None` if there is none yet.
    """

    run_dir: str
    status: Status
    step: int
    num_train_steps: int
    loss: float | None
    best_loss: float | None
    best_step: int | None
    val_loss: float | None
    best_f1: float | None = None
    examples_per_second: float | None = None
    champion_step: int | None


def summarize_runs(run_dirs: Sequence[str | os.PathLike[str]]) -> list[RunSummary]:
    """Summarize runs from their files, during or after training, in the same order; a fine-tuning by its seeds."""
    return [summary for run_dir in run_dirs for summary in _summaries(Run(run_dir))]


def _summaries(run: Run) -> list[RunSummary]:
    if read_kind(run.folder) == "pretrain":
        return [_summarize(run)]
    num_epochs, num_seeds = _number(run, "num_epochs"), _number(run, "num_seeds", most=_MOST_SEEDS)
    return [_summarize_seed(join(run.folder, f"seed_{index}"), num_epochs) for index in range(num_seeds)]


def _summarize(run: Run) -> RunSummary:
    rows, num_train_steps = run.history.rows, _number(run, "num_train_steps")
    step = max(run.checkpoints.steps, default=0)
    rates = _column(rows, "examples_per_second")[-_RECENT:]
    # A run writes its configuration anew when it resumes.
    written = [join(run.folder, name) for name in (CONFIG_FILE, HISTORY_FILE, "checkpoints")]
    window = max(_column(rows, "seconds")[-_RECENT:], default=0.0)
    return RunSummary(
        run_dir=run.folder,
        status=_status(written, window, begun=step > 0, finished=step >= num_train_steps),
        step=step,
        num_train_steps=num_train_steps,
        **_losses(rows),
        examples_per_second=statistics.median(rates) if rates else None,
        champion_step=_champion_step(run.folder),
    )


def _summarize_seed(seed_dir: str, num_epochs: int) -> RunSummary:
    rows = History(seed_dir).rows
    finished = exists(join(seed_dir, SCORES_FILE))
    step, epoch, seconds = (rows[-1].get(name, 0) if rows else 0 for name in ("step", "epoch", "seconds"))
    criterion = next((name for name in _CRITERIA if rows and name in rows[-1]), "")
    best = max((row for row in rows if criterion in row), key=lambda row: row[criterion], default={})
    return RunSummary(
        run_dir=seed_dir,
        # A seed counts the seconds since it began, over all epochs.
        status=_status([join(seed_dir, HISTORY_FILE)], seconds / max(epoch, 1), begun=bool(rows), finished=finished),
        step=int(step),
        num_train_steps=round(step / epoch * num_epochs) if epoch else 0,
        **_losses(rows),
        best_f1=best.get(criterion),
        champion_step=int(best["step"]) if finished and best else None,
    )


def _losses(rows: list[dict[str, float]]) -> dict[str, Any]:
    best = min(((row["loss"], int(row["step"])) for row in rows if "loss" in row), default=(None, None))
    last = {name: next(reversed(_column(rows, name)), None) for name in ("loss", "val_loss")}
    return {**last, "best_loss": best[0], "best_step": best[1]}


def _number(run: Run, name: str, *, most: float = math.inf) -> int:
    value: Any = run.config.get(name)
    if misfit(value, int) is None and value <= most:
        return int(value)
    raise InputError(
        f"Not the configuration of a run. Received: {join(run.folder, CONFIG_FILE)!r} with {name}={value!r}. "
        "Give the folder of another."
    )


def _status(paths: Sequence[str], window: float, *, begun: bool, finished: bool) -> Status:
    """Tell from the files that a run writes, and the seconds between two writes, whether it is running."""
    if finished:
        return "finished"
    if not begun:
        return "not begun"
    silent = time.time() - max(_modified(path) for path in paths if exists(path))
    return "running" if silent < _WINDOWS * window + _SECONDS else "stopped"


def _modified(path: str) -> float:
    """When a local or remote file or folder was last written, in seconds since 1970."""
    if not is_remote(path):
        return Path(path).stat().st_mtime
    return float(tf.io.gfile.stat(path).mtime_nsec / 1e9)


def _champion_step(run_dir: str) -> int | None:
    path = join(run_dir, CHAMPION_FILE)
    if not exists(path):
        return None
    advice = "Choose it anew with `tibert champion`."
    return read_typed_json(path, _Champion, what="the champion of a run", advice=advice).get("step")


def _column(rows: list[dict[str, float]], name: str) -> list[float]:
    return [row[name] for row in rows if name in row]


# === Table and plot ===


def summary_table(summaries: Sequence[RunSummary]) -> str:
    """Format summaries as lines of text, one for each run under a header; `-` marks values that do not exist yet."""
    header = ("run", "status", "step", *(name for name, _, _ in _COLUMNS))
    rows = [header, *(_cells(name, run) for name, run in zip(_names(summaries), summaries, strict=True))]
    # Names and statuses are aligned to the left, numbers to the right.
    return in_columns(rows, left=2)


def in_columns(rows: Iterable[Sequence[str]], *, left: int) -> str:
    """Format rows of cells as aligned lines of text: the first `left` columns to the left, the others to the right."""
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if index < left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def _cells(name: str, run: RunSummary) -> tuple[str, ...]:
    step = f"{run.step:,}/{run.num_train_steps:,}" if run.num_train_steps else "-"
    values = [(getattr(run, field), form) for _, field, form in _COLUMNS]
    return name, run.status, step, *("-" if value is None else format(value, form) for value, form in values)


def _names(summaries: Sequence[RunSummary]) -> list[str]:
    """The names of the folders, or their paths if two share a name."""
    names = [run.run_dir.rpartition("/")[2] or run.run_dir for run in summaries]
    return names if len(set(names)) == len(names) else [run.run_dir for run in summaries]


def plot_runs(summaries: Sequence[RunSummary], path: str | os.PathLike[str]) -> None:
    """Plot the losses of runs over their steps: training, validation, and that of the masked tokens alone."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 6), layout="constrained")
    panel = figure.subplots()
    losses: list[float] = []
    for index, (name, run) in enumerate(zip(_names(summaries), summaries, strict=True)):
        losses += _draw(panel, History(run.run_dir).rows, label=name, colour=f"C{index}")
    if not losses:
        runs = [run.run_dir for run in summaries]
        raise InputError(f"There is no loss to draw yet. Received: run_dir={runs}. Wait for the first checkpoint.")
    # On a linear scale, a first loss far above the others would flatten their curves.
    scale = "log" if 0 < 10 * min(losses) < max(losses) < math.inf else "linear"
    panel.set(title="Loss over the interval before each checkpoint", xlabel="step", ylabel="loss (nats)", yscale=scale)
    panel.xaxis.set_major_formatter("{x:,.0f}")
    panel.grid(alpha=0.3)
    figure.legend(loc="outside right upper")
    write_picture(figure, path)


def _draw(panel: Any, rows: list[dict[str, float]], *, label: str, colour: str) -> list[float]:
    """Draw the curves of a run, and return its losses."""
    losses = []
    for name, (style, addition) in _CURVES.items():
        points = [(row["step"], row[name]) for row in rows if name in row]
        if points:
            # A single point makes no line.
            marker = "." if len(points) <= 50 else ""
            panel.plot(*zip(*points, strict=True), style, marker=marker, color=colour, label=f"{label}{addition}")
            losses += [loss for _, loss in points]
    return losses
