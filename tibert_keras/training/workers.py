"""Several hosts that train together: what `TF_CONFIG` says of them, and how they stay at the same step."""

from __future__ import annotations

import itertools
import json
import os
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from tibert_keras.errors import InputError

_FORM = '{"cluster": {"worker": ["HOST:PORT", "HOST:PORT"]}, "task": {"type": "worker", "index": 0}}'


def this_worker() -> tuple[int, int]:
    """The number of this worker, the chief's being 0, and how many there are, as `TF_CONFIG` in the environment says.

    Raises:
        InputError: If it does not describe a cluster of workers and this one's place in it.
    """
    text = os.environ.get("TF_CONFIG", "")
    if not text.strip():
        return 0, 1
    try:
        return _place(json.loads(text))
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(f"TF_CONFIG is wrong: {error}. Received: TF_CONFIG={text!r}. Give {_FORM}.") from error


def _place(config: dict[str, Any]) -> tuple[int, int]:
    cluster, task = dict(config.get("cluster", {})), dict(config.get("task", {}))
    if not cluster:
        return 0, 1
    if others := cluster.keys() - {"chief", "worker"}:
        raise ValueError(f"a cluster has a chief and workers, and no {min(others)}")
    for address in itertools.chain(*cluster.values()):
        if not str(address).rpartition(":")[2].isdigit():
            raise ValueError(f"{address!r} is not HOST:PORT")
    kind, index = str(task.get("type")), task.get("index", -1)
    first = len(cluster.get("chief", [])) if kind == "worker" else 0
    if index not in range(len(cluster.get(kind, []))):
        raise ValueError(f"the task, {kind!r} number {index!r}, is not in the cluster")
    return first + index, sum(map(len, cluster.values()))


def is_chief() -> bool:
    """Whether this process writes the files of a run: it is alone, or the first of several workers."""
    return this_worker()[0] == 0


@cache
def multi_worker_strategy() -> Any:
    """Connect with the other workers, and wait until all are there; once a process.

    Returns:
        A `tf.distribute.MultiWorkerMirroredStrategy` that Keras can train under.

    Raises:
        InputError: If TensorFlow is in use already, or the workers do not come together.
    """
    import tensorflow as tf

    class MultiWorkerMirroredStrategy(tf.distribute.MultiWorkerMirroredStrategy):
        def reduce(self, reduce_op: Any, value: Any, axis: int | None = None) -> Any:
            # Keras 3 asks for two means that TensorFlow refuses: of a whole batch, of which it wants the shapes to
            # build the model, and of scalars along axis 0, for the log of a step.
            if tf.nest.is_nested(value):
                return tf.nest.map_structure(lambda part: self.experimental_local_results(part)[0], value)
            scalar = self.experimental_local_results(value)[0].shape.rank == 0
            return super().reduce(reduce_op, value, axis=None if scalar else axis)

    try:
        with naming_lost_workers():
            return MultiWorkerMirroredStrategy()
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"The workers cannot be connected: {_line(error)} Received: TF_CONFIG={os.environ['TF_CONFIG']!r}. "
            "Train before anything else runs on TensorFlow in this process."
        ) from error


def any_worker(strategy: Any, flag: bool) -> bool:
    """Whether the flag is set on any worker. All ask at the same point, and wait here for each other."""
    import tensorflow as tf

    with naming_lost_workers():
        return bool(strategy.reduce("SUM", tf.constant(float(flag)), axis=None) > 0)


@contextmanager
def naming_lost_workers() -> Iterator[None]:
    """Say in a line that the connection with another worker, or with a TPU elsewhere, is lost.

    Raises:
        InputError: In place of TensorFlow's error.
    """
    import tensorflow as tf

    try:
        yield
    except tf.errors.OpError as error:
        lost = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.DeadlineExceededError,
                tf.errors.CancelledError, tf.errors.UnknownError)  # fmt: skip
        cluster = os.environ.get("TF_CONFIG")
        if not isinstance(error, lost if cluster else tf.errors.UnavailableError):
            raise
        # Lets go what TensorFlow's frames hold, such as a pool of threads: if that goes only while Python ends, Python
        # prints "Exception ignored" after our line.
        traceback.clear_frames(error.__traceback__)
        raise InputError(
            f"{'Another worker' if cluster else 'The device'} cannot be reached: {_line(error)} "
            f"Received: TF_CONFIG={cluster!r}. See its log, and give the same command again, on every host."
        ) from error


def _line(error: Exception) -> str:
    """An error of TensorFlow in a line, without the node of the graph and what it was about to do."""
    text = re.sub(r"\{\{.*?\}\}|Collective ops is aborted by:", "", str(error))
    return " ".join(text.split())[:300].rstrip(".") + "."
