"""Files for TensorBoard; tests/training/test_pretrain.py reads those of a run with TensorBoard itself."""

import math

import pytest
from tensorboard.compat.proto.event_pb2 import Event

from tibert_keras.records.serialization import read_records
from tibert_keras.runs.tensorboard import ScalarWriter

pytestmark = pytest.mark.any_backend


def events(path):
    return [Event.FromString(record) for record in read_records(path)]


def test_a_file_of_each_writer(tmp_path):
    for first in (3, 7):
        writer = ScalarWriter(tmp_path / "logs")
        for step in (first, first + 1):
            writer.write(step, {"loss": step / 4, "worst": math.inf})
    files = sorted((tmp_path / "logs").iterdir())
    assert len(files) == 2 and all(file.name.startswith("events.out.tfevents.") for file in files)
    for file, first in zip(files, (3, 7), strict=True):
        head, *rest = events(file)
        assert head.file_version == "brain.Event:2"
        found = [(event.step, {value.tag: value.simple_value for value in event.summary.value}) for event in rest]
        assert found == [(step, {"loss": step / 4, "worst": math.inf}) for step in (first, first + 1)]
        assert head.wall_time <= rest[0].wall_time <= rest[1].wall_time


def test_a_failure_names_the_file(tmp_path):
    (tmp_path / "logs").write_text("a file")
    with pytest.raises(OSError, match="exists") as caught:
        ScalarWriter(tmp_path / "logs").write(1, {"loss": 1.0})
    assert caught.value.filename.startswith(f"{tmp_path}/logs/events.out.tfevents.")
