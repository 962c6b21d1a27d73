"""The options of a run: what contradicts itself is refused before anything is read or written."""

from typing import Any

import pytest

from tibert_keras.errors import InputError
from tibert_keras.training.config import PretrainConfig, check_pretraining


def make(**options: Any) -> PretrainConfig:
    return PretrainConfig(**{"input_file": "a.tf_record", "output_dir": "run", "preset": "tibert_nano", **options})


class TestPretrainConfig:
    def test_defaults_are_the_originals(self):
        config = make()
        assert (config.train_batch_size, config.max_seq_length, config.max_predictions_per_seq) == (1024, 128, 20)
        assert (config.learning_rate, config.num_warmup_steps, config.num_train_steps) == (0.00176, 3125, 1_000_000)
        assert (config.save_checkpoints_steps, config.keep_checkpoint_max) == (1000, 100)

    @pytest.mark.parametrize(
        "options, message",
        [
            ({"preset": None}, "albert_config_file=None, preset=None"),
            ({"albert_config_file": "c.json"}, "albert_config_file='c.json', preset='tibert_nano'"),
            ({"do_eval": True}, "validation_file=None"),
            ({"save_checkpoints_steps": 6, "iterations_per_loop": 4}, "iterations_per_loop=4"),
            ({"num_train_steps": 2500, "iterations_per_loop": 1000}, "num_train_steps=2500"),
            ({"iterations_per_loop": 0}, "iterations_per_loop=0"),
            ({"train_batch_size": 0}, "train_batch_size=0"),
            ({"gradient_accumulation_steps": 0}, "gradient_accumulation_steps=0"),
            ({"max_eval_steps": -1}, "max_eval_steps=-1"),
            ({"keep_checkpoint_max": 0}, "keep_checkpoint_max=0"),
            ({"num_warmup_steps": -1}, "num_warmup_steps=-1"),
            ({"learning_rate": float("nan")}, "learning_rate=nan"),
            ({"learning_rate": -0.1}, "learning_rate=-0.1"),
            ({"neighbour_attention": True, "init_checkpoint": "a"}, "neighbour_attention=True, and the weights of 'a'"),
            ({"optimizer": "sgd"}, "optimizer='sgd'. Give one of 'lamb', 'adamw'"),
            ({"mixed_precision": "float16"}, "mixed_precision='float16'"),
            ({"jit_compile": "yes"}, "jit_compile='yes'"),
        ],
    )  # fmt: skip
    def test_contradictions(self, options, message):
        with pytest.raises(InputError) as caught:
            make(**options)
        assert f"Received: {message}" in str(caught.value) or f", {message}" in str(caught.value)

    def test_steps_per_execution(self):
        assert make().steps_per_execution == 1
        assert make(iterations_per_loop=100).steps_per_execution == 100
        assert make(use_tpu=True).steps_per_execution == 1000
        # As many as fit between two checkpoints and before the last step.
        assert make(use_tpu=True, num_train_steps=2500).steps_per_execution == 500

    def test_one_run_has_one_name(self):
        assert make(output_dir="gs://bucket/run/") == make(output_dir="gs://bucket/run")
        assert make(output_dir="/").output_dir == "/"


class TestCheckPretraining:
    @pytest.fixture
    def check(self, tmp_path):
        (tmp_path / "a.tf_record").write_bytes(b"")

        def check(**options: Any) -> None:
            check_pretraining(
                make(**{"input_file": f"{tmp_path}/a.tf_record", "output_dir": f"{tmp_path}/run", **options})
            )

        return check

    def test_all_are_there(self, check, finished_run, tmp_path):
        (tmp_path / "model.ckpt-30.index").write_bytes(b"")
        (tmp_path / "albert_config.json").write_text("{}")
        check()
        check(preset=None, albert_config_file=f"{tmp_path}/albert_config.json")
        for place in (finished_run, f"{finished_run}/checkpoints/22/", f"{tmp_path}/model.ckpt-30"):
            check(continue_from=str(place))

    @pytest.mark.parametrize(
        "options, message",
        [
            ({"input_file": "none/*.tf_record"}, "No file matches the pattern. Received: 'none/"),
            ({"validation_file": "none.tf_record"}, "No file matches the pattern. Received: 'none.tf_record'"),
            ({"preset": None, "albert_config_file": "none.json"}, "Cannot read the file: .* Received: 'none.json'"),
            ({"spm_model_file": "none.model"}, "Cannot read the file: .* Received: 'none.model'"),
            ({"continue_from": "none"}, "No checkpoint is there. Received: continue_from='none'"),
            ({"continue_from": "RUN/checkpoints/21"}, "No checkpoint is there. Received: continue_from='.*/21'"),
            ({"continue_from": "RUN/checkpoints"}, "No checkpoint is there. Received: continue_from='.*points'"),
            ({"init_checkpoint": "none"}, "No model is there. Received: 'none'. Give a preset, a run"),
            (
                {"preset": "tibert_huge"},
                "neither a name nor a model. Received: preset='tibert_huge'. Give one of tibert_n",
            ),
            ({"output_dir": "RUN"}, "holds results of other options. Received: input_file="),
        ],
    )
    def test_missing(self, check, options, message, finished_run):
        options = {name: value and value.replace("RUN", str(finished_run)) for name, value in options.items()}
        with pytest.raises(InputError, match=message):
            check(**options)

    def test_what_a_run_that_has_begun_does_not_need(self, finished_run, sample_records, run_config, tmp_path):
        """Its initial preset and its checkpoints outlive the files that they came from."""
        content = (finished_run / "config.yaml").read_text()
        run = tmp_path / "run"
        for name in ("initial", "checkpoints/22"):
            (run / name).mkdir(parents=True)
        (run / "initial/task.json").write_text("{}")
        (run / "checkpoints/22/state.json").write_text("{}")
        gone = {"spm_model_file": "none.model", "continue_from": "none"}
        (run / "config.yaml").write_text(content.replace("spm_model_file: null", "spm_model_file: none.model"))
        config = run_config(run, **gone, validation_file=f"{sample_records}/held_out/*.tf_record")
        with pytest.raises(InputError, match="continue_from=None there, 'none' now"):
            check_pretraining(config)
        changed = (run / "config.yaml").read_text().replace("continue_from: null", "continue_from: none")
        (run / "config.yaml").write_text(changed)
        check_pretraining(config)
