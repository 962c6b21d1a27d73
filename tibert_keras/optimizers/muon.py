"""Muon: orthogonalised momentum for the matrices of the layers, and Adam for the rest."""

import math
import re
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from tibert_keras.optimizers.lamb import LAMB

# What Adam updates although it has two axes: tables of tokens, positions and segments, a last layer, biases of heads.
_NO_MATRICES = ("token_embedding", "position_embedding", "segment_embedding", "sop_head", "bias")
# Of the quintic Newton-Schulz iteration.
_A, _B, _C = 3.4445, -4.7750, 2.0315
_ITERATIONS = 5


@keras.saving.register_keras_serializable(package="tibert_keras")
class Muon(LAMB):
    """Momentum whose matrices are orthogonalised, for the matrices of the layers; Adam for all other variables.

    From https://kellerjordan.github.io/posts/muon, with the scale of https://arxiv.org/abs/2502.16982, at which one
    rate and decay serve both kinds of variables. For a matrix *w* of *n* rows and *k* columns with gradient *g*:

        m = momentum * m + g
        u = 0.2 * sqrt(max(n, k)) * orthogonal(g + momentum * m) + weight_decay * w
        w = w - learning_rate * u

    where `orthogonal` brings the singular values close to 1 in five steps of Newton and Schulz. Attention's kernels,
    `[units, heads, size]` and `[heads, size, units]`, count as matrices, which those of `keras.optimizers.Muon` do not.
    All other variables take the update of `LAMB` without its ratio, which is Adam's without bias correction. Gradients
    are clipped as by `LAMB`.

    Args:
        learning_rate: As in `LAMB`.
        momentum: The decay of the momentum of matrices.
        beta_2: The decay of the second moment of the other variables.
        name: The name of the optimizer.
        **kwargs: Other arguments of `LAMB`.

    Example:
    ```python
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    model.compile(Muon(0.002), loss="mse")
    model.fit(np.ones((8, 4)), np.ones((8, 3)), verbose=0)
    ```
    """

    def __init__(
        self,
        learning_rate: Any = 0.002,
        *,
        momentum: float = 0.95,
        beta_2: float = 0.99,
        name: str = "muon",
        **kwargs: Any,
    ) -> None:
        # An empty pattern matches every path: no variable takes LAMB's ratio.
        kwargs = {"exclude_from_layer_adaptation": [""], **kwargs}
        super().__init__(learning_rate, beta_2=beta_2, name=name, **kwargs)
        self.momentum = momentum

    def build(self, variables: Sequence[Any]) -> None:
        """Create the moments, and resolve which variables are matrices."""
        if self.built:
            return
        super().build(variables)
        self._matrices = {
            index: _matrix_shape(variable.shape)
            for index, variable in enumerate(variables)
            if len(variable.shape) > 1 and not any(re.search(pattern, variable.path) for pattern in _NO_MATRICES)
        }

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update one variable and its moments by its clipped gradient."""
        index = self._get_variable_index(variable)
        if index not in self._matrices:
            super().update_step(gradient, variable, learning_rate)
            return
        rows, columns = self._matrices[index]
        gradient = ops.cast(gradient, variable.dtype)
        m = self.momentum * self._adam_m[index] + gradient
        update = _orthogonal(ops.reshape(gradient + self.momentum * m, [rows, columns]))
        update = 0.2 * max(rows, columns) ** 0.5 * ops.reshape(update, variable.shape)
        update = self._with_decay(variable, variable, update)
        self.assign(self._adam_m[index], m)
        self.assign_sub(variable, ops.cast(learning_rate, variable.dtype) * update)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "momentum": self.momentum}


def _matrix_shape(shape: Sequence[int]) -> tuple[int, int]:
    """The matrix of a kernel: its heads go with their size, which is smaller than the units."""
    first, last, size = shape[0], shape[-1], math.prod(shape)
    return (first, size // first) if first >= last else (size // last, last)


def _orthogonal(matrix: Any) -> Any:
    """Bring the singular values of a matrix close to 1."""
    tall = matrix.shape[0] > matrix.shape[1]
    x = ops.transpose(matrix) if tall else matrix
    x = x / (ops.norm(x) + 1e-7)
    for _ in range(_ITERATIONS):
        square = ops.matmul(x, ops.transpose(x))
        x = _A * x + ops.matmul(_B * square + _C * ops.matmul(square, square), x)
    return ops.transpose(x) if tall else x
