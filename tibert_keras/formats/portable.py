"""What goes from one format to another: a model, and the state of its training where there is one."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from tibert_keras.errors import InputError
from tibert_keras.formats.renaming import split_slot
from tibert_keras.models.tibert_backbone import TibertBackbone, check_albert_config
from tibert_keras.models.tibert_classifier import TibertClassifier
from tibert_keras.models.tibert_masked_lm_preprocessor import TibertMaskedLMPreprocessor
from tibert_keras.models.tibert_tokenizer import TibertTokenizer

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class PortableModel:
    """A model between two formats.

    Attributes:
        model: A `TibertBackbone`, `TibertMaskedLM`, `TibertPretraining` or a classifier, in float32.
        moments: The optimizer's, by the path of their variable with `/adam_m` or `/adam_v` behind it; may be empty.
        step: The global step of its training, or `None` if it is not known.
        tokenizer: The model's tokenizer, or `None`.

    Example:
    ```python
    portable = PortableModel(model=TibertMaskedLM.from_preset("run/champion"))
    portable.weights["mlm_head/output_bias"].shape  # (vocabulary_size,)
    ```
    """

    model: Any
    moments: Mapping[str, np.ndarray] = field(default_factory=dict)
    step: int | None = None
    tokenizer: TibertTokenizer | None = None

    @property
    def backbone(self) -> TibertBackbone:
        """The encoder."""
        return self.model if isinstance(self.model, TibertBackbone) else self.model.backbone

    @property
    def weights(self) -> dict[str, np.ndarray]:
        """The weights by path."""
        return {weight.path: keras.ops.convert_to_numpy(weight) for weight in self.model.weights}


def architecture(config: Mapping[str, Any]) -> dict[str, Any]:
    """Check a configuration of Google's for a trained model, and leave out what only an untrained one needs.

    Of two different dropouts, which only a further training would use, one is left: our encoder has no other.

    Raises:
        InputError: If something in it is not supported.
    """
    config = {name: value for name, value in config.items() if name != "initializer_range"}
    hidden, attention = config.get("hidden_dropout_prob"), config.get("attention_probs_dropout_prob")
    if type(attention) in (int, float) and hidden != attention:
        _LOG.warning(
            "hidden_dropout_prob=%s holds for the whole encoder from here on; attention_probs_dropout_prob=%s is left "
            "out. What the model computes does not change, only how it would be trained further.",
            hidden,
            attention,
        )
        config["attention_probs_dropout_prob"] = hidden
    check_albert_config(config)
    return config


def fill(
    full: Any,
    arrays: Mapping[str, np.ndarray],
    *,
    step: int | None = None,
    tokenizer: TibertTokenizer | None = None,
) -> PortableModel:
    """Give a full model the values of a foreign format, and leave out the heads that it did not bring.

    Args:
        full: A model with every part that the format may bring: a `TibertPretraining`, or a classifier.
        arrays: Variables and moments by path.
        step: The global step.
        tokenizer: The tokenizer.

    Returns:
        The portable model: a classifier, or with a head for the order of sentences or for masked tokens, or an encoder
        alone.

    Raises:
        InputError: If the tokenizer's vocabulary has another size, or there is a head for the order of sentences and
            none for masked tokens.
    """
    check_vocabulary(full.backbone, tokenizer)
    masked_lm, order = ("mlm_head/output_bias" in arrays), ("sop_head/kernel" in arrays)
    if order and not masked_lm:
        raise InputError(
            "A head for the order of sentences stands alone. Received: weights without a head for masked tokens. "
            "Give the weights of a whole pretraining, or of an encoder."
        )
    for weight in full.weights:
        if weight.path in arrays:
            weight.assign(arrays[weight.path])
    length = full.backbone.max_sequence_length
    model: Any = full
    if isinstance(full, TibertClassifier):
        if tokenizer is not None:
            full.preprocessor = full.preprocessor_cls(tokenizer, labels=list(full.labels), sequence_length=length)
    else:
        if tokenizer is not None:
            full.preprocessor = TibertMaskedLMPreprocessor(tokenizer, sequence_length=length)
        model = full if order else full.masked_lm() if masked_lm else full.backbone
    if new := [weight.path for weight in model.weights if weight.path not in arrays]:
        _LOG.info("New, with initial values, because they are missing there: %s.", ", ".join(new))
    moments = {name: array for name, array in arrays.items() if split_slot(name)[1]}
    return PortableModel(model=model, moments=moments, step=step, tokenizer=tokenizer)


def check_vocabulary(backbone: TibertBackbone, tokenizer: TibertTokenizer | None) -> None:
    """Check that ids mean the same to both.

    Raises:
        InputError: If their vocabularies differ in size.
    """
    if tokenizer is not None and tokenizer.vocabulary_size() != backbone.vocabulary_size:
        raise InputError(
            f"The tokenizer and the model disagree. Received: {tokenizer.vocabulary_size()} pieces in the tokenizer, "
            f"vocab_size={backbone.vocabulary_size} in the model. Give the tokenizer that it was trained with."
        )
