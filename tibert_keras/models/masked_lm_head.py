"""The head of the masked language model, which stays tied to the embeddings when a model is cloned."""

from typing import Any, Self

import keras
import keras_nlp

from tibert_keras.models.encoder_layer import layer_behind
from tibert_keras.models.tibert_backbone import TibertBackbone


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

    Example:
    ```python
    head = MaskedLMHead(vocabulary_size=backbone.vocabulary_size)
    logits = head(backbone(backbone.input)["sequence_output"], keras.Input((None,), dtype="int32"))
    ```
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
