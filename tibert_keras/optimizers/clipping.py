"""Clips the gradient of a step alike on any number of replicas."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import keras
from keras import ops


class ClipsSum:
    """Precedes an optimizer of Keras's in the bases of one that clips what it has accumulated and summed over replicas.

    Keras clips before the sum, so its norm of a step grows with the number of replicas.

    Attributes:
        global_clipnorm: The norm to clip to, or None.
        gradient_norm: A float32 variable for the norm before clipping, or None.
    """

    global_clipnorm: float | None
    gradient_norm: Any = None

    def _clip_gradients(self, grads: Sequence[Any]) -> Sequence[Any]:
        if not self.global_clipnorm:
            return super()._clip_gradients(grads)  # type: ignore[misc]
        # On TensorFlow these are one replica's gradients; `_all_reduce_sum_gradients` clips their sum.
        return grads if keras.backend.backend() == "tensorflow" else self._clip_by_global_norm(grads)

    def _all_reduce_sum_gradients(self, grads_and_vars: Iterable[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
        """Sum over replicas, then clip; only the TensorFlow backend calls this."""
        import tensorflow as tf

        # An embedding's gradient has one row per lookup. Rows of the same token must be added before the norm is
        # taken, and their sum is far less to send between replicas.
        dense = [(tf.convert_to_tensor(gradient), variable) for gradient, variable in grads_and_vars]
        grads, variables = zip(*super()._all_reduce_sum_gradients(dense), strict=True)  # type: ignore[misc]
        clipped = self._clip_by_global_norm(grads) if self.global_clipnorm else grads
        return list(zip(clipped, variables, strict=True))

    def _clip_by_global_norm(self, grads: Sequence[Any]) -> list[Any]:
        """Scale the gradients down to the norm `global_clipnorm`, or make all NaN if their norm is not finite."""
        norm = ops.sqrt(sum(ops.sum(ops.square(ops.cast(gradient, "float32"))) for gradient in grads))
        if self.gradient_norm is not None:
            self.gradient_norm.assign(norm)
        scale = self.global_clipnorm / ops.maximum(norm, self.global_clipnorm)
        scale = ops.where(ops.isfinite(norm), scale, float("nan"))
        return [gradient * ops.cast(scale, gradient.dtype) for gradient in grads]


class Adam(ClipsSum, keras.optimizers.Adam):
    """`keras.optimizers.Adam`, whose updates are the same on any number of replicas."""
