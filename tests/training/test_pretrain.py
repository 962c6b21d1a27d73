"""Whole runs: their files, that a stopped one ends like one that was not, and what is refused."""

import json
import logging
import os
import shutil
import signal
from pathlib import Path

import keras
import numpy as np
import pytest
import yaml

from tests.support.base import ON_JAX
from tests.support.damage import set_value
from tests.support.interruptions import At, PowerCutError, cut_power
from tests.support.tiny_models import small_config
from tibert_keras import TibertMaskedLM
from tibert_keras.errors import InputError, RunInterrupted
from tibert_keras.records.build import build_records
from tibert_keras.records.config import RecordsConfig
from tibert_keras.runs.checkpoints import VARIABLES_FILE, Checkpoints
from tibert_keras.runs.folder import find_preset
from tibert_keras.runs.history import History
from tibert_keras.training.pretrain import pretrain


def saved(run: Path | str, step: int) -> dict[str, np.ndarray]:
    """All that a checkpoint holds: weights, slots, iterations, and the states of random generators and metrics."""
    with np.load(Path(run) / "checkpoints" / str(step) / VARIABLES_FILE) as file:
        return dict(file)


def assert_same(run: Path | str, other: Path | str, step: int = 22) -> None:
    ours, theirs = saved(run, step), saved(other, step)
    assert ours.keys() == theirs.keys() and len(ours) > 60
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
    names = {"step", "loss", "masked_lm_accuracy", "learning_rate", "val_loss"}
    rows, others = ([{n: row[n] for n in names & row.keys()} for row in History(r).rows] for r in (run, other))
    assert rows == others


def events(run: Path) -> dict[str, dict[int, float]]:
    """The scalars of TensorBoard's files, as TensorBoard itself reads them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(run / "logs"))
    accumulator.Reload()
    tags = accumulator.Tags()["scalars"]
    return {tag: {event.step: event.value for event in accumulator.Scalars(tag)} for tag in tags}


class TestFiles:
    def test_layout(self, finished_run):
        names = {path.name for path in finished_run.iterdir()}
        assert names == {
            "config.yaml", "environment.json", "checkpoints", "history.csv", "logs", "initial", "champion",
            "champion.json",
        }  # fmt: skip
        assert Checkpoints(finished_run).steps == [5, 10, 15, 20, 22]
        config = yaml.safe_load((finished_run / "config.yaml").read_text())
        assert (config["num_train_steps"], config["optimizer"], config["seed"]) == (22, "lamb", 12345)

    def test_history(self, finished_run):
        rows = History(finished_run).rows
        assert [row["step"] for row in rows] == [5, 10, 15, 20, 22]
        assert rows[-1]["loss"] < rows[0]["loss"] and rows[-1]["val_loss"] < rows[0]["val_loss"]
        # Linear decay from 0.01 at step 0 to 0 at step 22, after a warm-up of 4 steps.
        np.testing.assert_allclose(
            [row["learning_rate"] for row in rows], 0.01 * (1 - np.array([5, 10, 15, 20, 22]) / 22), rtol=1e-6
        )
        assert all(row["examples_per_second"] > 0 for row in rows)

    def test_tensorboard(self, finished_run):
        scalars = events(finished_run)
        for name in ("loss", "val_loss", "masked_lm_accuracy", "learning_rate", "examples_per_second"):
            expected = {row["step"]: row[name] for row in History(finished_run).rows}
            assert scalars[name] == pytest.approx(expected)
        variables = saved(finished_run, 22)
        weights = [value for name, value in variables.items() if name.startswith("model/") and "pooled" not in name]
        assert scalars["weight_norm"][22] == pytest.approx(np.sqrt(sum(np.sum(value**2) for value in weights)))
        assert scalars["gradient_norm"][22] == pytest.approx(variables["optimizer/lamb/gradient_norm"])
        # The moments of the embeddings give their ratio as LAMB's formula does, with decay.
        w, m, v = (
            variables[name] for name in ("model/token_embedding/embeddings",
            "optimizer/lamb/token_embedding_embeddings_adam_m", "optimizer/lamb/token_embedding_embeddings_adam_v")
        )  # fmt: skip
        ratio = np.linalg.norm(w) / np.linalg.norm(m / (np.sqrt(v) + 1e-6) + 0.01 * w)
        lowest, median, highest = (scalars[f"trust_ratio/{name}"][22] for name in ("lowest", "median", "highest"))
        assert 0 < lowest <= median <= highest and lowest <= ratio * 1.001 and ratio <= highest * 1.001

    @pytest.mark.any_backend
    def test_the_champion_fills_masks(self, finished_run):
        champion = json.loads((finished_run / "champion.json").read_text())
        model = TibertMaskedLM.from_preset(champion["preset"])
        assert model.preprocessor.sequence_length == 32
        x, _, weights = model.preprocessor(["བཅོམ་ལྡན་འདས"])
        model.preprocessor = None
        assert model.predict(x, verbose=0).shape == (1, 5, 400) and np.max(weights) == 1

    @pytest.mark.any_backend
    def test_the_finished_run_again(self, finished_run, run_config, sample_records, tmp_path):
        run = tmp_path / "run"
        shutil.copytree(finished_run, run)
        shutil.rmtree(run / "champion")
        files = {path: path.stat().st_mtime_ns for name in ("checkpoints", "logs") for path in (run / name).rglob("*")}
        validation = f"{sample_records}/held_out/*.tf_record"
        champion = pretrain(run_config(run, validation_file=validation), callbacks=[At(1, cut_power)])
        assert TibertMaskedLM.from_preset(champion.preset)
        assert {path: path.stat().st_mtime_ns for path in files} == files
        assert {path for name in ("checkpoints", "logs") for path in (run / name).rglob("*")} == files.keys()


class TestStopped:
    """A run that was stopped and given again ends with the very bits of one that was not."""

    @pytest.mark.any_backend
    def test_told_to_end(self, finished_run, run_config, sample_records, tmp_path):
        """SIGTERM in the middle of a window and at its end: the averages over the window go on too.

        Of power cuts: `tests/training/test_kills.py`.
        """
        config = run_config(tmp_path, validation_file=f"{sample_records}/held_out/*.tf_record")
        handler = signal.getsignal(signal.SIGTERM)
        # The signal comes after the run's own callbacks have seen the step: they act on it after the next.
        for steps, at in ((3, 4), (1, 5)):
            with pytest.raises(RunInterrupted, match=f"Stopped at step {at}, .* Give the same command again"):
                pretrain(config, callbacks=[At(steps, lambda _: os.kill(os.getpid(), signal.SIGTERM))])
            assert Checkpoints(tmp_path).steps[-1] == at
        assert signal.getsignal(signal.SIGTERM) is handler
        pretrain(config)
        assert_same(tmp_path, finished_run)
        assert [row["step"] for row in History(tmp_path).rows] == [5, 10, 15, 20, 22]

    @pytest.mark.any_backend
    def test_a_damaged_checkpoint(self, finished_run, run_config, sample_records, tmp_path, caplog):
        """The run goes on from the one before, says so, and makes the damaged one again.

        It is of an older version, without its kind and without options that are newer.
        """
        shutil.copytree(finished_run, tmp_path / "run")
        written = tmp_path / "run/config.yaml"
        content = yaml.safe_load(written.read_text())
        assert (content.pop("kind"), content.pop("rematerialize"), content.pop("sop")) == ("pretrain", False, False)
        written.write_text(yaml.safe_dump(content))
        config = run_config(tmp_path / "run", validation_file=f"{sample_records}/held_out/*.tf_record")
        path = tmp_path / "run" / "checkpoints/22" / VARIABLES_FILE
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        caplog.set_level(logging.INFO, "tibert_keras")
        pretrain(config)
        assert_same(tmp_path / "run", finished_run)
        assert yaml.safe_load(written.read_text())["kind"] == "pretrain"
        messages = [record.getMessage() for record in caplog.records]
        assert any("22/variables.npz'. Falling back to the one before." in message for message in messages)
        assert "Going on from step 20." in messages
        for path in (tmp_path / "run" / "checkpoints").glob(f"*/{VARIABLES_FILE}"):
            path.write_bytes(b"")
        with pytest.raises(InputError, match="No checkpoint is whole"):
            pretrain(config)

    @pytest.mark.slow
    def test_with_everything_that_is_not_the_default(self, run_config, tmp_path):
        """Dropout and bfloat16; and, on TensorFlow, Muon, heads on the neighbours, and masks of each epoch."""
        config_file = small_config(tmp_path, dropout=0.1)
        others = {} if ON_JAX else {"optimizer": "muon", "neighbour_attention": True, "dynamic_masking": True}
        whole, stopped = (
            run_config(
                tmp_path / name, albert_config_file=config_file, mixed_precision="mixed_bfloat16",
                num_train_steps=6, num_warmup_steps=1, save_checkpoints_steps=2, keep_checkpoint_max=1, **others,
            )
            for name in ("whole", "stopped")
        )  # fmt: skip
        precisions = []
        pretrain(whole, callbacks=[At(1, lambda model: precisions.append(model.compute_dtype))])
        with pytest.raises(PowerCutError):
            pretrain(stopped, callbacks=[At(3, cut_power)])
        champion = pretrain(stopped)
        assert_same(stopped.output_dir, whole.output_dir, step=6)
        assert "seed/1" in saved(stopped.output_dir, 6)  # dropout is at work
        # One is kept, and the best.
        assert Checkpoints(stopped.output_dir).steps == sorted({6, champion.step})
        # What it computed in is the run's affair, not the champion's nor the process's.
        model = TibertMaskedLM.from_preset(champion.preset)
        assert (precisions, model.compute_dtype) == (["bfloat16"], "float32")
        assert (model.backbone.hidden_dim, keras.config.dtype_policy().name) == (16, "float32")
        begun = TibertMaskedLM.from_preset(f"{tmp_path}/whole/initial").backbone.position_embedding.weights[0]
        # Sinusoids in the first units, and nothing in the others.
        assert ON_JAX or (np.ptp(begun[:, 0]) > 0 and not np.any(begun[:, 2:]))


def losses_of_two_windows(run: Path) -> dict[int, float]:
    """The losses of a run of 22 steps, had it saved every 10 in place of 5."""
    losses = {row["step"]: row["loss"] for row in History(run).rows}
    return {10: (losses[5] + losses[10]) / 2, 20: (losses[15] + losses[20]) / 2, 22: losses[22]}


class TestHowItRuns:
    @pytest.mark.slow
    def test_changes_no_loss(self, finished_run, run_config, tmp_path):
        """Compiled with XLA, several steps in one call, in micro-batches, layers computed again: all at once."""
        options = {"jit_compile": "auto" if ON_JAX else True, "iterations_per_loop": 2, "save_checkpoints_steps": 10}
        pretrain(run_config(tmp_path, gradient_accumulation_steps=4, rematerialize=True, **options))
        losses = losses_of_two_windows(finished_run)
        assert {row["step"]: row["loss"] for row in History(tmp_path).rows} == pytest.approx(losses, abs=1e-4)

    @pytest.mark.slow
    @pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="tf.distribute is TensorFlow's")
    def test_many_steps_in_one_call_under_a_strategy(self, finished_run, run_config, tmp_path, monkeypatch):
        """Keras's loop over the batches of a strategy, as on a TPU."""
        import tensorflow as tf

        one_device = tf.distribute.OneDeviceStrategy("/cpu:0")
        monkeypatch.setattr("tibert_keras.training.strategy._tensorflow_strategy", lambda config: one_device)
        pretrain(run_config(tmp_path, iterations_per_loop=2, save_checkpoints_steps=10))
        # Another graph, so that the last bits may be others.
        together, apart = saved(tmp_path, 22), saved(finished_run, 22)
        assert together.keys() == apart.keys() and len(together) > 60
        for name, value in apart.items():
            if not name.startswith("metric/"):  # of the other run's validation
                np.testing.assert_allclose(together[name], value, rtol=1e-5, atol=1e-6, err_msg=name)
        losses = losses_of_two_windows(finished_run)
        assert {row["step"]: row["loss"] for row in History(tmp_path).rows} == pytest.approx(losses, abs=1e-4)

    @pytest.mark.any_backend
    def test_in_remote_storage(self, run_config, tmp_path):
        """On TensorFlow's in-memory file system, which stands for `gs://`."""
        config = run_config(
            "ram://tibert-pretrain/run/", albert_config_file=small_config(tmp_path),
            num_train_steps=4, save_checkpoints_steps=2,
        )  # fmt: skip
        champion = pretrain(config)
        assert pretrain(config) == champion
        assert champion.preset == "ram://tibert-pretrain/run/champion" == find_preset(config.output_dir)
        assert Checkpoints(config.output_dir).steps == [2, 4]


class TestRefused:
    def refuse(self, config, message, **kwargs):
        with pytest.raises(InputError, match=message) as caught:
            pretrain(config, **kwargs)
        assert "\n" not in str(caught.value)

    def test_another_run(self, finished_run, run_config, sample_records):
        validation = f"{sample_records}/held_out/*.tf_record"
        before = (finished_run / "config.yaml").read_bytes()
        config = run_config(finished_run, validation_file=validation, learning_rate=0.02, seed=1)
        self.refuse(config, "learning_rate=0.01 there, 0.02 now, seed=12345 there, 1 now. Choose another")
        assert (finished_run / "config.yaml").read_bytes() == before

    @pytest.mark.any_backend
    @pytest.mark.parametrize(
        "name, content", [("letter.txt", "Dear A"), ("config.yaml", "just text"), ("config.yaml", "{")]
    )
    def test_a_folder_of_something_else(self, run_config, tmp_path, name, content):
        (tmp_path / name).write_text(content)
        self.refuse(run_config(tmp_path), "Choose another")
        assert [path.name for path in tmp_path.iterdir()] == [name]

    @pytest.mark.any_backend
    @pytest.mark.parametrize(
        "options, message",
        [
            ({"max_seq_length": 64}, "max_seq_length=32 in the records of .*, 64 for the model"),
            ({"max_predictions_per_seq": 6}, "max_predictions_per_seq=5 in the records of .*, 6 for the model"),
            ({"vocabulary_size": 399}, "400 pieces in the tokenizer, vocab_size=399"),
            ({"spm_model_file": "unigram"}, "sha256 [0-9a-f]{64}, but [0-9a-f]{64} in the manifest"),
            ({"validation_file": "other"}, "sha256 [0-9a-f]{64}, but [0-9a-f]{64} in the manifest"),
            ({"preset": "tibert_huge"}, "preset='tibert_huge'"),
            ({"use_tpu": True}, "TPU cannot be used"),
            ({"do_train": False}, "Train first"),
            ({"input_file": "nothing"}, "No file matches"),
        ],
    )
    def test_what_does_not_go_together(self, options, message, run_config, spm_models, sample_corpus, tmp_path):
        if "vocabulary_size" in options:
            options = {"albert_config_file": small_config(tmp_path, **options)}
        if "spm_model_file" in options:
            options = {"spm_model_file": spm_models["unigram"]}
        if "validation_file" in options:
            build_records(
                RecordsConfig(
                    input_file=f"{sample_corpus}/train_2.txt", output_dir=f"{tmp_path}/other",
                    spm_model_file=spm_models["unigram"], max_seq_length=32, max_predictions_per_seq=5,
                )
            )  # fmt: skip
            options = {"validation_file": f"{tmp_path}/other/*.tf_record"}
        self.refuse(run_config(tmp_path / "run", **options), message)
        assert not (tmp_path / "run").exists()

    @pytest.mark.any_backend
    def test_other_records_under_a_run(
        self, finished_run, run_config, sample_records, sample_corpus, spm_models, tmp_path
    ):
        """The paths are the same, but not what they lead to."""
        run = tmp_path / "run"
        shutil.copytree(finished_run, run)
        config = yaml.safe_load((run / "config.yaml").read_text())
        records = tmp_path / "records"
        shutil.copytree(sample_records / "held_out", records)
        config["input_file"] = f"{records}/*.tf_record"
        (run / "config.yaml").write_text(yaml.safe_dump(config))
        config = run_config(run, input_file=config["input_file"], validation_file=config["validation_file"])
        self.refuse(config, r"num_examples=\d+ there, \d+ now")


@pytest.mark.any_backend
def test_a_damaged_record_is_named(run_config, sample_records, tmp_path):
    """One behind those of which the vocabulary is guessed where no manifest tells it."""
    validation = tmp_path / "held_out"
    shutil.copytree(sample_records / "held_out", validation)
    set_value(validation / "train_2.tf_record", "input_ids", 400, index=70)
    (validation / "manifest.json").unlink()
    config = run_config(
        tmp_path / "run", albert_config_file=small_config(tmp_path), num_train_steps=1,
        save_checkpoints_steps=1, validation_file=f"{validation}/*.tf_record",
    )  # fmt: skip
    with pytest.raises(InputError, match="Example 70 of .*train_2.tf_record', .*: input_ids must be from 0 to 399"):
        pretrain(config)
    assert (tmp_path / "run").exists() == bool(Checkpoints(tmp_path / "run").steps)
