"""The history of a run: what happened between two checkpoints."""

from __future__ import annotations

import csv
import math
import os

from tibert_keras.storage import atomic_output, exists, join, read_lines


class History:
    """The file `history.csv` of a run: a row an interval, from one checkpoint to the next.

    Args:
        run_dir: The run's folder.
        writes: Whether `append` writes the file, as it does in one of several workers.
    """

    def __init__(self, run_dir: str | os.PathLike[str], *, writes: bool = True) -> None:
        self.writes = writes
        self.path = join(run_dir, "history.csv")
        self.rows: list[dict[str, float]] = []
        if exists(self.path):
            reader = csv.DictReader(read_lines(self.path))
            self.rows = [{name: float(value) for name, value in row.items() if value} for row in reader]
            self.rows = [{**row, "step": int(row["step"])} for row in self.rows]

    def forget_after(self, step: int) -> None:
        """Drop the rows of steps that no checkpoint has kept: they will be trained again."""
        self.rows = [row for row in self.rows if row["step"] <= step]

    def append(self, row: dict[str, float]) -> None:
        """Add a row, and write the file."""
        self.rows.append(row)
        if not self.writes:
            return
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        with atomic_output(self.path) as path, path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, names, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)

    @property
    def criterion(self) -> str:
        """What is lowest at the best checkpoint: `val_loss` where there is a validation, else `loss`."""
        return "val_loss" if any("val_loss" in row for row in self.rows) else "loss"

    def best(self, criterion: str | None = None) -> dict[str, float]:
        """The row with the lowest `criterion`, the earliest of several; rows that lack it do not count."""
        return min(self.rows, key=lambda row: score(row, criterion or self.criterion))

    def best_steps(self) -> set[int]:
        """The steps of the champions by each criterion: the lowest `loss` and, where there is one, `val_loss`."""
        return {int(self.best(criterion)["step"]) for criterion in ("loss", self.criterion)}


def score(row: dict[str, float], criterion: str) -> float:
    """The `loss` or `val_loss` of a row: that of the masked tokens alone, with which runs of other tasks compare."""
    return row.get(criterion.replace("loss", "masked_lm_loss"), row.get(criterion, math.inf))
