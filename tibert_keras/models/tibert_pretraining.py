"""Both of ALBERT's pretraining tasks in one model: masked tokens and sentence order."""

from __future__ import annotations

import os
from typing import Any

import keras
import keras_nlp

from tibert_keras.errors import InputError
from tibert_keras.models.model_parts import check_parts
from tibert_keras.models.tibert_backbone import TibertBackbone
from tibert_keras.models.tibert_masked_lm import TibertMaskedLM
from tibert_keras.models.training_data import holds_strings
from tibert_keras.optimizers.losses import MaskedLanguageModelLoss, SentenceOrderLoss


@keras.saving.register_keras_serializable(package="tibert_keras")
class TibertPretraining(TibertMaskedLM):
    """An ALBERT encoder that learns to fill in masked tokens and to tell whether two segments are swapped.

    This is the masked language model with a second head, on the pooled output of [CLS]: the sentence-order
    prediction (SOP) of https://arxiv.org/abs/1909.11942. Inputs are those of `TibertMaskedLM`, always integers: the
    preprocessor is only kept for `masked_lm()`. Outputs are logits: `masked_lm`,
    `[batch, predictions, vocabulary_size]`, and `sentence_order`, `[batch, 2]`, whose class 1 is "swapped".

    The loss is the sum of `MaskedLanguageModelLoss` and `SentenceOrderLoss` unless `compile()` is given others.
    `fit()` reports `loss`, `masked_lm_loss`, `sentence_order_loss`, `masked_lm_accuracy` and
    `sentence_order_accuracy`. The pooler is trained.

    `Records.training_batches(..., sop=True)` gives batches for it. `masked_lm()` drops the second head.

    Args:
        backbone: A `TibertBackbone`.
        preprocessor: The preprocessor of `masked_lm()`, saved with the model; or None.
        **kwargs: As for `TibertMaskedLM`.

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

    # `keras_nlp.models.MaskedLM.from_preset` picks a subclass whose `backbone_cls` is the folder's backbone, at random
    # if there are two. None leaves `TibertMaskedLM` the only one; `from_preset` below does not need it.
    backbone_cls: Any = None

    def __init__(self, backbone: TibertBackbone, preprocessor: Any = None, **kwargs: Any) -> None:
        backbone = check_parts(backbone, preprocessor, kwargs)
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
        # Both heads share one call of the backbone; the output of `masked_lm` belongs to another.
        logits, pooled_output = self._predict(masked_lm.input)
        outputs = {"masked_lm": logits, "sentence_order": self.sentence_order_head(pooled_output)}
        # Skips `TibertMaskedLM`'s constructor, which makes its own outputs.
        super(keras_nlp.models.AlbertMaskedLM, self).__init__(inputs=masked_lm.input, outputs=outputs, **kwargs)

    @classmethod
    def from_preset(cls, preset: str | os.PathLike[str], load_weights: bool = True, **kwargs: Any) -> TibertPretraining:
        """Make a model from an architecture's name, or load one, as `TibertMaskedLM.from_preset`.

        The folder of a masked language model gives the backbone and its head; the sentence-order head is then new.
        """
        # Loads the folder's own class, if that is a subclass of `TibertMaskedLM`.
        model = TibertMaskedLM.from_preset(preset, load_weights=load_weights, **kwargs)
        if isinstance(model, cls):
            return model
        options = {name: kwargs[name] for name in ("name", "compile") if name in kwargs}
        pretraining = cls(model.backbone, preprocessor=model.preprocessor, **options)
        pretraining.masked_lm_head.set_weights(model.masked_lm_head.get_weights())
        return pretraining

    def masked_lm(self) -> TibertMaskedLM:
        """Return the masked language model alone, to train on without sentence order.

        Returns:
            A model with this one's backbone and preprocessor, and a copy of its head. Training either changes the
            shared backbone, so continue with only one of them.
        """
        model = TibertMaskedLM(self.backbone, preprocessor=self.preprocessor)
        model.masked_lm_head.set_weights(self.masked_lm_head.get_weights())
        return model

    # === Training ===
    def preprocess_samples(self, x: Any, y: Any = None, sample_weight: Any = None, seed: Any = None) -> Any:
        """Return batches of ids unchanged.

        Raises:
            InputError: If they hold strings: the preprocessor makes no pairs of segments.
        """
        if holds_strings(x):
            raise InputError(
                "Strings tell nothing of the order of sentences. Received: strings. "
                "Give Records.training_batches(..., sop=True), or train masked_lm()."
            )
        return keras.utils.pack_x_y_sample_weight(x, y, sample_weight)

    def _to_predict(self, x: Any) -> Any:
        return x

    def _loss_and_metrics(self) -> tuple[Any, Any]:
        losses = {"masked_lm": MaskedLanguageModelLoss(), "sentence_order": SentenceOrderLoss()}
        # Keras prefixes the name of the output.
        return losses, {output: [keras.metrics.SparseCategoricalAccuracy(name="accuracy")] for output in losses}

    def _trained(self, variables: list[Any]) -> list[Any]:
        # The pooler too, under the sentence-order head.
        return variables
