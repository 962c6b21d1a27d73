"""The history of a run: the figures of each window between two checkpoints."""

from __future__ import annotations

import csv
import math
import os

from tibert_keras.errors import InputError
from tibert_keras.storage import atomic_output, exists, join, read_lines

HISTORY_FILE = "history.csv"


class History:
    """The file `history.csv` of a run, with a row for each window from one checkpoint to the next.

    Args:
        run_dir: The run's folder.
        writes: Whether `append` writes the file. Of several workers, only the chief does.

    Raises:
        InputError: If the file is damaged.
    """

    def __init__(self, run_dir: str | os.PathLike[str], *, writes: bool = True) -> None:
        self.writes = writes
        self.path = join(run_dir, HISTORY_FILE)
        self.rows: list[dict[str, float]] = []
        if exists(self.path):
            reader = csv.DictReader(read_lines(self.path))
            try:
                rows = [{name: float(value) for name, value in row.items() if value} for row in reader]
                self.rows = [{**row, "step": int(row["step"])} for row in rows]
            except InputError:
                raise
            except (KeyError, TypeError, ValueError) as error:
                raise InputError(
                    f"Not the history of a run. Received: {self.path!r}. Give the folder of another."
                ) from error

    def forget_after(self, step: int) -> None:
        """Drop the rows after a step, from which the run will be trained again."""
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
        """What is lowest at the best checkpoint: `val_loss` if the run has a validation, else `loss`."""
        return "val_loss" if any("val_loss" in row for row in self.rows) else "loss"

    def best(self, criterion: str | None = None) -> dict[str, float]:
        """The row with the lowest `criterion`, the earliest of equals. Rows without it do not count."""
        return min(self.rows, key=lambda row: criterion_value(row, criterion or self.criterion))

    def best_steps(self) -> set[int]:
        """The steps of the champions by each criterion: the lowest `loss` and, if there is one, `val_loss`."""
        return {int(self.best(criterion)["step"]) for criterion in ("loss", self.criterion)}


def criterion_value(row: dict[str, float], criterion: str) -> float:
    """The `loss` or `val_loss` of a row, over the masked tokens alone, so that runs with and without SOP compare."""
    return row.get(criterion.replace("loss", "masked_lm_loss"), row.get(criterion, math.inf))
