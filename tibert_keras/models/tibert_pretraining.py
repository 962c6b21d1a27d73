"""Both of ALBERT's pretraining tasks in one model: masked tokens and the order of sentences."""

from __future__ import annotations

import os
from typing import Any

import keras

from tibert_keras.models.tibert_backbone import TibertBackbone
from tibert_keras.models.tibert_masked_lm import TibertMaskedLM
from tibert_keras.models.tibert_task import PoolerNotTrained
from tibert_keras.optimizers.losses import MaskedLanguageModelLoss, SentenceOrderLoss

_LOSSES = {"masked_lm": MaskedLanguageModelLoss, "sentence_order": SentenceOrderLoss}


@keras.saving.register_keras_serializable(package="tibert_keras")
class TibertPretraining(TibertMaskedLM):
    """An ALBERT encoder that learns to fill in masked tokens and to tell whether two segments are swapped.

    This is the masked language model with a second head, on the pooled output of [CLS]: the sentence-order
    prediction (SOP) of https://arxiv.org/abs/1909.11942. Inputs are those of `TibertMaskedLM`, as integers: a
    preprocessor is only kept for `masked_lm()`. Outputs are logits: `masked_lm`,
    `[batch, predictions, vocabulary_size]`, and `sentence_order`, `[batch, 2]`, whose class 1 is "swapped".

    The loss is the sum of `MaskedLanguageModelLoss` and `SentenceOrderLoss` unless `compile()` is given others.
    `fit()` reports `loss`, `masked_lm_loss`, `sentence_order_loss`, `masked_lm_accuracy` and
    `sentence_order_accuracy`. The pooler is trained.

    `Records.training_batches(..., sop=True)` gives batches for it. `masked_lm()` drops the second head.

    Args:
        backbone: A `TibertBackbone`.
        preprocessor: The preprocessor of `masked_lm()`, saved with the model; or None.
        **kwargs: Arguments of `keras_nlp.models.MaskedLM`, such as `name`.

    Example:
    ```python
    model = TibertPretraining.from_preset("tibert_nano", vocabulary_size=1000)
    features = {
        "token_ids": np.array([[2, 4, 11, 3, 4, 3]]),
        "segment_ids": np.array([[0, 0, 0, 0, 1, 1]]),
        "padding_mask": np.array([[1, 1, 1, 1, 1, 1]]),
        "mask_positions": np.array([[1, 4, 0]]),
    }
    labels = {"masked_lm": np.array([[10, 12, 0]]), "sentence_order": np.array([1])}
    weights = {"masked_lm": np.array([[1.0, 1.0, 0.0]]), "sentence_order": np.array([1.0])}
    model.fit(features, labels, sample_weight=weights, verbose=0)
    masked_lm = model.masked_lm()
    ```
    """

    # `keras_nlp.models.MaskedLM.from_preset` takes any of its subclasses that has the folder's backbone here, and
    # which of two is left to chance. It is to find `TibertMaskedLM`; `from_preset` below does without.
    backbone_cls: Any = None

    def __init__(self, backbone: TibertBackbone, preprocessor: Any = None, **kwargs: Any) -> None:
        # === Layers ===
        self.backbone = backbone
        self.preprocessor = preprocessor
        masked_lm = TibertMaskedLM(backbone, compile=False, name="masked_lm")
        self.masked_lm_head = masked_lm.masked_lm_head
        self.sentence_order_head = keras.layers.Dense(
            2,
            kernel_initializer=keras.initializers.TruncatedNormal(stddev=0.02),
            dtype=backbone.dtype_policy,
            name="sop_head",
        )

        # === Functional Model ===
        # Both heads on one call of the backbone: the tensors of `masked_lm` would be of another.
        logits, pooled_output = self._predict(masked_lm.input)
        outputs = {"masked_lm": logits, "sentence_order": self.sentence_order_head(pooled_output)}
        # Not `TibertMaskedLM`'s constructor, which makes its own outputs.
        super(TibertMaskedLM, self).__init__(inputs=masked_lm.input, outputs=outputs, **kwargs)

    @classmethod
    def from_preset(cls, preset: str | os.PathLike[str], load_weights: bool = True, **kwargs: Any) -> TibertPretraining:
        """Make a model from an architecture's name, or load one.

        Args:
            preset: As for `TibertMaskedLM.from_preset`. A masked language model's folder gives the backbone and
                its head; the head for the sentence order is then new.
            load_weights: Whether to load a folder's weights.
            **kwargs: As for `TibertMaskedLM.from_preset`.

        Returns:
            The model.

        Raises:
            InputError: If there is no such preset, or the size of the vocabulary is missing or not the
                tokenizer's.
        """
        # Gives what the folder holds, if that is a `TibertMaskedLM` of any kind.
        model = TibertMaskedLM.from_preset(preset, load_weights=load_weights, **kwargs)
        if isinstance(model, cls):
            return model
        options = {name: kwargs[name] for name in ("name", "compile") if name in kwargs}
        pretraining = cls(model.backbone, preprocessor=model.preprocessor, **options)
        pretraining.masked_lm_head.set_weights(model.masked_lm_head.get_weights())
        return pretraining

    def masked_lm(self) -> TibertMaskedLM:
        """Return the masked language model alone, to go on without the sentence order.

        Returns:
            A model over the same backbone, with this one's preprocessor and a head of the same values. What trains
            the one changes the other's backbone, so go on with one of them.
        """
        model = TibertMaskedLM(self.backbone, preprocessor=self.preprocessor)
        model.masked_lm_head.set_weights(self.masked_lm_head.get_weights())
        return model

    # === Training ===
    def preprocess_samples(self, x: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """Leave batches as they are: the preprocessor makes no pairs of segments."""
        return keras.utils.pack_x_y_sample_weight(x, y, sample_weight)

    # KerasHub's two would make one tensor of all labels.
    def train_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        """Train on one batch, as `keras.Model.train_on_batch`."""
        return keras.Model.train_on_batch(self, *args, **kwargs)

    def test_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluate one batch, as `keras.Model.test_on_batch`."""
        return keras.Model.test_on_batch(self, *args, **kwargs)

    def compile(
        self, optimizer: Any = "auto", loss: Any = "auto", *, weighted_metrics: Any = "auto", **kwargs: Any
    ) -> None:
        """Configure the training.

        Args:
            optimizer: As in `keras.Model.compile`; `"auto"` for Adam at 5e-5.
            loss: As in `keras.Model.compile`; `"auto"` for the sum of both tasks' losses.
            weighted_metrics: As in `keras.Model.compile`; `"auto"` for the accuracy of both tasks.
            **kwargs: Other arguments of `keras.Model.compile`.
        """
        if isinstance(loss, str) and loss == "auto":
            loss = {output: kind() for output, kind in _LOSSES.items()}
        if isinstance(weighted_metrics, str) and weighted_metrics == "auto":
            # Keras puts the output's name before the metric's.
            weighted_metrics = {
                output: [keras.metrics.SparseCategoricalAccuracy(name="accuracy")] for output in _LOSSES
            }
        super().compile(optimizer=optimizer, loss=loss, weighted_metrics=weighted_metrics, **kwargs)

    # === Variables ===
    # `PoolerNotTrained` leaves the pooler out; its lists of what is not trained are what these leave.
    @property
    def trainable_variables(self) -> list[Any]:
        """The variables that `fit()` trains: with the pooler's."""
        return super(PoolerNotTrained, self).trainable_variables

    @property
    def trainable_weights(self) -> list[Any]:
        """The weights that `fit()` trains: with the pooler's."""
        return super(PoolerNotTrained, self).trainable_weights
