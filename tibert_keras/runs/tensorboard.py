"""TensorBoard's files: figures over the steps of a run, without TensorFlow."""

import io
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path

from tibert_keras.records.serialization import write_records
from tibert_keras.storage import explaining_tensorflow, is_remote, join


class ScalarWriter:
    """Writes figures that TensorBoard shows as curves, to a file of its own in a local or remote folder."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        # TensorBoard reads the files of a folder in the order of their names.
        self._path = join(folder, f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}")
        self._is_new = True

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        now = time.time()
        values = [Summary.Value(tag=name, simple_value=float(value)) for name, value in figures.items()]
        events = [Event(wall_time=now, step=step, summary=Summary(value=values))]
        if self._is_new:
            events.insert(0, Event(wall_time=now, file_version="brain.Event:2"))
        content = io.BytesIO()
        write_records(content, (event.SerializeToString() for event in events))
        self._append(content.getvalue())
        self._is_new = False

    def _append(self, content: bytes) -> None:
        if is_remote(self._path):
            with explaining_tensorflow(self._path) as gfile:
                gfile.makedirs(self._path.rpartition("/")[0])
                with gfile.GFile(self._path, "ab") as file:
                    file.write(content)
            return
        try:
            Path(self._path).parent.mkdir(parents=True, exist_ok=True)
            with Path(self._path).open("ab") as file:
                file.write(content)
        except OSError as error:
            # A full disk is reported without the name of a file.
            raise OSError(error.errno, error.strerror, self._path) from error
