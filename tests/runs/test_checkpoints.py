"""Checkpoints and the history between them, on a small model: whole or not there, and what is kept."""

import io
from pathlib import Path

import keras
import numpy as np
import pytest

from tests.support.base import TestCase
from tibert_keras.errors import InputError
from tibert_keras.optimizers.lamb import LAMB
from tibert_keras.optimizers.schedules import WarmupPolynomialDecay
from tibert_keras.runs.checkpoints import STATE_FILE, VARIABLES_FILE, Checkpoints
from tibert_keras.runs.history import History

X, Y = np.random.default_rng(0).normal(size=(2, 8, 4)).astype("float32")


def make_model(*, units: int = 4) -> keras.Model:
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dropout(0.5), keras.layers.Dense(units, name="dense")], name="model"
    )
    model.compile(LAMB(WarmupPolynomialDecay(0.1, decay_steps=100, warmup_steps=2)), loss="mse", jit_compile=False)
    return model


def train(model: keras.Model, steps: int) -> None:
    for _ in range(steps):
        model.train_on_batch(X, Y)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class TestCheckpoints(TestCase):
    def test_training_goes_on_as_if_it_had_not_been_stopped(self, tmp_path):
        model, checkpoints = make_model(), Checkpoints(tmp_path)
        train(model, 3)
        checkpoints.save(model, 3, state={"num_examples": 8}, best_steps={3})
        # What is saved was copied: training goes on at once.
        train(model, 2)
        checkpoints.wait()

        copy = make_model()
        checkpoints.restore(copy, 3)
        assert checkpoints.state(3)["num_examples"] == 8
        assert int(copy.optimizer.iterations) == 3
        train(copy, 2)
        # The slots and the random state of dropout too: all of it is the same to the bit.
        self.assert_close(copy.get_weights(), model.get_weights(), atol=0)
        self.assert_close(
            [v.value for v in copy.optimizer.variables], [v.value for v in model.optimizer.variables], atol=0
        )

    def test_the_last_ones_and_the_best_ones_are_kept(self, tmp_path):
        model, checkpoints = make_model(), Checkpoints(tmp_path, keep=2)
        for step, best in [(9, {9}), (10, {10}), (11, {10}), (12, {10, 11}), (100, {10, 11})]:
            checkpoints.save(model, step, state={}, best_steps=best)
        checkpoints.wait()
        assert checkpoints.steps == [10, 11, 12, 100]
        checkpoints.save(model, 101, state={}, best_steps={101})
        checkpoints.close()
        assert checkpoints.steps == [100, 101]
        assert Checkpoints(tmp_path / "none").steps == []

    def test_a_failure_midway_leaves_nothing(self, tmp_path, monkeypatch):
        model, checkpoints = make_model(), Checkpoints(tmp_path)
        checkpoints.save(model, 1, state={}, best_steps={1})
        checkpoints.wait()

        def fail(file, **_) -> None:
            file.write(b"half")
            raise OSError("No space left on device")

        monkeypatch.setattr(np, "savez", fail)
        checkpoints.save(model, 2, state={}, best_steps={2})
        with pytest.raises(OSError, match="No space left"):
            checkpoints.save(model, 3, state={}, best_steps={3})
        assert names(tmp_path / "checkpoints") == ["1"]

    def test_a_folder_that_is_not_whole_is_no_checkpoint(self, tmp_path):
        # A remote folder fills up file by file, and the state comes last.
        checkpoints = Checkpoints(tmp_path)
        checkpoints.save(make_model(), 1, state={}, best_steps={1})
        checkpoints.wait()
        (tmp_path / "checkpoints/2").mkdir()
        (tmp_path / "checkpoints/2" / VARIABLES_FILE).write_bytes(b"half")
        assert checkpoints.steps == [1]

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_weights_that_are_not_finite(self, tmp_path, value):
        model, checkpoints = make_model(), Checkpoints(tmp_path)
        with pytest.raises(InputError, match="There is no checkpoint before it"):
            model.layers[-1].bias.assign([0, value, 0, 0])
            checkpoints.save(model, 1, state={}, best_steps={1})
        assert not (tmp_path / "checkpoints").exists()
        model.layers[-1].bias.assign([0, 1, 0, 0])
        checkpoints.save(model, 1, state={}, best_steps={1})
        checkpoints.wait()
        model.layers[-1].bias.assign([0, value, 0, 0])
        with pytest.raises(InputError, match=r"step 2\. Received: .*dense.*bias\. The last good checkpoint is '.*/1'"):
            checkpoints.save(model, 2, state={}, best_steps={2})
        assert checkpoints.steps == [1]

    @pytest.mark.parametrize("file", [VARIABLES_FILE, STATE_FILE])
    @pytest.mark.parametrize("damage", ["cut", "empty", "other"])
    def test_damage(self, tmp_path, file, damage):
        checkpoints = Checkpoints(tmp_path)
        checkpoints.save(make_model(), 7, state={}, best_steps={7})
        checkpoints.wait()
        path = tmp_path / "checkpoints/7" / file
        content = path.read_bytes()
        path.write_bytes({"cut": content[: len(content) // 2], "empty": b"", "other": b"\xff" * 100}[damage])
        with pytest.raises(InputError, match="checkpoint cannot be loaded|Not the state of a checkpoint") as caught:
            checkpoints.restore(make_model(), 7)
        assert f"Received: {str(path)!r}" in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_another_model(self, tmp_path):
        checkpoints = Checkpoints(tmp_path)
        checkpoints.save(make_model(), 7, state={}, best_steps={7})
        checkpoints.wait()
        with pytest.raises(InputError, match="The checkpoint is of another model. Received: "):
            checkpoints.restore(make_model(units=3), 7)

    def test_what_was_written_is_read_back(self, tmp_path, monkeypatch):
        """A checkpoint that the disk has spoilt takes no older one with it."""
        model, checkpoints = make_model(), Checkpoints(tmp_path, keep=1)
        checkpoints.save(model, 1, state={}, best_steps={1})
        checkpoints.wait()
        check = Checkpoints.check

        def spoil(self, step):
            (tmp_path / "checkpoints" / str(step) / VARIABLES_FILE).write_bytes(b"")
            check(self, step)

        monkeypatch.setattr(Checkpoints, "check", spoil)
        checkpoints.save(model, 2, state={}, best_steps={2})
        with pytest.raises(InputError, match="checkpoint cannot be loaded"):
            checkpoints.wait()
        monkeypatch.undo()
        assert checkpoints.steps == [1, 2]
        assert checkpoints.last_whole() == 1

    def test_a_byte_that_is_spoilt_on_its_way_to_the_disk(self, tmp_path, monkeypatch):
        model, checkpoints = make_model(), Checkpoints(tmp_path, keep=1)
        checkpoints.save(model, 1, state={}, best_steps={1})
        checkpoints.wait()
        open_it = Path.open

        class Spoiling(io.FileIO):
            def write(self, block) -> int:
                # The values of a variable: where the sizes of the parts stand the file could not be read at all.
                return super().write(bytes([block[0] ^ 1]) + block[1:] if len(block) == 16 else block)

        def open_to_spoil(path, mode="r", *args, **options):
            to_spoil = path.name == VARIABLES_FILE and mode == "wb"
            return Spoiling(path, "w") if to_spoil else open_it(path, mode, *args, **options)

        monkeypatch.setattr(Path, "open", open_to_spoil)
        checkpoints.save(model, 2, state={}, best_steps={2})
        with pytest.raises(InputError, match="its size or hash is not the one that was written.*checkpoints/2"):
            checkpoints.wait()
        assert checkpoints.last_whole() == 1


class TestHistory:
    def test_round_trip(self, tmp_path):
        history = History(tmp_path)
        assert history.rows == []
        history.append({"step": 5, "loss": 0.1 + 0.2})
        history.append({"step": 10, "loss": 1e-30, "val_loss": 2.5})  # validation was added
        assert History(tmp_path).rows == [{"step": 5, "loss": 0.1 + 0.2}, {"step": 10, "loss": 1e-30, "val_loss": 2.5}]
        assert names(tmp_path) == ["history.csv"]

    def test_rows_that_no_checkpoint_has_kept_are_forgotten(self, tmp_path):
        history = History(tmp_path)
        for step in (5, 10, 15):
            history.append({"step": step, "loss": 20.0 - step})
        history = History(tmp_path)
        history.forget_after(10)
        history.append({"step": 15, "loss": 1.0})
        assert [(row["step"], row["loss"]) for row in History(tmp_path).rows] == [(5, 15.0), (10, 10.0), (15, 1.0)]

    def test_the_best_survives_a_restart(self, tmp_path):
        history = History(tmp_path)
        for step, loss, val_loss in [(5, 3.0, 1.0), (10, 2.0, 4.0), (15, 2.0, 0.5), (20, 2.5, 0.5)]:
            history.append({"step": step, "loss": loss, "val_loss": val_loss})
        for same in (history, History(tmp_path)):
            assert same.best("loss")["step"] == 10  # the earliest of two
            assert same.best("val_loss")["step"] == 15
        history.append({"step": 25, "loss": 1.5})
        assert history.best("loss")["step"] == 25
        assert history.best("val_loss")["step"] == 15
