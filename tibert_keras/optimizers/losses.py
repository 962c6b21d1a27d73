"""The masked language model loss, normalised as Google's ALBERT does it."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="tibert_keras")
class MaskedLanguageModelLoss(keras.losses.Loss):
    """Cross-entropy averaged over the masked tokens of the global batch.

    With *w* the weights (1 for a masked token, 0 for a padded slot), as in `get_masked_lm_output` of
    https://github.com/google-research/albert:

        loss = sum(w * cross_entropy) / (sum(w) + 1e-5)

    Keras's own cross-entropy divides by the number of slots, so that its value depends on the padding. It
    also averages over each replica by itself, and replicas rarely hold equally many masked tokens. Here each
    replica divides by the weights of all of them, so the gradients, which Keras sums, are those of one large
    batch. The value is then the replica's share of the loss, which is what Keras's log of the loss expects.

    The cross-entropy is in float32 whatever the precision of the logits.

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
        super().__init__(name=name, reduction="sum", dtype="float32")

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Compute the loss of a batch.

        Args:
            y_true: The token ids that were masked, integers of shape `[batch, predictions]`.
            y_pred: The logits, of shape `[batch, predictions, vocabulary]`.
            sample_weight: The weights, of the shape of `y_true`; all 1 if None.

        Returns:
            The loss, a float32 scalar; under `tf.distribute` this replica's share of it.

        Raises:
            ValueError: If the ranks of the labels or of the weights do not fit the logits.
        """
        losses = self.call(y_true, y_pred)
        weights = ops.ones_like(losses) if sample_weight is None else ops.cast(sample_weight, "float32")
        if len(weights.shape) != len(losses.shape):
            raise ValueError(
                "`sample_weight` must have one weight for each label. "
                f"Received: sample_weight.shape={weights.shape}, y_true.shape={losses.shape}."
            )
        weights = ops.broadcast_to(weights, ops.shape(losses))
        return ops.sum(weights * losses) / (_sum_over_replicas(ops.sum(weights)) + 1e-5)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Compute the cross-entropy of each prediction, float32 of shape `[batch, predictions]`."""
        y_true, y_pred = ops.convert_to_tensor(y_true), ops.convert_to_tensor(y_pred)
        if len(y_pred.shape) != len(y_true.shape) + 1:
            raise ValueError(
                "The logits must have one axis, the vocabulary, more than the labels. "
                f"Received: y_true.shape={y_true.shape}, y_pred.shape={y_pred.shape}."
            )
        logits = ops.cast(y_pred, "float32")
        return ops.sparse_categorical_crossentropy(ops.cast(y_true, "int32"), logits, from_logits=True)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"name": self.name}


def _sum_over_replicas(value: Any) -> Any:
    """Sum a scalar over the replicas of `tf.distribute`; on JAX a batch is one array over all devices."""
    if keras.backend.backend() != "tensorflow":
        return value
    import tensorflow as tf

    replica = tf.distribute.get_replica_context()
    if replica is None or replica.num_replicas_in_sync == 1:
        return value
    return replica.all_reduce(tf.distribute.ReduceOp.SUM, value)
