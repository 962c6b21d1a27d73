"""The options of a run: what contradicts itself is refused before anything is read or written."""

from __future__ import annotations

from typing import Any

import pytest

from tibert_keras.errors import InputError
from tibert_keras.training.config import PretrainConfig


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
