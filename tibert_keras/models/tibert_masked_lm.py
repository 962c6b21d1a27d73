"""The masked language model, for pretraining and for filling gaps."""

from __future__ import annotations

from typing import Any

import keras
import keras_nlp
from keras import ops

from tibert_keras.errors import InputError
from tibert_keras.models.encoder_layer import set_rematerialization
from tibert_keras.models.gradient_accumulation import accumulated_train_step
from tibert_keras.models.tibert_backbone import TibertBackbone
from tibert_keras.models.tibert_masked_lm_preprocessor import TibertMaskedLMPreprocessor
from tibert_keras.models.tibert_task import PoolerNotTrained
from tibert_keras.optimizers.losses import MaskedLanguageModelLoss


@keras.saving.register_keras_serializable(package="tibert_keras")
def gelu_tanh(x: Any) -> Any:
    """GELU in its tanh approximation, which is what Google's ALBERT calls "gelu"."""
    return keras.activations.gelu(x, approximate=True)


@keras.saving.register_keras_serializable(package="tibert_keras")
class TibertMaskedLM(PoolerNotTrained, keras_nlp.models.MaskedLM):
    """An ALBERT encoder that fills in masked tokens, for pretraining and for filling gaps.

    Inputs are integers: `token_ids`, `segment_ids` and `padding_mask` of shape `[batch, sequence]`, and
    `mask_positions`, `[batch, predictions]`. Outputs are logits, `[batch, predictions, vocabulary_size]`.
    With a preprocessor, `fit()`, `evaluate()` and `predict()` take strings.

    The loss is `MaskedLanguageModelLoss` unless `compile()` is given another. The masked language model does not use
    the backbone's pooler and does not train it: `trainable_variables` leaves it out, as an optimizer would decay it
    under a gradient of zero. It is saved and loaded with the rest, and stays trainable in the backbone for other
    tasks.

    Args:
        backbone: A `TibertBackbone`.
        preprocessor: A `keras_nlp.models.MaskedLMPreprocessor`, or None if inputs are ids.
        **kwargs: Arguments of `keras_nlp.models.MaskedLM`, such as `name`.

    Example:
    ```python
    model = TibertMaskedLM.from_preset("tibert_nano", vocabulary_size=1000)
    features = {
        "token_ids": np.array([[2, 4, 11, 4, 3, 0]]),
        "segment_ids": np.array([[0, 0, 0, 0, 0, 0]]),
        "padding_mask": np.array([[1, 1, 1, 1, 1, 0]]),
        "mask_positions": np.array([[1, 3, 0]]),
    }
    model.fit(features, np.array([[10, 12, 0]]), sample_weight=np.array([[1.0, 1.0, 0.0]]), verbose=0)
    ```
    """

    preprocessor_cls = TibertMaskedLMPreprocessor
    gradient_accumulation_steps = 1
    rematerialize = False

    def __init__(self, backbone: TibertBackbone, preprocessor: Any = None, **kwargs: Any) -> None:
        # === Layers ===
        self.backbone = backbone
        self.preprocessor = preprocessor
        self.masked_lm_head = keras_nlp.layers.MaskedLMHead(
            vocabulary_size=backbone.vocabulary_size,
            token_embedding=backbone.token_embedding,
            intermediate_activation=gelu_tanh,
            layer_norm_epsilon=1e-12,
            kernel_initializer=keras.initializers.TruncatedNormal(stddev=0.02),
            dtype=backbone.dtype_policy,
            name="mlm_head",
        )
        # Without autocast, KerasHub's head adds a float32 bias to bfloat16 logits, which TensorFlow refuses.
        self.masked_lm_head.autocast = True

        # === Functional Model ===
        inputs = {
            **backbone.input,
            "mask_positions": keras.Input(shape=(None,), dtype="int32", name="mask_positions"),
        }
        super().__init__(inputs=inputs, outputs=self._predict(inputs)[0], **kwargs)

    def masked_lm(self) -> TibertMaskedLM:
        """Return the masked language model alone: this model, as it has no other task."""
        return self

    def _predict(self, inputs: dict[str, Any]) -> tuple[Any, Any]:
        """Return the symbolic logits of the masked tokens and pooled output."""
        positions = inputs["mask_positions"]
        features = {name: value for name, value in inputs.items() if name != "mask_positions"}
        encoded = self.backbone(features, positions=positions)
        # The head gathers positions too. These are gathered already, so it takes the first, the second, and so on.
        picked = ops.cumsum(ops.ones_like(positions), axis=1) - 1
        return self.masked_lm_head(encoded["sequence_output"], picked), encoded["pooled_output"]

    # === Training ===
    def compile(
        self,
        optimizer: Any = "auto",
        loss: Any = "auto",
        *,
        weighted_metrics: Any = "auto",
        gradient_accumulation_steps: int = 1,
        rematerialize: bool = False,
        **kwargs: Any,
    ) -> None:
        """Configure the training.

        Args:
            optimizer: As in `keras.Model.compile`; `"auto"` for Adam at 5e-5.
            loss: As in `keras.Model.compile`; `"auto"` for `MaskedLanguageModelLoss`.
            weighted_metrics: As in `keras.Model.compile`; `"auto"` for `masked_lm_accuracy`, on masked tokens.
            gradient_accumulation_steps: The number of micro-batches in which a training step computes the gradient of
                its batch, to save memory. It must divide the batch of each replica. But for dropout's draws, the step
                equals that of the whole batch, however weights are spread over the parts. (The argument of this name
                of Keras's optimizers differs: it averages the gradients of whole batches.)
            rematerialize: Whether a training step computes each layer of the encoder again in the backward pass
                instead of keeping its activations. This is slower, needs memory that hardly grows with the depth, and
                changes no number, dropout's draws included.
            **kwargs: Other arguments of `keras.Model.compile`.

        Raises:
            InputError: If `gradient_accumulation_steps` is not positive.
        """
        if gradient_accumulation_steps < 1:
            raise InputError(
                "The number of parts of a batch must be positive. "
                f"Received: gradient_accumulation_steps={gradient_accumulation_steps}."
            )
        self.gradient_accumulation_steps, self.rematerialize = gradient_accumulation_steps, rematerialize
        for group in self.backbone.transformer_layers:
            for layer in group:
                set_rematerialization(layer, rematerialize)
        if isinstance(loss, str) and loss == "auto":
            loss = MaskedLanguageModelLoss()
        if isinstance(weighted_metrics, str) and weighted_metrics == "auto":
            weighted_metrics = [keras.metrics.SparseCategoricalAccuracy(name="masked_lm_accuracy")]
        super().compile(optimizer=optimizer, loss=loss, weighted_metrics=weighted_metrics, **kwargs)

    def get_compile_config(self) -> dict[str, Any]:
        """Return the arguments of `compile()`."""
        ours = {name: getattr(self, name) for name in ("gradient_accumulation_steps", "rematerialize")}
        return {**super().get_compile_config(), **ours}

    def train_step(self, *args: Any) -> Any:
        """Take a training step, from the data (TensorFlow) or the state and the data (JAX)."""
        if self.gradient_accumulation_steps == 1:
            return super().train_step(*args)
        return accumulated_train_step(self, *args, steps=self.gradient_accumulation_steps)
