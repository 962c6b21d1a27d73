"""The checkpoints of a run, and the history of the intervals between them."""

from __future__ import annotations

import csv
import json
import math
import os
from typing import Any

import keras
import numpy as np

from tibert_keras.errors import InputError
from tibert_keras.storage import atomic_output, exists, join, list_folder, read_json, read_lines, remove_folder

WEIGHTS_FILE = "train_state.weights.h5"
STATE_FILE = "state.json"

_GO_BACK = "Remove its folder to go on from the one before."


class Checkpoints:
    """The folder `checkpoints/` of a run: one folder a step, with the weights and the optimizer's state.

    Args:
        run_dir: The run's folder.
        keep: How many of the last checkpoints `save` keeps, besides the best.
    """

    def __init__(self, run_dir: str | os.PathLike[str], *, keep: int = 1) -> None:
        self.folder = join(run_dir, "checkpoints")
        self.keep = keep

    @property
    def steps(self) -> list[int]:
        """The steps there are checkpoints of, in order."""
        names = [name for name in list_folder(self.folder) if name.isdigit()]
        # The state is written last: in a remote folder, which fills up file by file, it says that all is there.
        return sorted(int(name) for name in names if exists(join(self.folder, name, STATE_FILE)))

    def save(self, model: keras.Model, step: int, *, state: dict[str, Any], best_step: int) -> None:
        """Save a checkpoint and remove old ones.

        Args:
            model: A compiled model.
            step: The global step, which names the checkpoint.
            state: Facts of the run that must not change when it goes on.
            best_step: A step whose checkpoint is kept whatever its age.

        Raises:
            InputError: If a weight is not finite; nothing is saved then.
        """
        for variable in model.trainable_variables:
            if not np.isfinite(keras.ops.convert_to_numpy(variable)).all():
                raise InputError(
                    f"A weight is not finite at step {step}. Received: {variable.path}. {self.last_good()}"
                )
        with atomic_output(join(self.folder, str(step)), last=STATE_FILE) as folder:
            folder.mkdir()
            model.save_weights(folder / WEIGHTS_FILE)
            content = {"step": step, **state, "seeds": [keras.ops.convert_to_numpy(s).tolist() for s in _seeds(model)]}
            (folder / STATE_FILE).write_text(json.dumps(content), encoding="utf-8")
        for old in self.steps[: -self.keep]:
            if old != best_step:
                remove_folder(join(self.folder, str(old)))

    def state(self, step: int) -> dict[str, Any]:
        """The state that was saved with a checkpoint.

        Raises:
            InputError: If the checkpoint is damaged.
        """
        path = join(self.folder, str(step), STATE_FILE)
        return read_json(path, what="the state of a checkpoint", advice=_GO_BACK)

    def restore(self, model: keras.Model, step: int) -> None:
        """Load the weights of a checkpoint and, if the model is compiled, the optimizer's state.

        Raises:
            InputError: If the checkpoint is damaged or of another model.
        """
        path = join(self.folder, str(step), WEIGHTS_FILE)
        if model.compiled and not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
        try:
            model.load_weights(path)
        except (OSError, RuntimeError, KeyError, ValueError) as error:
            raise _damaged(path, error) from error
        for variable, seed in zip(_seeds(model), self.state(step)["seeds"], strict=True):
            variable.assign(seed)

    def last_good(self) -> str:
        """A sentence on where to go on from, for messages."""
        if not self.steps:
            return "There is no checkpoint before it."
        return f"The last good checkpoint is '{self.folder}/{self.steps[-1]}'."


def _seeds(model: keras.Model) -> list[Any]:
    """The states of the random generators, such as those of dropout: Keras counts them as no weights."""
    return [variable for variable in model.variables if variable.name == "seed_generator_state"]


def _damaged(path: str, error: Exception) -> InputError:
    reason = " ".join(str(error).split())[:300].rstrip(".")
    return InputError(f"The checkpoint cannot be loaded: {reason}. Received: {path!r}. {_GO_BACK}")


class History:
    """The file `history.csv` of a run: a row an interval, from one checkpoint to the next.

    Args:
        run_dir: The run's folder.
    """

    def __init__(self, run_dir: str | os.PathLike[str]) -> None:
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
        """Add a row and write the file."""
        self.rows.append(row)
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        with atomic_output(self.path) as path, path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, names, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)

    def best(self, criterion: str = "loss") -> dict[str, float]:
        """The row with the lowest `criterion`, the earliest of several; rows that lack it do not count."""
        return min(self.rows, key=lambda row: row.get(criterion, math.inf))
