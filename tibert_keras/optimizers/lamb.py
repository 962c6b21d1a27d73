"""LAMB, as Google trained ALBERT with it, and optimizers that clip the gradient alike on any number of replicas."""

import logging
import re
from collections.abc import Iterable, Sequence
from typing import Any

import keras
from keras import ops

from tibert_keras.lazy import tf

_LOG = logging.getLogger(__name__)

# Google's list. It matches KerasHub's paths too: ".../self_attention_layer_norm/gamma", ".../bias", "output_bias".
EXCLUDED = ("LayerNorm", "layer_norm", "bias")


class ClipsSum:
    """Mixin before one of Keras's optimizers: clips gradients after they are accumulated and summed over replicas.

    Keras clips before the sum, so its norm of a step grows with the number of replicas.

    Attributes:
        global_clipnorm: The norm to clip to, or None.
        gradient_norm: A float32 variable for the norm before clipping, or None.
    """

    global_clipnorm: float | None
    loss_scale_factor: float | None
    gradient_norm: Any = None

    def apply(self, grads: Sequence[Any], trainable_variables: Any = None) -> None:
        """Update variables by their gradients. Keras fails to scale an embedding's, which consists of rows."""
        if self.loss_scale_factor is not None and keras.backend.backend() == "tensorflow":
            grads = [None if gradient is None else tf.convert_to_tensor(gradient) for gradient in grads]
        super().apply(grads, trainable_variables)  # type: ignore[misc]

    def _clip_gradients(self, grads: Sequence[Any]) -> Sequence[Any]:
        if not self.global_clipnorm:
            return super()._clip_gradients(grads)  # type: ignore[misc]
        # On TensorFlow these are one replica's gradients; `_all_reduce_sum_gradients` clips their sum.
        return grads if keras.backend.backend() == "tensorflow" else self._clip_by_global_norm(grads)

    def _all_reduce_sum_gradients(self, grads_and_vars: Iterable[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
        """Sum over replicas, then clip; only the TensorFlow backend calls this."""
        # An embedding's gradient has one row per lookup. Rows of the same token must be added before the norm is
        # taken, and their sum is far less to send between replicas.
        dense = [(tf.convert_to_tensor(gradient), variable) for gradient, variable in grads_and_vars]
        replica = tf.distribute.get_replica_context()
        # TensorFlow never lets go of the graph of a step that sums over replicas, even over a single one.
        if replica and replica.num_replicas_in_sync > 1:
            dense = super()._all_reduce_sum_gradients(dense)  # type: ignore[misc]
        grads, variables = zip(*dense, strict=True)
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


@keras.saving.register_keras_serializable(package="tibert_keras")
class LAMB(ClipsSum, keras.optimizers.Optimizer):
    """Layer-wise adaptive moments for large batches, in the variant that pretrained ALBERT.

    From https://arxiv.org/abs/1904.00962 as written in `lamb_optimizer.py` of
    https://github.com/google-research/albert. For each variable *w* with gradient *g*:

    ```python
    m = beta_1 * m + (1 - beta_1) * g
    v = beta_2 * v + (1 - beta_2) * g**2
    u = m / (sqrt(v) + epsilon) + weight_decay * w
    w = w - learning_rate * ratio * u      # ratio = norm(w) / norm(u), or 1 if either is 0
    ```

    The norms are L2 norms of whole tensors. `keras.optimizers.Lamb` differs in three points: here the moments have no
    bias correction, the decay is part of the update whose norm is taken, and the parameters of layer normalisations
    and biases take neither decay nor ratio.

    Gradients are first clipped to a global norm, after they are accumulated and summed over replicas.

    Args:
        learning_rate: A float, a `keras.optimizers.schedules.LearningRateSchedule`, or a callable. A schedule
            is called with the number of updates, even if Keras's argument `gradient_accumulation_steps` makes them
            fewer than the batches. (That argument averages the gradients of batches regardless of their weights;
            `TibertMaskedLM.compile` has one of this name that respects them.)
        weight_decay: The factor of the decay, or None for no decay.
        beta_1: The decay of the first moment.
        beta_2: The decay of the second moment.
        epsilon: Added to the root of the second moment.
        global_clipnorm: The norm to clip to, or None for no such clipping. Keras's `clipnorm` or `clipvalue` takes the
            place of the default.
        exclude_from_weight_decay: Regular expressions; variables whose paths match one take no decay.
        exclude_from_layer_adaptation: Regular expressions; variables whose paths match one take no ratio.
        name: The name of the optimizer.
        **kwargs: Other arguments of `keras.optimizers.Optimizer`.

    Attributes:
        gradient_norm: A float32 scalar variable, the global norm of the last gradient before clipping; 0 if
            `global_clipnorm` is None. Itself None until the optimizer is built.

    Example:
    ```python
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(LAMB(WarmupPolynomialDecay(0.00176, decay_steps=100, warmup_steps=10)), loss="mse")
    model.fit(np.ones((8, 4)), np.ones((8, 1)), verbose=0)
    float(model.optimizer.gradient_norm)
    ```
    """

    def __init__(
        self,
        learning_rate: Any = 0.00176,
        *,
        weight_decay: float | None = 0.01,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-6,
        global_clipnorm: float | None = 1.0,
        exclude_from_weight_decay: Sequence[str] = EXCLUDED,
        exclude_from_layer_adaptation: Sequence[str] = EXCLUDED,
        name: str = "lamb",
        **kwargs: Any,
    ) -> None:
        if global_clipnorm == 1.0 and (kwargs.get("clipnorm") or kwargs.get("clipvalue")):
            # Keras takes one kind of clipping.
            global_clipnorm = None
        super().__init__(
            learning_rate=learning_rate, weight_decay=weight_decay, global_clipnorm=global_clipnorm, name=name, **kwargs
        )
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        # `exclude_from_weight_decay` is a method of Keras's optimizers.
        self._decay_exclusions = list(exclude_from_weight_decay)
        self._adaptation_exclusions = list(exclude_from_layer_adaptation)

    def build(self, variables: Sequence[Any]) -> None:
        """Create the moments of the variables to train, and resolve which of these take decay and ratio."""
        if self.built:
            return
        super().build(variables)
        # Resolved only here: during a step, TensorFlow's variables have no paths and JAX's only names.
        self._decayed = self._unmatched(self._decay_exclusions, variables, "weight decay")
        self._adapted = self._unmatched(self._adaptation_exclusions, variables, "layer adaptation")
        self._adam_m, self._adam_v = self.add_optimizer_variables(variables, ["adam_m", "adam_v"])
        self.gradient_norm = self.add_variable(
            shape=(), dtype="float32", aggregation="only_first_replica", name="gradient_norm"
        )

    def _unmatched(self, patterns: Sequence[str], variables: Sequence[Any], what: str) -> frozenset[int]:
        """Return the indices of the variables whose paths match none of the patterns."""
        paths = [variable.path for variable in variables]
        excluded = {i for i, path in enumerate(paths) if any(re.search(pattern, path) for pattern in patterns)}
        _LOG.info("%s: %d of %d variables take no %s.", type(self).__name__, len(excluded), len(paths), what)
        _LOG.debug("Without %s: %s", what, ", ".join(paths[i] for i in sorted(excluded)))
        return frozenset(range(len(paths))) - excluded

    def slots(self, variable: Any) -> dict[str, Any]:
        """Return the moments of a trained variable under Google's names for them, `adam_m` and `adam_v`."""
        index = self._get_variable_index(variable)
        return {"adam_m": self._adam_m[index], "adam_v": self._adam_v[index]}

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update one variable and its moments by its clipped gradient, at the rate of this step."""
        index = self._get_variable_index(variable)
        gradient = ops.cast(gradient, variable.dtype)
        m = self.beta_1 * self._adam_m[index] + (1 - self.beta_1) * gradient
        v = self.beta_2 * self._adam_v[index] + (1 - self.beta_2) * ops.square(gradient)
        update = self._update(variable, variable, m, v)
        if index in self._adapted:
            update = update * _trust_ratio(variable, update)
        self.assign(self._adam_m[index], m)
        self.assign(self._adam_v[index], v)
        self.assign_sub(variable, ops.cast(learning_rate, variable.dtype) * update)

    def trust_ratios(self) -> dict[str, float]:
        """Compute the ratio of each variable that takes one, by path, from its current value and moments."""
        ratios = {}
        for index in sorted(self._adapted):
            variable = self._trainable_variables[index]
            # As arrays: under `tf.distribute` a variable has a copy per replica.
            value, m, v = map(ops.convert_to_numpy, (variable, self._adam_m[index], self._adam_v[index]))
            ratios[variable.path] = float(_trust_ratio(value, self._update(variable, value, m, v)))
        return ratios

    def _update(self, variable: Any, value: Any, m: Any, v: Any) -> Any:
        """Return the update of a variable's value, without ratio and rate."""
        return self._with_decay(variable, value, m / (ops.sqrt(v) + self.epsilon))

    def _with_decay(self, variable: Any, value: Any, update: Any) -> Any:
        # Keras's own list, set by the method `exclude_from_weight_decay`, counts too.
        decays = self._get_variable_index(variable) in self._decayed
        if self.weight_decay and decays and self._use_weight_decay(variable):
            update = update + self.weight_decay * value
        return update

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "beta_1": self.beta_1,
            "beta_2": self.beta_2,
            "epsilon": self.epsilon,
            "exclude_from_weight_decay": list(self._decay_exclusions),
            "exclude_from_layer_adaptation": list(self._adaptation_exclusions),
        }

    # === Hooks of Keras's optimizers ===
    def _get_current_learning_rate(self) -> Any:
        # Keras calls a schedule with the number of batches, which with accumulation exceeds that of updates.
        if isinstance(self._learning_rate, keras.optimizers.schedules.LearningRateSchedule):
            return self._learning_rate(self.iterations)
        return super()._get_current_learning_rate()

    def _apply_weight_decay(self, variables: Sequence[Any]) -> None:
        """Do nothing: the decay belongs to the update, before the ratio."""


def google_optimizer(name: str, learning_rate: Any, **kwargs: Any) -> LAMB:
    """Make one of the optimizers of Google's ALBERT, with the arguments of `LAMB`.

    Their names are `lamb`, and `adamw`: `AdamWeightDecayOptimizer`, the same update without the trust ratio.
    """
    if name == "adamw":
        # An empty pattern matches every path.
        kwargs = {"exclude_from_layer_adaptation": [""], **kwargs}
    return LAMB(learning_rate, name=name, **kwargs)


def _trust_ratio(variable: Any, update: Any) -> Any:
    """Return the norm of a variable over that of its update, or 1 if either is 0."""
    variable_norm, update_norm = ops.norm(ops.reshape(variable, [-1])), ops.norm(ops.reshape(update, [-1]))
    both = ops.logical_and(variable_norm > 0, update_norm > 0)
    return ops.where(both, ops.divide_no_nan(variable_norm, update_norm), 1.0)
