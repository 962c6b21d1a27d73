"""The public callbacks, with plain `fit()` and models of Keras's and ours."""

import keras
import numpy as np
import pytest

from tests.support.base import EAGERLY
from tests.support.interruptions import At, PowerCutError, cut_power
from tibert_keras import LAMB, WarmupPolynomialDecay
from tibert_keras.callbacks import BestLoss, SaveCheckpoints
from tibert_keras.errors import InputError
from tibert_keras.runs.history import History

STEPS = 7  # of an epoch


def make_model() -> keras.Model:
    """A model with dropout, whose losses go up and down."""
    keras.utils.set_random_seed(3)
    hidden, head = keras.layers.Dense(8, "relu", name="hidden"), keras.layers.Dense(1, name="head")
    model = keras.Sequential([keras.Input((4,)), hidden, keras.layers.Dropout(0.5), head], name="some_model")
    model.compile(LAMB(WarmupPolynomialDecay(0.1, 30, 3)), loss="mse", metrics=["mae"], **EAGERLY)
    return model


def batches(start_step: int = 0):
    """An endless dataset that is another in each step."""
    while True:
        random = np.random.default_rng(start_step)
        yield random.normal(size=(6, 4)), random.normal(size=(6, 1))
        start_step += 1


def fit(model: keras.Model, callbacks: list, *, epochs: int = 3, start_step: int = 0, **options) -> None:
    model.fit(
        batches(start_step), steps_per_epoch=STEPS, epochs=epochs, callbacks=callbacks, verbose=0, shuffle=False,
        **options,
    )  # fmt: skip


class BatchLosses(keras.callbacks.Callback):
    """The loss of each batch by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.losses: list[float] = []

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        total = float(logs["loss"]) * (batch + 1)
        self.losses.append(total - sum(self.losses[len(self.losses) - batch :]))


class TestBestLoss:
    @pytest.mark.parametrize(("window", "windows"), [(5, [5, 10, 15, 20]), (7, [7, 14, 21]), (8, [8, 16])])
    def test_windows_are_of_steps_over_epochs(self, tmp_path, window, windows):
        noted, best = BatchLosses(), BestLoss(tmp_path, window=window)
        fit(make_model(), [noted, best])
        means = [np.mean(noted.losses[step - window : step]) for step in windows]
        rows = History(tmp_path).rows
        assert [row["step"] for row in rows] == windows
        np.testing.assert_allclose([row["loss"] for row in rows], means, rtol=1e-5)
        assert best.best_step == windows[int(np.argmin(means))]
        assert best.best == pytest.approx(min(means))

    def test_an_epoch_is_a_window_with_all_its_values(self, tmp_path):
        best = BestLoss(tmp_path, monitor="val_mae", mode="min")
        model = make_model()
        fit(model, [best], validation_data=next(batches(99)))
        rows = History(tmp_path).rows
        assert [row["step"] for row in rows] == [7, 14, 21]
        assert rows[0].keys() == {"step", "loss", "mae", "val_loss", "val_mae"}
        assert best.best == min(row["val_mae"] for row in rows)
        assert [history["val_mae"] for history in rows] == model.history.history["val_mae"]

    def test_a_restart_remembers(self, tmp_path):
        (tmp_path / "history.csv").write_text("step,loss,f1\n7,0.001,0.5\n14,nan,0.7\n")
        found = []

        class Noted(BestLoss):
            def on_new_best(self):
                found.append((self.best_step, History(self.run_dir).rows[-1]["step"]))

        best = Noted(tmp_path)
        assert (best.best, best.best_step) == (0.001, 7)
        assert BestLoss(tmp_path, monitor="f1").best == 0.7
        best.record(21, {"loss": 0.01})
        best.record(28, {"loss": float("nan")})
        assert (best.best_step, found) == (7, [])
        best.record(35, {"loss": 0.0001})
        # Of a process that is killed in `on_new_best`, the row is not there yet.
        assert (best.best_step, found) == (35, [(35, 28)])
        best.record(35, {"val_mae": 1.0})
        assert len(found) == 1
        assert History(tmp_path).rows[-1] == {"step": 35, "loss": 0.0001, "val_mae": 1.0}

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"window": 0}, "one step or more. Received: window=0"),
            ({"monitor": "mae"}, "whether high or low values are better. Received: monitor='mae', mode='auto'"),
            ({"monitor": "no_loss"}, "no such value. Received: monitor='no_loss'. Give one of loss, mae"),
        ],
    )
    def test_refusals(self, tmp_path, options, message):
        with pytest.raises(InputError, match=message):
            fit(make_model(), [BestLoss(tmp_path, **options)], epochs=1)


@pytest.fixture(scope="module")
def never_stopped(tmp_path_factory):
    folder, model = tmp_path_factory.mktemp("whole"), make_model()
    fit(model, [BestLoss(folder, window=5), SaveCheckpoints(folder)], epochs=4)
    return folder, model


class TestSaveCheckpoints:
    @pytest.mark.parametrize("steps", [10, 14])
    def test_a_killed_training_goes_on_to_the_same_end(self, tmp_path, never_stopped, steps):
        """In the middle of an epoch, and before its checkpoint; the windows after it are forgotten."""
        checkpoints = SaveCheckpoints(tmp_path)
        with pytest.raises(PowerCutError):
            fit(make_model(), [BestLoss(tmp_path, window=5), At(steps, cut_power), checkpoints], epochs=4)
        assert [row["step"] for row in History(tmp_path).rows] == [5, 10]
        checkpoints.on_train_end()
        again = SaveCheckpoints(tmp_path)
        assert again.step == 7
        model, best = make_model(), BestLoss(tmp_path, window=7)
        model.layers[0].kernel.assign(model.layers[0].kernel + 1)
        fit(model, [best, again], epochs=4, start_step=again.step)
        folder, other = never_stopped
        for ours, theirs in zip(
            [*model.weights, *model.optimizer.variables], [*other.weights, *other.optimizer.variables], strict=True
        ):
            np.testing.assert_array_equal(*map(keras.ops.convert_to_numpy, (ours, theirs)), err_msg=ours.path)
        assert [row["step"] for row in History(tmp_path).rows] == [5, 14, 21, 28]
        # Nothing is left to do.
        fit(model, [SaveCheckpoints(tmp_path)], epochs=4)
        assert int(model.optimizer.iterations) == 28

    def test_keeps_the_last_and_the_best(self, tmp_path, never_stopped):
        folder, _ = never_stopped
        (tmp_path / "history.csv").write_text("step,loss\n7,0.0\n")
        checkpoints = SaveCheckpoints(tmp_path, keep=2)
        fit(make_model(), [checkpoints], epochs=4)
        assert checkpoints.run.checkpoints.steps == [7, 21, 28]
        assert SaveCheckpoints(folder).run.checkpoints.steps == [7, 14, 21, 28]

    def test_refusals(self, tmp_path, never_stopped):
        with pytest.raises(InputError, match="one checkpoint must be kept. Received: keep=0"):
            SaveCheckpoints(tmp_path, keep=0)
        other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        other.compile(LAMB(0.1), loss="mse")
        with pytest.raises(InputError, match="The checkpoint is of another model"):
            fit(other, [SaveCheckpoints(never_stopped[0])])


def test_the_module_tells_its_names():
    import tibert_keras

    assert set(tibert_keras.callbacks.__all__) <= set(dir(tibert_keras.callbacks))
    with pytest.raises(AttributeError, match="no attribute 'ModelCheckpoint'"):
        tibert_keras.callbacks.ModelCheckpoint  # noqa: B018
