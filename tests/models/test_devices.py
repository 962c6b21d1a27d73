"""What is refused under a strategy before training, and what a model on a TPU is given."""

from types import SimpleNamespace

import keras
import pytest
import tensorflow as tf

from tibert_keras.errors import InputError
from tibert_keras.models.devices import needs_full_batches, prepare_strategy, reduce_for_keras, seed_of_all_workers
from tibert_keras.models.training_data import batches_of, preprocessed

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="strategies are TensorFlow's")


class Tpu(tf.distribute.TPUStrategy):
    """One that needs no TPU."""

    num_replicas_in_sync = 8

    def __init__(self):
        pass


def model_under(strategy, **options):
    defaults = {"jit_compile": False, "run_eagerly": False, "steps_per_execution": 1}
    return SimpleNamespace(**{**defaults, "distribute_strategy": strategy, **options})


@pytest.mark.parametrize(
    "make, options, message",
    [
        (Tpu, {"jit_compile": True}, "Received: jit_compile=True under Tpu. Compile .* jit_compile=False"),
        (Tpu, {"steps_per_execution": 4}, None),
        (Tpu, {"jit_compile": True, "run_eagerly": True}, None),
        (lambda: SimpleNamespace(num_replicas_in_sync=2), {"jit_compile": True}, "jit_compile=True under Simple"),
        (lambda: SimpleNamespace(num_replicas_in_sync=2), {"steps_per_execution": 4}, "steps_per_execution=4 under"),
        (tf.distribute.get_strategy, {"jit_compile": True, "steps_per_execution": 4}, None),
    ],
)
def test_refused(make, options, message):
    model = model_under(make(), **options)
    if message is None:
        prepare_strategy(model)
        return
    with pytest.raises(InputError, match=message):
        prepare_strategy(model)


def test_a_tpu_takes_whole_batches():
    assert needs_full_batches(model_under(Tpu())) and not needs_full_batches(model_under(tf.distribute.get_strategy()))
    texts = batches_of(list("abcde"), batch_size=2, shuffle=False, seed=0, drop_remainder=True)
    batches = preprocessed(texts, lambda x, *_: {"token_ids": tf.strings.length(x)}, seed=0, anew=True)
    assert batches.element_spec["token_ids"].shape == (2,) and len(list(batches)) == 2
    with pytest.raises(InputError, match="A TPU takes whole batches only. Received: 5 texts, batch_size=6"):
        batches_of(list("abcde"), batch_size=6, shuffle=False, seed=0, drop_remainder=True)


class Workers(tf.distribute.MultiWorkerMirroredStrategy):
    """Three that need no others."""

    def __init__(self):
        pass

    def experimental_local_results(self, value):
        return (value,)

    def reduce(self, reduce_op, value, axis):
        assert axis is None and not tf.nest.is_nested(value)
        return value * 3 if reduce_op == "SUM" else value


def test_several_hosts():
    strategy = Workers()
    assert seed_of_all_workers(model_under(strategy), 2**32 - 1) == 2**32 - 3
    assert seed_of_all_workers(model_under(tf.distribute.get_strategy()), 7) == 7
    for _ in range(2):
        reduce_for_keras(strategy)
    batch = {"x": tf.constant([1, 2])}
    assert strategy.reduce("MEAN", batch)["x"] is batch["x"]
    assert float(strategy.reduce("MEAN", tf.constant(2.0), axis=0)) == 2
