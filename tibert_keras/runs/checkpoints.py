"""The checkpoints of a run: written beside the training, proven by reading back, and restored to the bit."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
from collections.abc import Collection
from concurrent.futures import Future, ThreadPoolExecutor
from typing import IO, Any

import keras
import numpy as np

from tibert_keras.errors import InputError
from tibert_keras.storage import (  # fmt: skip
    atomic_output,
    exists,
    join,
    list_folder,
    open_binary,
    read_json,
    remove_folder,
    sha256,
    size,
)
from tibert_keras.training.divergence import DivergedError

VARIABLES_FILE = "variables.npz"
STATE_FILE = "state.json"

_LOG = logging.getLogger(__name__)
_GO_BACK = "Remove its folder to go on from the one before."


class _HashingFile(io.RawIOBase):
    """Takes the hash of what goes to a file on its way there: what is read back later is held to it.

    It cannot seek, so that nothing is written twice.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = hashlib.sha256()
        self.size = 0

    def writable(self) -> bool:
        return True

    def write(self, block: Any) -> int:
        self.digest.update(block)
        written = self._file.write(block)
        self.size += written
        return written


class Checkpoints:
    """The folder `checkpoints/` of a run: one folder a step.

    `variables.npz` holds every variable under its path: those of the model, the optimizer's with the global step, and
    the states of random generators and of metrics. `state.json` has the file's size and hash, and facts of the run.

    Args:
        run_dir: The run's folder.
        keep: How many of the last checkpoints `save` keeps, besides the best ones.
        writes: Whether `save` writes, as it does in one of several workers.

    Example:
    ```python
    checkpoints = Checkpoints("run")
    model = TibertMaskedLM.from_preset("run/initial")
    checkpoints.restore(model, checkpoints.steps[-1])
    ```
    """

    def __init__(self, run_dir: str | os.PathLike[str], *, keep: int = 1, writes: bool = True) -> None:
        self.folder = join(run_dir, "checkpoints")
        self.keep = keep
        self.writes = writes
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._pending: Future[None] | None = None

    @property
    def steps(self) -> list[int]:
        """The steps there are checkpoints of, in order."""
        names = [name for name in list_folder(self.folder) if name.isdigit()]
        # The state is written last: in a remote folder, which fills up file by file, it says that all is there.
        return sorted(int(name) for name in names if exists(join(self.folder, name, STATE_FILE)))

    # === Saving ===
    def save(self, model: keras.Model, step: int, *, state: dict[str, Any], best_steps: Collection[int]) -> None:
        """Save a checkpoint beside the training, and remove old ones when it has been read back.

        The variables are copied before this returns; `wait` waits for the rest.

        Args:
            model: A compiled model.
            step: The global step, which names the checkpoint.
            state: Facts of the run, for `state`.
            best_steps: Steps whose checkpoints are kept whatever their age.

        Raises:
            DivergedError: If a weight is not finite, and nothing is saved.
            InputError: If the checkpoint before could not be saved.
        """
        self.wait()
        variables = {name: keras.ops.convert_to_numpy(value).copy() for name, value in variables_by_name(model).items()}
        for variable in model.trainable_variables:
            if not np.isfinite(variables[f"model/{variable.path}"]).all():
                raise DivergedError(
                    step, f"A weight is not finite at step {step}. Received: {variable.path}. {self.last_good()}"
                )
        # All workers come so far: some variables, those of metrics, are only known to them together.
        if self.writes:
            self._pending = self._thread.submit(self._write, variables, step, state, best_steps)

    def wait(self) -> None:
        """Wait until the last checkpoint is saved.

        Raises:
            InputError: If it could not be.
            OSError: If the disk is full.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def close(self) -> None:
        """Wait for the last checkpoint, and let the thread end."""
        try:
            self.wait()
        finally:
            self._thread.shutdown()

    def _write(
        self, variables: dict[str, np.ndarray], step: int, state: dict[str, Any], best_steps: Collection[int]
    ) -> None:
        with atomic_output(join(self.folder, str(step)), last=STATE_FILE) as folder:
            folder.mkdir()
            # With an open file NumPy leaves its name as it is.
            with (folder / VARIABLES_FILE).open("wb") as file:
                hashing = _HashingFile(file)
                np.savez(hashing, allow_pickle=False, **variables)
            content = {"step": step, **state, "bytes": hashing.size, "sha256": hashing.digest.hexdigest()}
            (folder / STATE_FILE).write_text(json.dumps(content), encoding="utf-8")
        self.check(step)
        for old in self.steps[: -self.keep]:
            if old not in best_steps:
                remove_folder(join(self.folder, str(old)))

    # === Restoring ===
    def state(self, step: int) -> dict[str, Any]:
        """The facts that were saved with a checkpoint.

        Raises:
            InputError: If the checkpoint is damaged.
        """
        path = join(self.folder, str(step), STATE_FILE)
        return read_json(path, what="the state of a checkpoint", advice=_GO_BACK)

    def check(self, step: int) -> None:
        """Check that a checkpoint is as it was written, by its size and hash.

        Raises:
            InputError: If it is damaged.
        """
        path, state = join(self.folder, str(step), VARIABLES_FILE), self.state(step)
        try:
            if (size(path), sha256(path)) == (state["bytes"], state["sha256"]):
                return
            reason = "its size or hash is not the one that was written"
        except (OSError, KeyError) as error:
            reason = f"{type(error).__name__}: {error}"
        raise InputError(f"The checkpoint cannot be loaded: {reason}. Received: {path!r}. {_GO_BACK}")

    def last_whole(self) -> int | None:
        """The last step whose checkpoint is whole; what is said of damaged ones goes to the log.

        Raises:
            InputError: If there are checkpoints and none is whole.
        """
        for step in reversed(self.steps):
            try:
                self.check(step)
                return step
            except InputError as error:
                _LOG.warning("%s Falling back to the one before.", str(error).removesuffix(f" {_GO_BACK}"))
        if self.steps:
            raise InputError(
                f"No checkpoint is whole. Received: {self.folder!r}. Remove the run's folder to begin anew."
            )
        return None

    def restore(self, model: keras.Model, step: int) -> None:
        """Restore a model's variables and, if it is compiled, the optimizer's.

        Raises:
            InputError: If the checkpoint is damaged or of another model.
        """
        self.check(step)
        if model.compiled and not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
        variables = variables_by_name(model)
        self.assign({name: value for name, value in variables.items() if not name.startswith("metric/")}, step)

    def assign(self, variables: dict[str, Any], step: int) -> None:
        """Give variables the values that a checkpoint has under their names.

        Raises:
            InputError: If it lacks one, or one has another shape.
        """
        for name, value in self.values(variables, step).items():
            variables[name].assign(value)

    def values(self, variables: dict[str, Any], step: int) -> dict[str, np.ndarray]:
        """Read the values for variables, by name.

        Raises:
            InputError: If the checkpoint lacks one, or one has another shape.
        """
        saved = self._read(step, list(variables))
        for name, variable in variables.items():
            if saved[name].shape != tuple(variable.shape):
                raise InputError(
                    f"The checkpoint is of another model. Received: {name} of shape {saved[name].shape} in "
                    f"'{self.folder}/{step}', {tuple(variable.shape)} in the model. {_GO_BACK}"
                )
        return saved

    def names(self, step: int) -> list[str]:
        """The names of what a checkpoint holds."""
        with open_binary(join(self.folder, str(step), VARIABLES_FILE)) as file, np.load(file) as saved:
            return list(saved)

    def _read(self, step: int, names: list[str]) -> dict[str, np.ndarray]:
        """Read variables of a checkpoint, all of which must be there."""
        path = join(self.folder, str(step), VARIABLES_FILE)
        # Nothing of the file is executed: arrays of Python objects are refused.
        with open_binary(path) as file, np.load(file, allow_pickle=False) as saved:
            if missing := [name for name in names if name not in saved]:
                raise InputError(
                    f"The checkpoint is of another model. Received: {path!r} without {missing[0]}. {_GO_BACK}"
                )
            return {name: saved[name] for name in names}

    def restore_metrics(self, model: keras.Model, step: int) -> None:
        """Restore the states of a model's metrics, for a window of the training loss that was interrupted."""
        variables = variables_by_name(model)
        self.assign({name: value for name, value in variables.items() if name.startswith("metric/")}, step)

    def last_good(self) -> str:
        """A sentence on where to go on from, for messages."""
        self.wait()
        if not self.steps:
            return "There is no checkpoint before it."
        return f"The last good checkpoint is '{self.folder}/{self.steps[-1]}'."


def split_checkpoint(path: str) -> tuple[str, int] | None:
    """Part `RUN/checkpoints/STEP` into the run's folder and the step; `None` if the path is none of these."""
    folder, name = os.path.split(path.rstrip("/"))
    if not name.isdigit() or os.path.basename(folder) != "checkpoints":
        return None
    return os.path.dirname(folder) or ".", int(name)


def moment_name(optimizer: str, path: str, slot: str) -> str:
    """The name in a checkpoint of an optimizer's moment, such as `adam_m`, of the variable of this path."""
    # Keras names a moment after the path of its variable.
    return f"optimizer/{optimizer}/{path.replace('/', '_')}_{slot}"


def variables_by_name(model: keras.Model) -> dict[str, Any]:
    """Every variable that training changes, under a name that is the same in each process."""
    # Random generators and metrics are numbered by Keras as they are made: their order tells them apart.
    generators = [variable for variable in model.variables if variable.name == "seed_generator_state"]
    others = [variable for variable in model.variables if variable.name != "seed_generator_state"]
    optimizer = model.optimizer.variables if model.compiled and model.optimizer else []
    return {
        **{f"model/{variable.path}": variable for variable in others},
        **{f"seed/{number}": variable for number, variable in enumerate(generators)},
        **{f"optimizer/{variable.path}": variable for variable in optimizer},
        **{f"metric/{number}": variable for number, variable in enumerate(model.metrics_variables)},
    }
