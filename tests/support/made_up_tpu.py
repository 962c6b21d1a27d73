"""A TPU that notes what it is asked for, and computes nothing."""

from collections.abc import Callable
from typing import Any

import pytest


def make_up_tpu(monkeypatch: pytest.MonkeyPatch, strategy: Callable[[Any], Any]) -> list[dict[str, Any]]:
    """Replace TensorFlow's TPUs. Returns the arguments of the resolvers that are made from now on.

    Args:
        monkeypatch: The fixture.
        strategy: What stands for `tf.distribute.TPUStrategy`.
    """
    import tensorflow as tf

    calls: list[dict[str, Any]] = []
    monkeypatch.setattr(tf.distribute.cluster_resolver, "TPUClusterResolver", lambda **given: calls.append(given))
    monkeypatch.setattr(tf.config, "experimental_connect_to_cluster", lambda resolver: None)
    monkeypatch.setattr(tf.tpu.experimental, "initialize_tpu_system", lambda resolver: None)
    monkeypatch.setattr(tf.distribute, "TPUStrategy", strategy)
    return calls
