"""Operations that give the same bits each time."""

from __future__ import annotations

import os

import keras


def use_deterministic_operations() -> None:
    """Have this process use no operation whose result may differ when it is repeated, as some do on GPUs.

    On JAX it must come before the first operation.
    """
    if keras.backend.backend() == "jax":
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_exclude_nondeterministic_ops=true"
        return
    import tensorflow as tf

    tf.config.experimental.enable_op_determinism()
