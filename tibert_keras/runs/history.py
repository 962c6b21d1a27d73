"""The history of a run: the figures of each window between two checkpoints."""

import csv
import math
import os
from typing import Literal

from tibert_keras.errors import InputError
from tibert_keras.storage import atomic_output, exists, join, read_lines

HISTORY_FILE = "history.csv"
# Whether the lowest or the highest value is best.
Mode = Literal["min", "max"]


class History:
    """The file `history.csv` of a run, with a row for each window from one checkpoint to the next."""

    def __init__(self, run_dir: str | os.PathLike[str], *, writes: bool = True) -> None:
        self.writes = writes
        self.path = join(run_dir, HISTORY_FILE)
        self.rows: list[dict[str, float]] = []
        if exists(self.path):
            reader = csv.DictReader(list(read_lines(self.path)))
            try:
                rows = [{name: float(value) for name, value in row.items() if value} for row in reader]
                self.rows = [{**row, "step": int(row["step"])} for row in rows]
            except (KeyError, TypeError, ValueError) as error:
                raise InputError(
                    f"Not the history of a run. Received: {self.path!r}. Give the folder of another."
                ) from error

    def forget_after(self, step: int) -> None:
        """Drop the rows after a step, from which the run will be trained again."""
        self.rows = [row for row in self.rows if row["step"] <= step]

    def append(self, row: dict[str, float]) -> None:
        """Add a row as `add` does, and write the file."""
        self.add(row)
        self.write()

    def add(self, row: dict[str, float]) -> None:
        """Add a row, or values to the last row if that is of the same step, without writing the file."""
        if self.rows and self.rows[-1]["step"] == row["step"]:
            row = {**self.rows.pop(), **row}
        self.rows.append(row)

    def write(self) -> None:
        if not self.writes:
            return
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        with atomic_output(self.path) as path, path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, names, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)

    @property
    def criterion(self) -> str:
        """The figure that is lowest at the best checkpoint: `val_loss` if the run has a validation, else `loss`."""
        return "val_loss" if any("val_loss" in row for row in self.rows) else "loss"

    def best(self, criterion: str | None = None, *, mode: Mode = "min") -> dict[str, float] | None:
        """The row with the best `criterion`, the earliest of equals, or `None` if no row has a finite one."""
        criterion = criterion or self.criterion
        sign = 1 if mode == "min" else -1
        rows = [row for row in self.rows if math.isfinite(criterion_value(row, criterion))]
        return min(rows, key=lambda row: sign * criterion_value(row, criterion), default=None)

    def best_steps(self) -> set[int]:
        """The steps of the champions by each criterion: the lowest `loss` and, if there is one, `val_loss`."""
        rows = (self.best(criterion) for criterion in ("loss", self.criterion))
        return {int(row["step"]) for row in rows if row is not None}


def criterion_value(row: dict[str, float], criterion: str) -> float:
    """A value of a row, of which a loss counts the masked tokens alone, so that runs with and without SOP compare."""
    return row.get(criterion.replace("loss", "masked_lm_loss"), row.get(criterion, math.inf))
