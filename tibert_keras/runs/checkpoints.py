"""The checkpoints of a run: written in the background, verified by reading them back, and restored bit for bit."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
from collections.abc import Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from tibert_keras.errors import DivergedError, InputError
from tibert_keras.integrity import check_manifest, difference, write_manifest
from tibert_keras.storage import atomic_output, exists, join, list_folder, open_binary, read_json, remove

if TYPE_CHECKING:
    import keras

VARIABLES_FILE = "variables.npz"
STATE_FILE = "state.json"

_LOG = logging.getLogger(__name__)
_GO_BACK = "Remove its folder to go on from the one before."


class _HashingFile(io.RawIOBase):
    """Hashes the bytes written to a file, to compare them with those read back.

    It cannot seek, so NumPy writes every byte once and in order.
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
    """The folder `checkpoints/` of a run, with one folder for each saved step.

    `variables.npz` holds every variable under its path: those of the model, those of the optimizer with the global
    step, and the states of random generators and metrics. `state.json` holds the state of the run, and
    `manifest.json` the sizes and hashes of both.

    Args:
        run_dir: The run's folder.
        keep: How many of the last checkpoints `save` keeps, besides the best ones.
        writes: Whether `save` writes. Of several workers, only the chief does.
    """

    def __init__(self, run_dir: str | os.PathLike[str], *, keep: int = 1, writes: bool = True) -> None:
        self.folder = join(run_dir, "checkpoints")
        self.keep = keep
        self.writes = writes
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._pending: Future[None] | None = None

    @property
    def steps(self) -> list[int]:
        """The saved steps, in order."""
        names = [name for name in list_folder(self.folder) if name.isdigit()]
        # A remote folder fills up file by file. The state is written last, so where it exists the rest does too.
        return sorted(int(name) for name in names if exists(join(self.folder, name, STATE_FILE)))

    # === Saving ===
    def save(self, model: keras.Model, step: int, *, state: Mapping[str, Any], best_steps: Collection[int]) -> None:
        """Save a checkpoint in the background, and remove old ones once it has been read back.

        The variables of the compiled model are copied before this returns; `wait` waits until they are written. `state`
        reads the state of the run again. Checkpoints of `best_steps` are kept at any age.
        """
        from keras import ops

        self.wait()
        variables = {name: ops.convert_to_numpy(value).copy() for name, value in variables_by_name(model).items()}
        for variable in model.trainable_variables:
            if not np.isfinite(variables[f"model/{variable.path}"]).all():
                raise DivergedError(
                    step, f"A weight is not finite at step {step}. Received: {variable.path}. {self.last_good()}"
                )
        # All workers read the variables: the values of some, those of metrics, take all of them to compute.
        if self.writes:
            self._pending = self._thread.submit(self._write, variables, step, state, best_steps)

    def wait(self) -> None:
        """Wait until the last checkpoint is saved."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def close(self) -> None:
        """Wait until the last checkpoint is saved, and end the thread."""
        try:
            self.wait()
        finally:
            self._thread.shutdown()

    def _write(
        self, variables: dict[str, np.ndarray], step: int, state: Mapping[str, Any], best_steps: Collection[int]
    ) -> None:
        with atomic_output(self.path(step), last=STATE_FILE) as folder:
            folder.mkdir()
            # NumPy would add an ending to the name of a file that it opens itself.
            with (folder / VARIABLES_FILE).open("wb") as file:
                hashing = _HashingFile(file)
                np.savez(hashing, allow_pickle=False, **variables)
            (folder / STATE_FILE).write_text(json.dumps({"step": step, **state}), encoding="utf-8")
            # Of the bytes on their way to the disk, not read back from it.
            variables_entry = {"bytes": hashing.size, "sha256": hashing.digest.hexdigest()}
            write_manifest(folder, known={VARIABLES_FILE: variables_entry})
        self.check(step)
        for old in self.steps[: -self.keep]:
            if old not in best_steps:
                remove(self.path(old))

    # === Restoring ===
    def path(self, step: int) -> str:
        """The folder of a checkpoint."""
        return join(self.folder, str(step))

    def state(self, step: int) -> dict[str, Any]:
        """Read the state of the run that was saved with a checkpoint."""
        return read_json(join(self.path(step), STATE_FILE), what="the state of a checkpoint", advice=_GO_BACK)

    def check(self, step: int) -> None:
        """Check by its size and hash that a checkpoint is as it was written."""
        if check_manifest(self.path(step), what="The checkpoint", advice=_GO_BACK):
            return
        # Older ones have the entry of the variables in their state.
        path, state = join(self.path(step), VARIABLES_FILE), self.state(step)
        reason = difference(path, state) if {"bytes", "sha256"} <= state.keys() else "its list of files is missing"
        if reason is not None:
            raise InputError(f"The checkpoint cannot be loaded: {reason}. Received: {path!r}. {_GO_BACK}")

    def last_whole(self) -> int | None:
        """The step of the last undamaged checkpoint, or `None` if there are no checkpoints. Damaged ones are logged."""
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

    def read(self, step: int) -> dict[str, np.ndarray]:
        """Read all variables of a checkpoint, by name."""
        self.check(step)
        # Without pickle nothing in the file is executed: NumPy refuses arrays of Python objects.
        with open_binary(join(self.path(step), VARIABLES_FILE)) as file, np.load(file, allow_pickle=False) as saved:
            return dict(saved)

    def restore(self, model: keras.Model, step: int, *, metrics: bool = False) -> None:
        """Restore the variables of a model and, if it is compiled, those of its optimizer.

        With `metrics`, only the states of the metrics are restored, to resume a window of the training loss.
        """
        if model.compiled and not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
        variables = variables_by_name(model)
        wanted = {name: variables[name] for name in variables if name.startswith("metric/") == metrics}
        assign_values(wanted, self.read(step), place=self.path(step))

    def last_good(self) -> str:
        """A sentence for messages that names the checkpoint to go on from."""
        self.wait()
        if not self.steps:
            return "There is no checkpoint before it."
        return f"The last good checkpoint is '{self.path(self.steps[-1])}'."


def split_checkpoint(path: str) -> tuple[str, int] | None:
    """Split `RUN/checkpoints/STEP` into the run's folder and the step, or return `None` for any other path."""
    folder, name = os.path.split(path.rstrip("/"))
    if not name.isdigit() or os.path.basename(folder) != "checkpoints":
        return None
    return os.path.dirname(folder) or ".", int(name)


def moment_name(optimizer: str, path: str, slot: str) -> str:
    """The name in a checkpoint of a moment, such as `adam_m`, that an optimizer keeps of the variable of a path."""
    # Keras names a moment after the path of its variable.
    return f"optimizer/{optimizer}/{path.replace('/', '_')}_{slot}"


def variables_by_name(model: keras.Model) -> dict[str, Any]:
    """Every variable that training changes, under a name that is the same in each process."""
    # Keras numbers random generators and metrics in the order in which they were made, in the whole process.
    generators = [variable for variable in model.variables if variable.name == "seed_generator_state"]
    others = [variable for variable in model.variables if variable.name != "seed_generator_state"]
    optimizer = model.optimizer.variables if model.compiled and model.optimizer else []
    return {
        **{f"model/{variable.path}": variable for variable in others},
        **{f"seed/{number}": variable for number, variable in enumerate(generators)},
        **{f"optimizer/{variable.path}": variable for variable in optimizer},
        **{f"metric/{number}": variable for number, variable in enumerate(model.metrics_variables)},
    }


def check_values(variables: Mapping[str, Any], values: Mapping[str, np.ndarray], *, place: str) -> None:
    """Check that the values of a checkpoint, whose path is `place`, have the names and shapes of variables."""
    for name, variable in variables.items():
        if name not in values:
            raise InputError(f"The checkpoint is of another model. Received: {place!r} without {name}. {_GO_BACK}")
        if values[name].shape != tuple(variable.shape):
            raise InputError(
                f"The checkpoint is of another model. Received: {name} of shape {values[name].shape} in "
                f"{place!r}, {tuple(variable.shape)} in the model. {_GO_BACK}"
            )


def assign_values(variables: Mapping[str, Any], values: Mapping[str, np.ndarray], *, place: str) -> None:
    """Assign to each variable its value in a checkpoint, after `check_values`."""
    check_values(variables, values, place=place)
    for name, variable in variables.items():
        variable.assign(values[name])
