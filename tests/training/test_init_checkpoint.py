"""A new run that begins with the weights of another model, in any format."""

import json
import logging
import shutil

import numpy as np
import pytest

from tests.support.tiny_models import randomize, tiny
from tibert_keras import TibertMaskedLM, TibertPretraining, resize_vocabulary
from tibert_keras.errors import InputError
from tibert_keras.formats.convert import find_model
from tibert_keras.formats.portable import PortableModel, read_keras
from tibert_keras.runs.checkpoints import Checkpoints
from tibert_keras.runs.history import History
from tibert_keras.training.config import PretrainConfig
from tibert_keras.training.init_checkpoint import read_any, take_weights
from tibert_keras.training.pretrain import pretrain

HEAD = {f"model/mlm_head/{name}" for name in ("intermediate_dense/bias", "intermediate_dense/kernel", "output_bias")}
HEAD |= {f"model/mlm_head/intermediate_layer_norm/{name}" for name in ("gamma", "beta")}


def assert_same(weights, others):
    assert weights.keys() == others.keys()
    for path, array in weights.items():
        np.testing.assert_array_equal(array, others[path], err_msg=path)


@pytest.mark.any_backend
class TestReadAny:
    @pytest.mark.parametrize("kind", ["keras", "google", "huggingface"])
    def test_formats(self, converted, kind):
        assert find_model(converted[kind])[0] == kind
        assert_same(read_any(f"{converted[kind]}/").weights, read_keras(str(converted["keras"])).weights)

    def test_runs(self, finished_run, tmp_path):
        """A run is its champion or, without one, its last checkpoint."""
        assert find_model(finished_run)[1] == f"{finished_run}/champion"
        assert find_model(f"{finished_run}/checkpoints/20")[1] == f"{finished_run}/checkpoints/20"
        shutil.copytree(finished_run / "checkpoints", tmp_path / "checkpoints")
        assert find_model(tmp_path)[1] == f"{tmp_path}/checkpoints/22"

    def test_a_checkpoint_of_googles_by_itself(self, converted, tmp_path):
        """Its architecture is that of the new run."""
        for path in converted["google"].glob("model.ckpt-*"):
            shutil.copyfile(path, tmp_path / path.name)
        architecture = json.loads((converted["google"] / "albert_config.json").read_text())
        for path in (tmp_path, tmp_path / "model.ckpt-0"):
            found = read_any(str(path), architecture=architecture)
            assert_same(found.weights, read_keras(str(converted["keras"])).weights)

    @pytest.mark.parametrize("name", ["none", "", "checkpoints/3"])
    def test_nothing(self, tmp_path, name):
        with pytest.raises(InputError, match="No model is there. Received: .* Give a preset, a run"):
            find_model(tmp_path / name)


class TestTakeWeights:
    def test_of_both_tasks_and_of_an_encoder(self, caplog):
        both = randomize(TibertPretraining(tiny()))
        model = TibertMaskedLM(tiny())
        names = take_weights(model, PortableModel(model=both), place="there")
        assert len(names["taken_over"]) == len(model.weights) and not names["new_here"]
        assert names["left_there"] == {"model/sop_head/kernel", "model/sop_head/bias"}
        assert_same(PortableModel(model=model).weights, PortableModel(model=both.masked_lm()).weights)
        encoder = take_weights(model, PortableModel(model=both.backbone), place="there")
        assert encoder["new_here"] == HEAD and not encoder["left_there"]
        told = "there is a TibertBackbone: its encoder is taken over, and the head for masked tokens begins anew."
        assert caplog.messages == [told]

    def test_groups(self):
        other = randomize(TibertMaskedLM(tiny()))
        weights = PortableModel(model=other).weights
        for init_from_group0 in (False, True):
            model = TibertMaskedLM(tiny(num_groups=2))
            origin = PortableModel(model=other)
            names = take_weights(model, origin, place="there", init_from_group0=init_from_group0)
            of_second = {name for name in names["new_here"] if name.startswith("model/group_1_")}
            assert names["new_here"] == of_second and bool(of_second) != init_from_group0
            ours = PortableModel(model=model).weights
            for path, array in ours.items():
                theirs = weights[path.replace("group_1_", "group_0_")]
                if init_from_group0 or not path.startswith("group_1_"):
                    np.testing.assert_array_equal(array, theirs, err_msg=path)

    def test_another_depth_is_told_and_another_size_refused(self, caplog):
        origin = PortableModel(model=TibertMaskedLM(tiny()))
        take_weights(TibertMaskedLM(tiny(num_layers=4)), origin, place="there")
        assert "The architecture of there is another: num_layers=2 there, 4 here." in caplog.text
        message = r"Received: group_0.* of shape \(8, 12\) in 'there', \(8, 16\) now. Give its architecture"
        with pytest.raises(InputError, match=message):
            take_weights(TibertMaskedLM(tiny(intermediate_dim=16)), origin, place="there")


class TestPretrain:
    def test_weights_alone(self, run_config, finished_run, tmp_path, caplog):
        caplog.set_level(logging.INFO, "tibert_keras")
        options = {"num_train_steps": 8, "save_checkpoints_steps": 4, "poly_power": 2.0}
        pretrain(run_config(tmp_path / "run", init_checkpoint=str(finished_run), **options))
        champion = read_keras(f"{finished_run}/champion").weights
        assert_same(read_keras(f"{tmp_path}/run/initial").weights, champion)
        assert "30 variables of the model, 0 of the optimizer." in caplog.text
        assert "The optimizer and the schedule begin at step 0" in caplog.text
        names = json.loads((tmp_path / "run/taken_over.json").read_text())
        assert names["step"] == 0 and len(names["taken_over"]) == 30 and not names["new_here"]
        # A schedule of its own, and no checkpoint of a step before the first.
        assert Checkpoints(tmp_path / "run").steps == [4, 8]
        begun, rows = History(finished_run).rows[0], History(tmp_path / "run").rows
        assert rows[0]["loss"] < begun["loss"] - 0.3
        assert [row["learning_rate"] for row in rows] == pytest.approx([0.01 * 0.5**2, 0])
        # A preset brings both its architecture and its weights.
        pretrain(run_config(tmp_path / "again", preset=f"{tmp_path}/run/initial", **options))
        assert History(tmp_path / "again").rows[0]["loss"] == rows[0]["loss"]

    @pytest.mark.any_backend
    def test_more_rows_than_pieces(self, run_config, small_preset, tmp_path, caplog):
        caplog.set_level(logging.INFO, "tibert_keras")
        resize_vocabulary(TibertMaskedLM.from_preset(small_preset), 450).save_to_preset(f"{tmp_path}/larger")
        pretrain(run_config(tmp_path / "run", preset=f"{tmp_path}/larger", num_train_steps=2))
        assert "has 450 rows for 400 pieces: the others are never predicted." in caplog.text
        assert read_keras(f"{tmp_path}/run").backbone.vocabulary_size == 450

    @pytest.mark.any_backend
    def test_another_tokenizer(self, run_config, small_preset, spm_models, tmp_path):
        origin = shutil.copytree(small_preset, tmp_path / "origin")
        shutil.copyfile(spm_models["unigram"], origin / "assets/tokenizer/vocabulary.spm")
        (origin / "manifest.json").unlink()
        with pytest.raises(InputError, match="another tokenizer than the records. Received: '.*origin'. Make records"):
            pretrain(run_config(tmp_path / "run", preset=str(origin)))
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "a_folder", "init_checkpoint": "b"}, "brings its own weights. Received: preset='a_folder', init"),
        ({"init_checkpoint": "a", "continue_from": "b"}, "Received: init_checkpoint='a', continue_from='b'. Give one"),
        ({"init_from_group0": True}, "Received: init_checkpoint=None. Give it"),
        ({"start_warmup_step": 5, "init_checkpoint": "a"}, "start_warmup_step=5, continue_from=None"),
        ({"masked_lm_budget": 0.1}, "was never published. Received: masked_lm_budget=0.1"),
        ({"dynamic_masking": True, "use_tpu": True, "tpu_name": "t"}, "Received: dynamic_masking=True, tpu_name='t'"),
        ({"master": "grpc://10.0.0.2:8470"}, "no sessions with a master. Received: master='grpc://10.0.0.2:8470'"),
        ({"poly_power": 0.0}, "poly_power must be positive"),
    ],
)
def test_what_does_not_go_together(options, message):
    with pytest.raises(InputError, match=message) as caught:
        PretrainConfig(**{"input_file": "a", "output_dir": "b", "preset": "tibert_nano", **options})
    assert "\n" not in str(caught.value)


def test_flags_that_scripts_leave_empty(run_config):
    assert run_config("run", init_checkpoint="", continue_from="", master="").initial_weights is None
