"""A loss that goes wrong in a whole run: the way back, and when there is none."""

import logging

import keras
import numpy as np
import pytest

from tests.support.interruptions import At, PowerCutError, cut_power, poison
from tibert_keras.errors import DivergedError
from tibert_keras.records.pipeline import Records
from tibert_keras.runs.checkpoints import VARIABLES_FILE, Checkpoints
from tibert_keras.runs.history import History
from tibert_keras.training.pretrain import pretrain


class Always(keras.callbacks.Callback):
    """Poisons the model each time it is past a step."""

    def __init__(self, step):
        super().__init__()
        self.step, self.times = step, 0

    def on_train_batch_end(self, batch, logs=None):
        if self.model.optimizer.iterations == self.step:
            self.times += 1
            poison(self.model)


def begins(monkeypatch):
    """Notes which batches `fit()` is given, from which on."""
    steps, training_batches = [], Records.training_batches

    def note(self, *args, start_step=0, **options):
        steps.append(start_step)
        return training_batches(self, *args, start_step=start_step, **options)

    monkeypatch.setattr(Records, "training_batches", note)
    return steps


@pytest.fixture(scope="module")
def rolled_back(run_config, tmp_path_factory):
    """A run whose loss is NaN at step 8: back to 5, and past the batches of steps 5 to 10."""
    run = tmp_path_factory.mktemp("rolled_back") / "run"
    with pytest.MonkeyPatch.context() as patch:
        steps = begins(patch)
        pretrain(run_config(run, on_divergence="rollback"), callbacks=[At(7, poison)])
    assert steps == [0, 10]
    return run


def state(run):
    with np.load(f"{run}/checkpoints/22/{VARIABLES_FILE}") as file:
        return dict(file)


class TestRollback:
    def test_the_window_is_skipped(self, rolled_back):
        assert [row["step"] for row in History(rolled_back).rows] == [5, 10, 15, 20, 22]
        checkpoints = Checkpoints(rolled_back)
        assert [checkpoints.state(step)["skipped_batches"] for step in checkpoints.steps] == [0, 5, 5, 5, 5]
        assert all(np.isfinite(value).all() for value in state(rolled_back).values())

    @pytest.mark.any_backend
    def test_at_the_end_of_a_window(self, run_config, tmp_path, monkeypatch):
        """The last update leaves a weight NaN, before any loss is; at 22 Keras was told to stop already."""
        steps = begins(monkeypatch)
        config = run_config(tmp_path / "run", on_divergence="rollback")
        # At steps 10 and 22, which is 17 steps after the 5 that are gone back to.
        pretrain(config, callbacks=[At(10, poison), At(27, poison)])
        assert steps == [0, 10, 27]
        assert [row["step"] for row in History(config.output_dir).rows] == [5, 10, 15, 20, 22]
        assert Checkpoints(config.output_dir).steps == [5, 10, 15, 20, 22]

    @pytest.mark.any_backend
    def test_and_stays_skipped_when_the_run_is_killed(self, rolled_back, run_config, tmp_path, monkeypatch):
        steps, killed = begins(monkeypatch), run_config(tmp_path / "killed", on_divergence="rollback")
        with pytest.raises(PowerCutError):
            # Eight steps, five of them kept, one more before the loss is read, and ten from there.
            pretrain(killed, callbacks=[At(7, poison), At(19, cut_power)])
        pretrain(killed)
        assert steps == [0, 10, 20]
        ours, theirs = state(killed.output_dir), state(rolled_back)
        for name, value in theirs.items():
            np.testing.assert_array_equal(ours[name], value, err_msg=name)

    @pytest.mark.any_backend
    def test_not_forever(self, run_config, tmp_path, caplog):
        caplog.set_level(logging.WARNING, "tibert_keras")
        always = Always(7)
        with pytest.raises(
            DivergedError, match="not finite at step 8. Received: nan. The last good checkpoint is '.*/5'. Lower"
        ):
            pretrain(run_config(tmp_path / "run", on_divergence="rollback"), callbacks=[always])
        said = "The loss diverged at step 8. Rolling back to 5 and skipping 5 batches."
        assert always.times == 4 and caplog.text.count(said) == 3

    @pytest.mark.any_backend
    def test_nothing_to_go_back_to(self, run_config, tmp_path):
        with pytest.raises(DivergedError, match="not finite at step 3. .* There is no checkpoint before it. Lower the"):
            pretrain(run_config(tmp_path / "run", on_divergence="rollback"), callbacks=[At(2, poison)])


@pytest.mark.any_backend
def test_a_rise_stops_the_run(run_config, tmp_path):
    """At a far too high rate."""
    config = run_config(tmp_path / "run", learning_rate=3.0, divergence_factor=1.0, num_warmup_steps=0)
    with pytest.raises(
        DivergedError, match=r"has risen above .* at step \d+. .*/checkpoints/\d+'. Go on without these"
    ):
        pretrain(config)
    rows = History(config.output_dir).rows
    assert Checkpoints(config.output_dir).steps == [row["step"] for row in rows] != []
