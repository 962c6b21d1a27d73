"""What happens at each step and each interval, with a model that does nothing."""

from types import SimpleNamespace

import keras
import pytest

from tibert_keras.errors import DivergedError
from tibert_keras.optimizers.lamb import LAMB
from tibert_keras.runs.checkpoints import Checkpoints
from tibert_keras.runs.history import History
from tibert_keras.runs.run import Run
from tibert_keras.training.config import PretrainConfig
from tibert_keras.training.run_callbacks import CheckpointEachInterval, RecordEachWindow, StepProgress
from tibert_keras.training.strategy import Strategy


def make_config(folder, **options) -> PretrainConfig:
    fixed = {"input_file": "", "preset": "tibert_nano", "num_train_steps": 10, "train_batch_size": 4}
    return PretrainConfig(output_dir=str(folder), **fixed, **{"save_checkpoints_steps": 2, **options})


def make_progress(folder, *, start_step=0, **options) -> StepProgress:
    run = Run(folder)
    run.state.step = start_step
    progress = StepProgress(run, make_config(folder, **options))
    progress.set_model(SimpleNamespace(stop_training=False))
    progress.on_epoch_begin(0)
    return progress


class TestStepProgress:
    def test_counts_steps_over_epochs_and_restarts(self, tmp_path):
        progress = make_progress(tmp_path, start_step=4)
        progress.on_train_batch_end(0, {"loss": 1.0})
        progress.on_train_batch_end(1, {"loss": 1.0})
        assert (progress.run.state.step, progress.model.stop_training) == (6, False)
        progress.on_epoch_begin(1)
        # Several steps in one execution: Keras names the last.
        progress.on_train_batch_end(3, {"loss": 1.0})
        assert (progress.run.state.step, progress.model.stop_training) == (10, True)

    @pytest.mark.parametrize("loss", [float("nan"), float("inf")])
    def test_a_loss_that_is_not_finite(self, tmp_path, loss):
        (tmp_path / "checkpoints/4").mkdir(parents=True)
        (tmp_path / "checkpoints/4/state.json").write_text("{}")
        progress = make_progress(tmp_path, start_step=4)
        progress.on_train_batch_end(0, {"loss": 1.0})
        with pytest.raises(DivergedError, match=rf"at step 6\. Received: {loss}\. The last good checkpoint is '.*/4'"):
            progress.on_train_batch_end(1, {"loss": loss})

    def test_a_loss_is_read_when_the_next_step_has_been_given_out(self, tmp_path):
        read = []

        class Loss(float):
            def __float__(self):
                read.append(super().__float__())
                return read[-1]

        progress = make_progress(tmp_path, save_checkpoints_steps=3)
        after = []
        for batch, loss in enumerate([4, 3, 2]):
            progress.on_train_batch_end(batch, {"loss": Loss(loss)})
            after.append(read.copy())
        # That of the last step of a window at once, before a checkpoint is written.
        assert after == [[], [4], [4, 3, 2]]
        progress.on_epoch_begin(1)
        progress.on_train_batch_end(0, {"loss": Loss("nan")})
        with pytest.raises(DivergedError, match="at step 4") as caught:
            progress.on_train_batch_end(1, {"loss": Loss("nan")})
        assert caught.value.step == 4
        # After a rollback only what follows counts.
        progress.on_epoch_begin(1)
        progress.on_train_batch_end(0, {"loss": 1.0})


class TestWindows:
    def run(self, folder, losses, *, validated=False, factor=4.0):
        """Run windows of two steps with these losses, and return what was saved."""
        saved = []

        class Noted(Checkpoints):
            def save(self, model, step, *, state, best_steps):
                assert state.pop("seconds") > 0
                saved.append((step, state, best_steps, [row["step"] for row in History(folder).rows]))

        progress = make_progress(folder)
        progress.run.checkpoints = Noted(folder)
        progress.run.state.num_examples = 7
        config = make_config(folder, divergence_factor=factor)
        recording = RecordEachWindow(progress.run, config)
        saving = CheckpointEachInterval(progress.run, config, strategy=Strategy(), told_to_stop=lambda: False)
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        model.optimizer = LAMB(0.5)
        model.optimizer.build(model.trainable_variables)
        model.stop_training = False
        callbacks = keras.callbacks.CallbackList([progress, recording, saving], model=model)
        callbacks.on_train_begin()
        for epoch, loss in enumerate(losses):
            callbacks.on_epoch_begin(epoch)
            for batch in range(2):
                callbacks.on_train_batch_end(batch, {"loss": loss})
            callbacks.on_epoch_end(epoch, {"loss": loss, **({"val_loss": 2 / loss} if validated else {})})
        return saved

    @pytest.mark.parametrize("validated, best", [(False, [{2}, {4}, {4}]), (True, [{2}, {2, 4}, {4, 6}])])
    def test_a_row_is_written_before_its_checkpoint_and_names_the_best_ones(self, tmp_path, validated, best):
        saved = self.run(tmp_path, [2.0, 1.0, 3.0], validated=validated)
        state = {"num_examples": 7, "skipped_batches": 0, "epochs": 0}
        states = [{"step": step + 2, "first_step": step, **state} for step in (0, 2, 4)]
        assert saved == list(zip([2, 4, 6], states, best, [[2], [2, 4], [2, 4, 6]], strict=True))
        row = History(tmp_path).rows[-1]
        assert (row["loss"], row.get("val_loss"), row["learning_rate"]) == (3.0, 2 / 3 if validated else None, 0.5)
        assert row["examples_per_second"] > 0

    def test_a_loss_that_has_risen_far(self, tmp_path):
        """Above twice the lowest, not the last; twice as much is none too much."""
        message = r"has risen above 2 at step 10\. Received: 2\.01\. There is no"
        with pytest.raises(DivergedError, match=message) as caught:
            self.run(tmp_path, [3.0, 1.0, 2.0, 1.5, 2.01], factor=2.0)
        assert caught.value.step == 10
        assert [row["step"] for row in History(tmp_path).rows] == [2, 4, 6, 8]
