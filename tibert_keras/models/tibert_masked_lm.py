"""The masked language model, for pretraining and for filling gaps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import keras
import keras_nlp
from keras import ops

from tibert_keras.models.encoder_layer import layer_behind
from tibert_keras.models.model_parts import check_parts
from tibert_keras.models.tibert_backbone import TibertBackbone
from tibert_keras.models.tibert_masked_lm_preprocessor import TibertMaskedLMPreprocessor
from tibert_keras.models.tibert_task import PoolerNotTrained
from tibert_keras.models.training_data import as_texts, holds_ids, holds_strings, is_grain, is_stream, preprocessed
from tibert_keras.optimizers.losses import MaskedLanguageModelLoss


@keras.saving.register_keras_serializable(package="tibert_keras")
def gelu_tanh(x: Any) -> Any:
    """GELU in its tanh approximation, which is what Google's ALBERT calls "gelu"."""
    return keras.activations.gelu(x, approximate=True)


# Keras names a layer's weights in files by its class: the name is KerasHub's.
class MaskedLMHead(keras_nlp.layers.MaskedLMHead):
    """KerasHub's `MaskedLMHead` with Google's numerics, and the embeddings of the encoder that it is called on.

    `keras.models.clone_model` and `keras.saving` make a head from its configuration, where KerasHub's gets an embedding
    of its own.

    Args:
        vocabulary_size: The number of rows of the embedding.
        token_embedding: The embedding; by default that of the `TibertBackbone` whose output it is called on first.
        **kwargs: Arguments of `keras_nlp.layers.MaskedLMHead`.
    """

    token_embedding: Any

    def __init__(self, vocabulary_size: int, token_embedding: Any = None, **kwargs: Any) -> None:
        options: dict[str, Any] = {"intermediate_activation": gelu_tanh, "layer_norm_epsilon": 1e-12}
        options["kernel_initializer"] = keras.initializers.TruncatedNormal(stddev=0.02)
        super().__init__(vocabulary_size, token_embedding, **{**options, **kwargs})
        # Without autocast, KerasHub's head adds a float32 bias to bfloat16 logits, which TensorFlow refuses.
        self.autocast = True

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        if self.token_embedding is None and isinstance(encoder := layer_behind(inputs), TibertBackbone):
            self.token_embedding = encoder.token_embedding
        return super().__call__(inputs, *args, **kwargs)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Make a head from the result of `get_config`, without an embedding yet."""
        return super().from_config({**config, "token_embedding": None})


@keras.saving.register_keras_serializable(package="tibert_keras")
class TibertMaskedLM(PoolerNotTrained, keras_nlp.models.AlbertMaskedLM):
    """An ALBERT encoder that fills in masked tokens, for pretraining and for filling gaps.

    Inputs are integers: `token_ids`, `segment_ids` and `padding_mask` of shape `[batch, sequence]`, and
    `mask_positions`, `[batch, predictions]`. Outputs are logits, `[batch, predictions, vocabulary_size]`.
    With a preprocessor, `fit()`, `evaluate()` and `predict()` take strings.

    Unless `compile()` is given others, the loss is `MaskedLanguageModelLoss`, and the metric `masked_lm_accuracy`. The
    masked language model does not use the backbone's pooler and does not train it: `trainable_variables` leaves it out,
    as an optimizer would decay it under a gradient of zero. It is saved and loaded with the rest, and stays trainable
    in the backbone for other tasks.

    Args:
        backbone: A `TibertBackbone`; an `AlbertBackbone` is copied.
        preprocessor: A `keras_nlp.models.MaskedLMPreprocessor`, or None if inputs are ids.
        **kwargs: `name`, `trainable` and `compile`.

    Raises:
        InputError: If the preprocessor's tokenizer or sequences do not fit the backbone.

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

    def __init__(self, backbone: TibertBackbone, preprocessor: Any = None, **kwargs: Any) -> None:
        backbone = check_parts(backbone, preprocessor, kwargs)
        # === Layers ===
        self.backbone = backbone
        self.preprocessor = preprocessor
        self.masked_lm_head = MaskedLMHead(
            vocabulary_size=backbone.vocabulary_size,
            token_embedding=backbone.token_embedding,
            dtype=backbone.dtype_policy,
            name="mlm_head",
        )

        # === Functional Model ===
        inputs = {**backbone.input, "mask_positions": keras.Input(shape=(None,), dtype="int32", name="mask_positions")}
        # Skips the constructor of `AlbertMaskedLM`, whose head computes something else.
        super(keras_nlp.models.AlbertMaskedLM, self).__init__(inputs=inputs, outputs=self._predict(inputs)[0], **kwargs)

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

    # === Data ===
    def preprocess_samples(self, x: Any, y: Any = None, sample_weight: Any = None, seed: Any = None) -> Any:
        """Preprocess and mask a batch, unless it consists of ids."""
        if seed is None or holds_ids(x) or not isinstance(self.preprocessor, TibertMaskedLMPreprocessor):
            return super().preprocess_samples(x, y, sample_weight)
        return self.preprocessor(x, y=None, seed=seed)

    def predict(self, x: Any = None, batch_size: int | None = None, **kwargs: Any) -> Any:
        """Return the logits at masked tokens, as `keras.Model.predict`.

        Args:
            x: The inputs of `fit`. In strings, the tokens to predict are the `[MASK]`s of each text, in order; a text
                without any is masked at random, as in training.
            batch_size: Examples per step, 32 by default.
            **kwargs: Other arguments of `keras.Model.predict`.

        Returns:
            Logits, float `[texts, predictions, vocabulary_size]`. `fill_mask` gives pieces and probabilities.

        Raises:
            InputError: As `fit`, or if a mask lies behind the end of a sequence.
        """
        return super().predict(self._to_predict(x), batch_size, **kwargs)

    def predict_on_batch(self, x: Any, **kwargs: Any) -> Any:
        """Return the logits of one batch, as `predict`."""
        return super().predict_on_batch(self._to_predict(x), **kwargs)

    def _to_predict(self, x: Any) -> Any:
        if not isinstance(self.preprocessor, TibertMaskedLMPreprocessor) or is_grain(x):
            return x
        call = self.preprocessor.call_to_predict
        if is_stream(x):
            return preprocessed(x, lambda x, *_: call(x) if holds_strings(x) else x, seed=0, anew=False)
        return call(as_texts(x)) if holds_strings(x) else x

    def _next_seed(self) -> int:
        if isinstance(self.preprocessor, TibertMaskedLMPreprocessor):
            return self.preprocessor.next_seed()
        return super()._next_seed()

    def fill_mask(self, texts: Sequence[str] | str, *, top_k: int = 5, batch_size: int = 32) -> list[Any]:
        """Fill the `[MASK]`s in texts, as `tibert_keras.fill_mask` does with this model."""
        import tibert_keras

        return tibert_keras.fill_mask(texts, model=self, top_k=top_k, batch_size=batch_size)

    def fill_gaps(self, texts: Sequence[str] | str, *, top_k: int = 5) -> list[list[list[Any]]]:
        """Guess whole syllables in the gaps of texts, as `tibert_keras.fill_gaps` does with this model."""
        import tibert_keras

        return tibert_keras.fill_gaps(texts, model=self, top_k=top_k)

    def _loss_and_metrics(self) -> tuple[Any, Any]:
        return MaskedLanguageModelLoss(), [keras.metrics.SparseCategoricalAccuracy(name="masked_lm_accuracy")]
