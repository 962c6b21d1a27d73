"""A run of pretraining: its folder, and where its training stands."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tibert_keras.errors import refuse_changes
from tibert_keras.json_types import known_fields
from tibert_keras.runs.checkpoints import Checkpoints
from tibert_keras.runs.folder import read_config
from tibert_keras.runs.history import History

if TYPE_CHECKING:
    import keras


@dataclass
class RunState:
    """Where a run stands, as each checkpoint saves it in `state.json`.

    Attributes:
        step: The global step.
        num_examples: Number of examples in the training records, by which a run recognizes them.
        skipped_batches: Batches that rollbacks have skipped so far.
        first_step: The step at which the current window of the training loss began.
        seconds: The time spent on that window so far.
        epochs: The epochs of `fit()` that have ended; `pretrain` counts steps only.
    """

    step: int = 0
    num_examples: int = 0
    skipped_batches: int = 0
    first_step: int = 0
    seconds: float = 0.0
    epochs: int = 0


class Run:
    """A run: its folder, options, checkpoints and history, and the state of its training.

    The folder need not exist yet; `keep` and `writes` are as in `Checkpoints`.
    """

    def __init__(self, folder: str | os.PathLike[str], *, keep: int = 1, writes: bool = True) -> None:
        self.folder = os.fspath(folder).rstrip("/") or "/"
        self.writes = writes
        self.checkpoints = Checkpoints(self.folder, keep=keep, writes=writes)
        self.history = History(self.folder, writes=writes)
        self.state = RunState()

    @cached_property
    def config(self) -> dict[str, Any]:
        """The options of the run; see `read_config`."""
        return read_config(self.folder)

    def save(self, model: keras.Model) -> None:
        """Save a checkpoint of a model and the state; errors are those of `Checkpoints.save`."""
        # By each criterion, because the champion can be chosen by either.
        best_steps = self.history.best_steps() or {self.state.step}
        state = dataclasses.asdict(self.state)
        self.checkpoints.save(model, self.state.step, state=state, best_steps=best_steps)

    def resume(self, model: keras.Model) -> bool:
        """Restore the last undamaged checkpoint, and return whether there is one."""
        step = self.checkpoints.last_whole()
        if step is None:
            return False
        refuse_changes(
            {"num_examples": self.checkpoints.state(step)["num_examples"]},
            {"num_examples": self.state.num_examples},
            folder=self.checkpoints.folder,
        )
        self.restore(model, step)
        return True

    def restore(self, model: keras.Model, step: int) -> None:
        """Restore a model and the state from a checkpoint, and forget the history after it."""
        self.checkpoints.restore(model, step)
        # Checkpoints of older versions may lack some.
        self.state = known_fields(RunState, self.checkpoints.state(step))
        self.history.forget_after(step)
