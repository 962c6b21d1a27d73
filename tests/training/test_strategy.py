"""Where a run takes place, with the devices made up."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from tibert_keras.errors import InputError
from tibert_keras.training import PretrainConfig
from tibert_keras.training.strategy import has_strategy, strategy_scope

REPLICAS = Path(__file__).with_name("pretrain_on_replicas.py")

tensorflow_only = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="tf.distribute is TensorFlow's")
jax_only = pytest.mark.skipif(keras.backend.backend() != "jax", reason="needs KERAS_BACKEND=jax")


def make(**options) -> PretrainConfig:
    return PretrainConfig(input_file="a.tf_record", output_dir="run", preset="tibert_nano", **options)


def test_one_device_by_default(caplog):
    with caplog.at_level(logging.INFO, logger="tibert_keras"), strategy_scope(make()):
        assert not has_strategy()
    assert "1 replica" in caplog.text or "1 JAX device" in caplog.text


@tensorflow_only
class TestTensorFlow:
    @pytest.fixture
    def two_gpus(self, monkeypatch):
        import tensorflow as tf

        mirrored = SimpleNamespace(num_replicas_in_sync=2, scope=lambda: "the scope of both")
        monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: ["GPU:0", "GPU:1"])
        monkeypatch.setattr(tf.distribute, "MirroredStrategy", lambda: mirrored)

    def test_several_gpus(self, two_gpus):
        assert strategy_scope(make()) == "the scope of both"

    def test_a_batch_that_cannot_be_shared(self, two_gpus):
        with pytest.raises(InputError, match="train_batch_size=1023 on 2 replicas"):
            strategy_scope(make(train_batch_size=1023))

    def test_parts_that_cannot_be_equal(self, two_gpus):
        strategy_scope(make(gradient_accumulation_steps=512))
        with pytest.raises(InputError, match="1024 on 2 replicas, gradient_accumulation_steps=1024"):
            strategy_scope(make(gradient_accumulation_steps=1024))

    def test_no_name_of_a_tpu(self):
        with pytest.raises(InputError, match="The TPU cannot be used: .*Received: tpu_name=None, tpu_zone=None"):
            strategy_scope(make(use_tpu=True))

    @pytest.fixture
    def tpu(self, monkeypatch):
        """A TPU of 4 cores that notes what it is asked for."""
        import tensorflow as tf

        calls: list = []
        strategy = SimpleNamespace(num_replicas_in_sync=4, scope=lambda: "the scope of the TPU")
        resolvers = tf.distribute.cluster_resolver
        monkeypatch.setattr(resolvers, "TPUClusterResolver", lambda **given: calls.append(given))
        monkeypatch.setattr(tf.config, "experimental_connect_to_cluster", lambda resolver: None)
        monkeypatch.setattr(tf.tpu.experimental, "initialize_tpu_system", lambda resolver: None)
        monkeypatch.setattr(tf.distribute, "TPUStrategy", lambda resolver: strategy)
        return calls

    def test_a_tpu(self, tpu):
        config = make(use_tpu=True, tpu_name="t", tpu_zone="z", gcp_project="p", num_tpu_cores=4)
        assert strategy_scope(config) == "the scope of the TPU"
        assert tpu == [{"tpu": "t", "zone": "z", "project": "p"}]

    def test_a_tpu_of_another_size(self, tpu):
        with pytest.raises(InputError, match="num_tpu_cores=8, but it has 4"):
            strategy_scope(make(use_tpu=True, tpu_name="t"))

    def test_a_tpu_that_does_not_answer(self, tpu, monkeypatch):
        import tensorflow as tf

        def fail(resolver):
            raise tf.errors.UnavailableError(None, None, "failed to connect\nto all addresses")

        monkeypatch.setattr(tf.config, "experimental_connect_to_cluster", fail)
        with pytest.raises(InputError, match="cannot be used: failed to connect to all addresses.*tpu_name='t'"):
            strategy_scope(make(use_tpu=True, tpu_name="t"))


@jax_only
class TestJax:
    def test_no_tpu(self):
        with pytest.raises(InputError, match="The TPU cannot be used: .*Received: tpu_name='t'"):
            strategy_scope(make(use_tpu=True, tpu_name="t"))

    def test_a_batch_that_cannot_be_shared(self, monkeypatch):
        monkeypatch.setattr(keras.distribution, "list_devices", lambda kind=None: ["cpu:0", "cpu:1", "cpu:2"])
        with pytest.raises(InputError, match="train_batch_size=1024 on 3 replicas"):
            strategy_scope(make())


@pytest.mark.slow
@tensorflow_only
def test_a_run_on_two_replicas_is_that_on_one(sample_records, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2]), "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run([sys.executable, REPLICAS, sample_records, tmp_path], env=environment, check=True)
    one, two = (np.load(tmp_path / f"{replicas}.npz") for replicas in (1, 2))
    assert two["replicas"] == 2
    for name in ("loss", "val_loss", "weights"):
        np.testing.assert_allclose(two[name], one[name], rtol=0, atol=1e-5)
