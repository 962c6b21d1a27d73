"""A checkpoint of a run of Google's code, for a run here to begin with as with one of ours."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from tibert_keras.errors import InputError
from tibert_keras.formats.google_names import STEP, from_google, global_step, read_google_checkpoint, variable_shapes
from tibert_keras.formats.renaming import split_slot
from tibert_keras.runs.checkpoints import moment_name


class GoogleCheckpoint:
    """What a checkpoint of Google's holds, under the names that `Checkpoints` gives to the variables of a run.

    It is read at once, and refused where it does not fit the model.

    Args:
        prefix: Its path without `.index`, such as `model.ckpt-800000`, local or `gs://`.
        model: The model that is to begin with it.
        optimizer: The name of the run's optimizer. Google's LAMB and AdamW give their moments the same names.

    Attributes:
        folder: The prefix, for messages.
        step: The global step.

    Raises:
        InputError: If it cannot be read, has no global step, or is of another model.
    """

    def __init__(self, prefix: str, model: keras.Model, optimizer: str) -> None:
        self.folder = prefix
        variables = read_google_checkpoint(prefix)
        step = global_step(variables)
        if step is None:
            raise InputError(
                f"The checkpoint has no {STEP}, from which to go on. Received: init_checkpoint={prefix!r}. "
                "Give one that was written in training."
            )
        self.step = step
        self._values: dict[str, np.ndarray] = {f"optimizer/{optimizer}/iteration": np.asarray(self.step)}
        for name, array in from_google(variables, variable_shapes(model)).items():
            path, slot = split_slot(name)
            self._values[moment_name(optimizer, path, slot[1:]) if slot else f"model/{path}"] = array

    def check(self, step: int) -> None:
        """Do nothing: a damaged one could not have been read."""

    def names(self, step: int) -> Iterable[str]:
        """The names of what it holds."""
        return self._values.keys()

    def values(self, variables: dict[str, Any], step: int) -> dict[str, np.ndarray]:
        """The values for variables, by name. Their shapes are the model's, or it could not have been read."""
        return {name: self._values[name] for name in variables}

    def assign(self, variables: dict[str, Any], step: int) -> None:
        """Give variables the values that it has under their names."""
        for name, value in self.values(variables, step).items():
            variables[name].assign(value)
