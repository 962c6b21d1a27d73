"""The losses of pretraining, averaged over the global batch as in Google's ALBERT."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
from keras import ops

from tibert_keras.lazy import tf


class _GlobalBatchLoss(keras.losses.Loss):
    """Cross-entropy averaged, with weights, over the global batch.

    Keras's own cross-entropy averages over each replica separately, and replicas need not hold equally many examples or
    masked tokens. Here each replica divides by the weights of all replicas, so the gradients, which Keras sums, are
    those of one large batch. The value is the replica's share of the loss, as Keras's logs expect.
    """

    def __init__(self, *, name: str) -> None:
        super().__init__(name=name, reduction="sum", dtype="float32")
        self._given_divisor: Any = None

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Compute the loss of a batch, a float32 scalar; under `tf.distribute` this replica's share of it."""
        loss = ops.sum(_weights(y_true, sample_weight) * self.call(y_true, y_pred))
        return loss / (self.divisor(y_true, sample_weight) if self._given_divisor is None else self._given_divisor)

    def divisor(self, y_true: Any, sample_weight: Any = None) -> Any:
        """Return the divisor of a batch's weighted cross-entropies, from the weights of all replicas; never 0."""
        return self._positive_divisor(_sum_over_replicas(ops.sum(_weights(y_true, sample_weight))))

    @contextmanager
    def dividing_by(self, divisor: Any) -> Iterator[None]:
        """Use this divisor while the body runs, as for a part of a batch, which lacks the others' weights."""
        self._given_divisor = divisor
        try:
            yield
        finally:
            self._given_divisor = None

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Compute the cross-entropy of each label, float32 of the labels' shape."""
        y_true, y_pred = ops.convert_to_tensor(y_true), ops.convert_to_tensor(y_pred)
        if len(y_pred.shape) != len(y_true.shape) + 1:
            raise ValueError(
                "The logits must have one axis, the classes, more than the labels. "
                f"Received: y_true.shape={y_true.shape}, y_pred.shape={y_pred.shape}."
            )
        logits = ops.cast(y_pred, "float32")
        return ops.sparse_categorical_crossentropy(ops.cast(y_true, "int32"), logits, from_logits=True)

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name}

    def _positive_divisor(self, total: Any) -> Any:
        """Return a divisor that is never 0, from the sum of the weights: the sum, or 1."""
        return ops.where(total == 0, 1.0, total)


def _weights(y_true: Any, sample_weight: Any) -> Any:
    """Return the weight of each label, float32 of the labels' shape; all 1 if None is given."""
    labels = ops.convert_to_tensor(y_true)
    weights = ops.ones_like(labels, "float32") if sample_weight is None else ops.cast(sample_weight, "float32")
    if len(weights.shape) != len(labels.shape):
        raise ValueError(
            "`sample_weight` must have one weight for each label. "
            f"Received: sample_weight.shape={weights.shape}, y_true.shape={labels.shape}."
        )
    return ops.broadcast_to(weights, ops.shape(labels))


@keras.saving.register_keras_serializable(package="tibert_keras")
class MaskedLanguageModelLoss(_GlobalBatchLoss):
    """Cross-entropy averaged over the masked tokens of the global batch.

    With *w* the weights (1 for a masked token, 0 for a padded slot), as in `get_masked_lm_output` of
    https://github.com/google-research/albert:

        loss = sum(w * cross_entropy) / (sum(w) + 1e-5)

    Keras's own cross-entropy divides by the number of slots, so its value depends on the padding, and it averages
    over each replica separately, though these rarely hold equally many masked tokens. Here the weights are those of
    all replicas, so N replicas train as one does on the whole batch.

    The cross-entropy is in float32 for logits of any precision. Labels are the token ids that were masked,
    `[batch, predictions]`.

    Args:
        name: The name of the loss.

    Example:
    ```python
    labels = np.array([[7, 3, 0], [5, 0, 0]])
    weights = np.array([[1, 1, 0], [1, 0, 0]])
    logits = np.zeros((2, 3, 10), "float32")
    MaskedLanguageModelLoss()(labels, logits, sample_weight=weights)  # log(10), from three tokens
    ```
    """

    def __init__(self, *, name: str = "masked_language_model_loss") -> None:
        super().__init__(name=name)

    def _positive_divisor(self, total: Any) -> Any:
        return total + 1e-5


@keras.saving.register_keras_serializable(package="tibert_keras")
class SentenceOrderLoss(_GlobalBatchLoss):
    """Cross-entropy averaged over the pairs of sentences of the global batch.

    As in `get_sentence_order_output` of https://github.com/google-research/albert, this is the mean of the negative log
    probability of the label: 1 if the pair is swapped, else 0. With weights it is their weighted mean, or 0 if all
    weights are 0. Labels have the shape `[batch]` or, as in Google's records, `[batch, 1]`.

    Keras's own cross-entropy gives the same only if all replicas hold equally many examples. It averages over the
    replicas' means, so the examples of a replica with fewer of them would count more.

    Args:
        name: The name of the loss.

    Example:
    ```python
    labels = np.array([0, 1, 1])
    logits = np.zeros((3, 2), "float32")
    SentenceOrderLoss()(labels, logits)  # log(2)
    ```
    """

    def __init__(self, *, name: str = "sentence_order_loss") -> None:
        super().__init__(name=name)

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        return super().__call__(_one_axis(y_true), y_pred, _one_axis(sample_weight))

    def divisor(self, y_true: Any, sample_weight: Any = None) -> Any:
        """Return the sum of the weights of all replicas, or 1 if that is 0."""
        return super().divisor(_one_axis(y_true), _one_axis(sample_weight))


def _one_axis(values: Any) -> Any:
    """Reshape `[batch, 1]` to `[batch]`; return other shapes and None as they are."""
    if values is None:
        return None
    values = ops.convert_to_tensor(values)
    return ops.squeeze(values, -1) if len(values.shape) == 2 and values.shape[-1] == 1 else values


def _sum_over_replicas(value: Any) -> Any:
    """Sum a scalar over the replicas of `tf.distribute`. On JAX a batch is a single array over all devices."""
    if keras.backend.backend() != "tensorflow":
        return value
    replica = tf.distribute.get_replica_context()
    if replica is None or replica.num_replicas_in_sync == 1:
        return value
    return replica.all_reduce(tf.distribute.ReduceOp.SUM, value)
