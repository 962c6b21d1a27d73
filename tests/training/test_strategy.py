"""Where a run takes place, with the devices made up."""

import logging
import re
from types import SimpleNamespace

import keras
import pytest

from tibert_keras.errors import InputError
from tibert_keras.training.config import PretrainConfig
from tibert_keras.training.strategy import _mirrored_strategy, chosen_strategy, has_strategy, may_jit_compile

tensorflow_only = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="tf.distribute is TensorFlow's")
jax_only = pytest.mark.skipif(keras.backend.backend() != "jax", reason="needs KERAS_BACKEND=jax")


def make(**options) -> PretrainConfig:
    return PretrainConfig(input_file="a.tf_record", output_dir="run", preset="tibert_nano", **options)


def test_one_device_by_default(caplog):
    with caplog.at_level(logging.INFO, logger="tibert_keras"), chosen_strategy(make()) as strategy, strategy.scope():
        assert not has_strategy()
    assert (strategy.num_replicas, strategy.is_chief) == (1, True)
    assert re.search(r"Training on one [CG]PU\.\n", caplog.text)


def choose(**options):
    with chosen_strategy(make(**options)) as strategy:
        return strategy.num_replicas, strategy.scope()


@tensorflow_only
class TestTensorFlow:
    @pytest.fixture
    def two_gpus(self, monkeypatch):
        import tensorflow as tf

        gpus = [SimpleNamespace(name="/device:GPU:0"), SimpleNamespace(name="/device:GPU:1")]
        mirrored = SimpleNamespace(num_replicas_in_sync=2, scope=lambda: "the scope of both")
        monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: gpus if kind == "GPU" else [])
        monkeypatch.setattr(tf.distribute, "MirroredStrategy", lambda devices: mirrored)
        _mirrored_strategy.cache_clear()
        yield
        _mirrored_strategy.cache_clear()

    def test_several_gpus(self, two_gpus, caplog):
        with caplog.at_level(logging.INFO, logger="tibert_keras"):
            assert choose() == (2, "the scope of both")
        assert "Training on 2 GPUs, which share each batch.\n" in caplog.text

    def test_a_batch_that_cannot_be_shared(self, two_gpus):
        with pytest.raises(InputError, match="train_batch_size=1023 on 2 replicas"):
            choose(train_batch_size=1023)

    def test_several_steps_in_one_call(self, two_gpus):
        with pytest.raises(
            InputError, match="Keras fails .* mirror each other. Received: iterations_per_loop=10. Leave"
        ):
            choose(iterations_per_loop=10)
        assert choose(iterations_per_loop=1)[0] == 2

    def test_parts_that_cannot_be_equal(self, two_gpus):
        choose(gradient_accumulation_steps=512)
        with pytest.raises(InputError, match="1024 on 2 replicas, gradient_accumulation_steps=1024"):
            choose(gradient_accumulation_steps=1024)

    def test_no_tpu(self):
        """On this machine, without a name, with that of a TPU elsewhere, and as on a TPU VM."""
        message = "^The TPU cannot be used: .*Received: tpu_name={!r}, tpu_zone={!r}. Check that it runs, or"
        for name, zone in ((None, None), ("t", "nowhere-1"), ("local", None)):
            with pytest.raises(InputError, match=message.format(name, zone)) as caught:
                choose(use_tpu=True, tpu_name=name, tpu_zone=zone, gcp_project="p")
            assert "\n" not in str(caught.value)

    @pytest.fixture
    def tpu(self, monkeypatch):
        """A TPU of 4 cores."""
        from tests.support.made_up_tpu import make_up_tpu

        strategy = SimpleNamespace(num_replicas_in_sync=4, scope=lambda: "the scope of the TPU")
        return make_up_tpu(monkeypatch, lambda resolver: strategy)

    @pytest.mark.parametrize("name, zone, project", [("t", "z", "p"), ("local", None, None)])
    def test_a_tpu(self, tpu, name, zone, project):
        options = {"use_tpu": True, "tpu_name": name, "tpu_zone": zone, "gcp_project": project, "num_tpu_cores": 4}
        assert choose(**options) == (4, "the scope of the TPU")
        assert tpu == [{"tpu": name, "zone": zone, "project": project}]

    def test_a_tpu_of_another_size(self, tpu):
        with pytest.raises(InputError, match="num_tpu_cores=8, but it has 4. Give num_tpu_cores=4"):
            choose(use_tpu=True, tpu_name="t")

    def test_a_tpu_that_does_not_answer(self, tpu, monkeypatch):
        import tensorflow as tf

        def fail(resolver):
            raise tf.errors.UnavailableError(None, None, "failed to connect\nto all addresses")

        monkeypatch.setattr(tf.config, "experimental_connect_to_cluster", fail)
        with pytest.raises(InputError, match="cannot be used: failed to connect to all addresses.*tpu_name='t'"):
            choose(use_tpu=True, tpu_name="t")

    def test_keras_does_not_compile_under_a_strategy(self):
        """As `TPUStrategy` needs it, which compiles by itself."""
        import tensorflow as tf

        config = make(use_tpu=True, jit_compile=True)
        assert may_jit_compile(config) is True and config.steps_per_execution == 1000
        with tf.distribute.OneDeviceStrategy("/cpu:0").scope():
            assert may_jit_compile(config) is False


@jax_only
class TestJax:
    def test_no_tpu(self):
        with pytest.raises(InputError, match="The TPU cannot be used: .*Received: tpu_name='t'"):
            choose(use_tpu=True, tpu_name="t")

    def test_a_batch_that_cannot_be_shared(self, monkeypatch):
        monkeypatch.setattr(keras.distribution, "list_devices", lambda kind=None: ["cpu:0", "cpu:1", "cpu:2"])
        with pytest.raises(InputError, match="train_batch_size=1024 on 3 replicas"):
            choose()

    def test_several_devices_for_the_time_of_the_training(self, monkeypatch):
        # The same one twice: here is only one.
        monkeypatch.setattr(keras.distribution, "list_devices", lambda kind=None: ["cpu:0", "cpu:0"])
        with chosen_strategy(make()) as strategy:
            assert strategy.num_replicas == keras.distribution.distribution().num_model_replicas == 2
        assert keras.distribution.distribution() is None
