"""Training on several hosts: the workers in `TF_CONFIG`, and how they stay at the same step."""

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
from tibert_keras.lazy import tf

_FORM = '{"cluster": {"worker": ["HOST:PORT", "HOST:PORT"]}, "task": {"type": "worker", "index": 0}}'


def this_worker() -> tuple[int, int]:
    """Read from `TF_CONFIG` in the environment the number of this worker, 0 for the chief, and that of all workers."""
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
    """Whether this process writes the files of a run: it is the only worker, or the first of several."""
    return this_worker()[0] == 0


def refuse_workers(reason: str) -> None:
    """Raise `InputError` with the reason if `TF_CONFIG` names several workers."""
    if this_worker()[1] > 1:
        raise InputError(f"{reason}. Received: TF_CONFIG={os.environ['TF_CONFIG']!r}. Unset TF_CONFIG.")


@cache
def multi_worker_strategy() -> Any:
    """Make the `MultiWorkerMirroredStrategy` of this process, which waits until all workers are connected."""
    try:
        with reporting_lost_workers():
            return tf.distribute.MultiWorkerMirroredStrategy()
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"The workers cannot be connected: {_line(error)} Received: TF_CONFIG={os.environ['TF_CONFIG']!r}. "
            "Train before anything else runs on TensorFlow in this process."
        ) from error


@contextmanager
def reporting_lost_workers() -> Iterator[None]:
    """Report in one line that the connection with another worker, or with a remote TPU, is lost."""
    try:
        yield
    except tf.errors.OpError as error:
        lost = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.DeadlineExceededError,
                tf.errors.CancelledError, tf.errors.UnknownError)  # fmt: skip
        cluster = os.environ.get("TF_CONFIG")
        if not isinstance(error, lost if cluster else tf.errors.UnavailableError):
            raise
        # Releases what TensorFlow's frames hold. A pool of threads that lives until Python ends would make it print
        # "Exception ignored" after our line.
        traceback.clear_frames(error.__traceback__)
        raise InputError(
            f"{'Another worker' if cluster else 'The device'} cannot be reached: {_line(error)} "
            f"Received: TF_CONFIG={cluster!r}. See its log, and give the same command again, on every host."
        ) from error


def _line(error: Exception) -> str:
    """The message of a TensorFlow error in one line, without the node of the graph and its prefix."""
    text = re.sub(r"\{\{.*?\}\}|Collective ops is aborted by:", "", str(error))
    return " ".join(text.split())[:300].rstrip(".") + "."
