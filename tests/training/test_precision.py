"""Which precision a run takes if it should be the fastest, and that it keeps it."""

from __future__ import annotations

import dataclasses
import json
import logging
import re

import keras
import numpy as np
import pytest

from tests.support.tiny_models import tiny
from tibert_keras.errors import InputError
from tibert_keras.finetuning.config import FinetuneTextConfig, check_run
from tibert_keras.runs.folder import read_config, write_config
from tibert_keras.training import precision
from tibert_keras.training.pretrain import pretrain
from tibert_keras.training.strategy import Strategy

ON_TENSORFLOW = keras.backend.backend() == "tensorflow"
# On JAX all is compiled.
CHOICES = ["float32", "float32 with XLA", "mixed_bfloat16", "mixed_bfloat16 with XLA"][:: 1 if ON_TENSORFLOW else 2]
ROWS = ({"token_ids": np.arange(12).reshape(3, 4)}, np.arange(3), None)


@pytest.fixture
def config(run_config, tmp_path):
    path = tmp_path / "albert_config.json"
    path.write_text(json.dumps(tiny(vocabulary_size=400, num_layers=1, max_sequence_length=32).to_albert_config()))
    options = {"preset": None, "albert_config_file": str(path), "num_train_steps": 2, "num_warmup_steps": 1}
    return lambda **changes: run_config(tmp_path / "run", **{**options, "mixed_precision": "auto", **changes})


def choose(config, seconds, *, replicas=1, monkeypatch):
    """What is taken if the steps take so long, after what was tried, and on which batch."""
    tried = []

    def measure(models, batch, strategy):
        tried.append((models, batch))
        return seconds[: len(models)]

    monkeypatch.setattr(precision, "_shortest_steps", measure)
    chosen = precision.with_fastest_precision(
        config, Strategy(replicas), tiny(num_groups=2), batch=ROWS,
        make_model=lambda choice, backbone: (choice, backbone),
    )  # fmt: skip
    return chosen, *(tried[0] if tried else ([], None))


def test_what_is_tried(config, monkeypatch):
    given = config(gradient_accumulation_steps=2, train_batch_size=32, mixed_precision="auto")
    chosen, models, (x, y, weights) = choose(given, [4.0, 3.0, 2.0, 1.0], replicas=2, monkeypatch=monkeypatch)
    assert {backbone.num_layers for _, backbone in models} == {2}
    assert [f"{choice.mixed_precision}{' with XLA' * (choice.jit_compile is True)}" for choice, _ in models] == CHOICES
    assert [backbone.compute_dtype for _, backbone in models] == [n.split()[0].replace("mixed_", "") for n in CHOICES]
    # The 8 sequences of a replica's part, which on JAX comes with those of the other; there are only 3.
    assert len(x["token_ids"]) == len(y) == (8 if ON_TENSORFLOW else 16) and weights is None
    np.testing.assert_array_equal(x["token_ids"][3:6], ROWS[0]["token_ids"])
    assert chosen == dataclasses.replace(
        given, mixed_precision="mixed_bfloat16", jit_compile=True if ON_TENSORFLOW else "auto"
    )
    assert len(choose(config(jit_compile=False), [2.0, 1.0], monkeypatch=monkeypatch)[1]) == 2


@pytest.mark.any_backend
def test_bfloat16_must_be_worth_its_rounding(config, monkeypatch):
    def taken(*seconds, **options):
        chosen, *_ = choose(config(**options), seconds, monkeypatch=monkeypatch)
        return chosen.mixed_precision, chosen.jit_compile

    assert taken(1.0, 1.1, 0.97, 1.1) == ("float32", False)
    assert taken(1.1, 1.0, 0.9, 1.1) == ("mixed_bfloat16", False)
    assert taken(1.0, 0.9, jit_compile=True) == ("mixed_bfloat16", True)
    # Without a trial.
    assert taken(use_tpu=True) == ("mixed_bfloat16", "auto")


def test_a_run_keeps_what_it_has_begun_with(config, monkeypatch, caplog):
    monkeypatch.setattr(precision, "_SECONDS", 0.0)
    caplog.set_level(logging.INFO, "tibert_keras")
    options = {"jit_compile": False} if ON_TENSORFLOW else {}
    pretrain(config(**options))
    (line,) = [each.getMessage() for each in caplog.records if each.getMessage().startswith("Computing in ")]
    taken, trial = re.fullmatch(r"Computing in (.+), by a trial of two layers, in sequences/s: (.+)\.", line).groups()
    rates = {name: float(rate) for name, rate in (each.rsplit(" ", 1) for each in trial.split(", "))}
    assert list(rates) == ["float32", "mixed_bfloat16"] and rates[taken] >= max(rates.values()) / 1.06 > 0
    written = read_config(config().output_dir)
    assert written["mixed_precision"] == taken.split()[0]
    assert written["jit_compile"] == options.get("jit_compile", "auto")
    # No further trial.
    monkeypatch.setattr(precision, "_shortest_steps", None)
    pretrain(config())
    assert read_config(config().output_dir) == written
    assert config(jit_compile=True).as_begun().jit_compile is True
    other = ({"float32", "bfloat16"} - {taken.removeprefix("mixed_").split()[0]}).pop()
    with pytest.raises(InputError, match=f"'{written['mixed_precision']}' there, '(mixed_)?{other}' now"):
        pretrain(config(mixed_precision=other))


@pytest.mark.any_backend
def test_a_fine_tuning_keeps_it_too(small_preset, tmp_path):
    (tmp_path / "texts.tsv").write_text("a\tཀ\n", encoding="utf-8")
    given = {"input_file": f"{tmp_path}/texts.tsv", "output_dir": f"{tmp_path}/run", "model": str(small_preset)}
    write_config(FinetuneTextConfig(**given, max_seq_length=32, mixed_precision="bfloat16", jit_compile=False))
    again = FinetuneTextConfig(**given, max_seq_length=32, mixed_precision="auto")
    check_run(again)
    assert (again.as_begun().mixed_precision, again.as_begun().jit_compile) == ("mixed_bfloat16", False)
