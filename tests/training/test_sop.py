"""The sentence order as a second task of a run, and the switch to a run without it."""

import json
import logging
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.support.interruptions import At, PowerCutError, cut_power, stop_training
from tibert_keras import TibertBackbone, TibertMaskedLM, TibertPretraining
from tibert_keras.errors import InputError
from tibert_keras.runs.champion import choose_champion
from tibert_keras.runs.checkpoints import VARIABLES_FILE, Checkpoints
from tibert_keras.runs.history import History
from tibert_keras.training.pretrain import pretrain


def variables(run, step):
    with np.load(f"{run}/checkpoints/{step}/{VARIABLES_FILE}") as file:
        return {name: value for name, value in file.items() if name.startswith(("model/", "optimizer/"))}


@pytest.fixture(scope="module")
def sop_run(run_config, sop_records, tmp_path_factory):
    """A run of both tasks, stopped at step 40 of 80."""
    folder = tmp_path_factory.mktemp("sop") / "run"
    config = run_config(folder, input_file=sop_records, sop=True, num_train_steps=80, save_checkpoints_steps=8)
    step, traces = TibertPretraining.train_step, []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TibertPretraining, "train_step", lambda *args: traces.append(1) or step(*args))
        pretrain(config, callbacks=[At(40, stop_training)])
    # TensorFlow would trace a step twice in which the averages of the losses are made.
    assert len(traces) == 1
    return folder


@pytest.fixture(scope="module")
def switched_config(run_config, sop_run):
    """Makes the options of the run that goes on from there without the sentence order, to step 80."""

    def make(folder, **changes):
        options = {"continue_from": str(sop_run), "num_train_steps": 80, "save_checkpoints_steps": 16}
        return run_config(folder, **{**options, **changes})

    return make


@pytest.mark.any_backend
class TestSop:
    def test_both_tasks_are_reported(self, sop_run):
        first, last = History(sop_run).rows[0], History(sop_run).rows[-1]
        for row in (first, last):
            assert row["loss"] == pytest.approx(row["masked_lm_loss"] + row["sentence_order_loss"], abs=1e-4)
            assert 0 <= row["masked_lm_accuracy"] <= 1 and 0.2 < row["sentence_order_accuracy"] < 0.8
        assert last["masked_lm_loss"] < first["masked_lm_loss"]
        assert first["sentence_order_loss"] == pytest.approx(np.log(2), abs=0.1)

    def test_the_champion_is_a_masked_language_model(self, sop_run):
        model = TibertMaskedLM.from_preset(f"{sop_run}/champion")
        assert type(model) is TibertMaskedLM and model.preprocessor is not None
        assert type(TibertMaskedLM.from_preset(f"{sop_run}/initial")) is TibertPretraining

    def test_records_without_pairs(self, run_config, tmp_path):
        with pytest.raises(InputError, match="sop=True, and records made with sop=False in '.*/train'. Make records"):
            pretrain(run_config(tmp_path / "run", sop=True))
        assert not (tmp_path / "run").exists()


@pytest.mark.any_backend
class TestSwitch:
    def test_all_goes_on_but_the_order(self, sop_run, switched_config, tmp_path, caplog):
        caplog.set_level(logging.INFO, "tibert_keras")
        # Step 40 lies 8 steps before the end of a window.
        pretrain(switched_config(tmp_path, iterations_per_loop=8))
        of_both, after = variables(sop_run, 40), variables(tmp_path, 40)
        assert set(after) < set(of_both)
        for name, value in after.items():
            np.testing.assert_array_equal(value, of_both[name], err_msg=name)
        assert after["optimizer/lamb/iteration"] == 40
        # The encoder, its pooler and the head; iteration, norm, and two moments of each that is trained.
        assert (
            f"Taken over from {sop_run}/checkpoints/40: 30 variables of the model, 58 of the optimizer." in caplog.text
        )
        assert "New here, with initial values: 0 variables of the model, 0 of the optimizer." in caplog.text
        assert "Left there: 2 variables of the model, 8 of the optimizer." in caplog.text
        # All their names, however many, where the log says that they are.
        (path,) = re.findall(r"The names of all of them are in (\S+)\.\n", caplog.text)
        names = json.loads(Path(path).read_text())
        assert (names["checkpoint"], names["step"]) == (f"{sop_run}/checkpoints/40", 40)
        assert names["taken_over"] == sorted(after) and len(after) == 30 + 58
        assert names["new_here"] == []
        assert names["left_there"] == sorted(set(of_both) - set(after)) and "model/sop_head/kernel" in of_both
        # The rate and the loss go on.
        rows, before = History(tmp_path).rows, History(sop_run).rows
        assert [row["step"] for row in rows] == [48, 64, 80]
        np.testing.assert_allclose(
            [row["learning_rate"] for row in rows], 0.01 * (1 - np.array([48, 64, 80]) / 80), rtol=1e-6
        )
        learnt = before[0]["masked_lm_loss"] - before[-1]["masked_lm_loss"]
        assert learnt > 0.3
        assert abs(rows[0]["loss"] - before[-1]["masked_lm_loss"]) < 0.3 * learnt
        assert rows[-1]["loss"] < rows[0]["loss"]
        with pytest.raises(InputError, match="iterations_per_loop=16 at step 40, .*=16. Give a divisor of 8."):
            pretrain(switched_config(tmp_path / "wrong", iterations_per_loop=16))

    def test_killed_when_the_other_run_is_gone(self, sop_run, switched_config, tmp_path):
        """With a second warm-up, and a champion of both runs, which are compared by the masked tokens alone."""
        origin = shutil.copytree(sop_run, tmp_path / "origin")
        options = {"continue_from": f"{origin}/checkpoints/40", "num_train_steps": 48}
        options |= {"start_warmup_step": 40, "num_warmup_steps": 16}
        whole, killed = tmp_path / "whole", tmp_path / "killed"
        pretrain(switched_config(whole, **options))
        with pytest.raises(PowerCutError):
            pretrain(switched_config(killed, **options), callbacks=[At(3, cut_power)])
        shutil.rmtree(origin)
        pretrain(switched_config(killed, **options))
        expected, found = variables(whole, 48), variables(killed, 48)
        for name, value in expected.items():
            np.testing.assert_array_equal(found[name], value, err_msg=name)
        assert History(whole).rows[-1]["learning_rate"] == pytest.approx(0.01 * 8 / 16)
        losses = [row.get("masked_lm_loss", row["loss"]) for run in (sop_run, whole) for row in History(run).rows]
        assert choose_champion([sop_run, whole]).value == min(losses)

    def test_back_to_both_tasks(self, finished_run, run_config, sop_records, tmp_path, caplog):
        caplog.set_level(logging.INFO, "tibert_keras")
        pretrain(
            run_config(tmp_path, input_file=sop_records, sop=True, continue_from=str(finished_run), num_train_steps=25)
        )
        assert "New here, with initial values: 2 variables of the model, 8 of the optimizer." in caplog.text
        assert Checkpoints(tmp_path).steps == [22, 25]

    def test_another_depth(self, run_config, sop_run, tmp_path):
        """It has the same variables: the layers share them."""
        config = json.loads((sop_run / "initial/config.json").read_text())["config"]
        deeper = TibertBackbone(**{**config, "num_layers": 6, "dtype": "float32", "name": None})
        path = tmp_path / "albert_config.json"
        path.write_text(json.dumps(deeper.to_albert_config()))
        with pytest.raises(InputError, match="num_layers=1 in .*, 6 now. Give its architecture"):
            pretrain(
                run_config(
                    tmp_path / "run", albert_config_file=str(path), continue_from=str(sop_run),
                    num_train_steps=80,
                )
            )  # fmt: skip
        assert not (tmp_path / "run").exists()

    @pytest.mark.parametrize(
        "options, message",
        [
            ({"continue_from": "nothing"}, "No checkpoint is there. Received: continue_from='nothing'"),
            ({"continue_from": "RUN/checkpoints/41"}, "No checkpoint is there. Received: continue_from='.*/41'"),
            ({"num_train_steps": 40}, "of step 40, num_train_steps=40"),
            ({"optimizer": "adamw"}, "of another optimizer. Received: optimizer='adamw'"),
            ({"preset": "tibert_tiny"}, "of another model. Received: model/.* of shape"),
            ({"continue_from": None, "start_warmup_step": 40}, "start_warmup_step=40, continue_from=None"),
        ],
    )
    def test_what_does_not_go_together(self, switched_config, sop_run, tmp_path, options, message):
        if options.get("continue_from"):
            options = {"continue_from": options["continue_from"].replace("RUN", str(sop_run))}
        with pytest.raises(InputError, match=message) as caught:
            pretrain(switched_config(tmp_path / "run", **options))
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "run").exists()

    def test_another_tokenizer(self, switched_config, sop_run, tmp_path):
        origin = shutil.copytree(sop_run, tmp_path / "origin")
        path = origin / "initial/assets/tokenizer/vocabulary.spm"
        path.write_bytes(path.read_bytes() + b"\n\x00")
        with pytest.raises(InputError, match="of another tokenizer than the records. Received: continue_from='.*n'"):
            pretrain(switched_config(tmp_path / "run", continue_from=str(origin)))
        assert not (tmp_path / "run").exists()
