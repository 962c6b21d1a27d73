"""Which precision a run takes where it is to be the fastest, and that it keeps it."""

from __future__ import annotations

import json
import logging
import re

import keras
import pytest

from tests.support.tiny_models import tiny
from tibert_keras.errors import InputError
from tibert_keras.records.pipeline import Records
from tibert_keras.runs.folder import read_config
from tibert_keras.training import precision
from tibert_keras.training.pretrain import pretrain
from tibert_keras.training.strategy import Strategy

# On JAX all is compiled.
ON_TENSORFLOW = keras.backend.backend() == "tensorflow"
CHOICES = ["float32", "float32 with XLA", "mixed_bfloat16", "mixed_bfloat16 with XLA"][:: 1 if ON_TENSORFLOW else 2]


@pytest.fixture
def config(run_config, tmp_path):
    path = tmp_path / "albert_config.json"
    path.write_text(json.dumps(tiny(vocabulary_size=400, max_sequence_length=32).to_albert_config()))
    options = {"preset": None, "albert_config_file": str(path), "num_train_steps": 2, "num_warmup_steps": 1}
    return lambda **changes: run_config(tmp_path / "run", **{**options, "mixed_precision": "auto", **changes})


def choose(config, strategy=None):
    return precision.with_fastest_precision(config, strategy or Strategy(), Records.find(config.input_file))


def test_the_shortest_step(config, caplog):
    caplog.set_level(logging.INFO, "tibert_keras")
    chosen = choose(config())
    (line,) = [record.getMessage() for record in caplog.records]
    taken, trials = re.fullmatch(r"Computing in (.+), for a step of a trial takes (.+)\.", line).groups()
    seconds = {name: float(took) for name, took in re.findall(r"([a-z][\w ]+?) ([\d.]+) s", trials)}
    assert list(seconds) == CHOICES and seconds[taken] == min(seconds.values()) > 0
    assert (chosen.mixed_precision, chosen.jit_compile is True) == (taken.split()[0], "XLA" in taken)


def test_what_is_tried(config, monkeypatch):
    """Two layers on a replica's part of a batch, and XLA only where there is a choice."""
    tried = []

    def measure(models, batch):
        tried.append([model.compute_dtype for model in models])
        assert len(batch[1]) == 8 and all(model.backbone.num_layers == 2 for model in models)
        return [1.0] * (len(models) - 1) + [0.5]

    monkeypatch.setattr(precision, "_measure", measure)
    options = {"gradient_accumulation_steps": 2, "train_batch_size": 32}
    assert choose(config(**options), Strategy(2)).mixed_precision == "mixed_bfloat16"
    assert tried.pop() == ["float32", "bfloat16"]
    for given in ({"mixed_precision": "float32"}, {"use_tpu": True}):
        expected = given.get("mixed_precision", "mixed_bfloat16")
        assert choose(config(**options, **given)).mixed_precision == expected and not tried


def test_a_run_keeps_what_it_has_begun_with(config, monkeypatch):
    # The last choice is the fastest.
    monkeypatch.setattr(precision, "_measure", lambda models, batch: list(range(len(models), 0, -1)))
    pretrain(config())
    written = read_config(config().output_dir)
    assert (written["mixed_precision"], written["jit_compile"]) == ("mixed_bfloat16", ON_TENSORFLOW or "auto")
    monkeypatch.setattr(precision, "_measure", None)  # no further trial
    pretrain(config())
    assert config().as_begun().jit_compile == (ON_TENSORFLOW or "auto")
    assert config(jit_compile=False).as_begun().jit_compile is False
    with pytest.raises(InputError, match="mixed_precision='mixed_bfloat16' there, 'float32' now"):
        pretrain(config(mixed_precision="float32"))
