"""What stops a run or spoils it, at a step that a test chooses."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np


class PowerCutError(Exception):
    """The power is gone."""


class At(keras.callbacks.Callback):
    """Does something after so many steps of this process, once."""

    def __init__(self, steps: int, action: Callable[[keras.Model], Any]) -> None:
        super().__init__()
        self.steps, self.action = steps, action

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.steps -= 1
        if self.steps == 0:
            self.action(self.model)


def cut_power(model: keras.Model) -> None:
    """Leave the run as a killed process does."""
    raise PowerCutError


def stop_training(model: keras.Model) -> None:
    """Ask Keras to stop."""
    model.stop_training = True


def poison(model: keras.Model) -> None:
    """Make a weight NaN, and with it the next loss."""
    variable = model.trainable_variables[0]
    variable.assign(np.full(variable.shape, np.nan))
