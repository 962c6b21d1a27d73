"""Checks that the parts of a model fit together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras_nlp

from tibert_keras.errors import InputError, check_arguments
from tibert_keras.models.tibert_backbone import TibertBackbone
from tibert_keras.models.vocabulary import check_vocabulary


def as_tibert_backbone(backbone: keras_nlp.models.AlbertBackbone) -> TibertBackbone:
    """Return the backbone, or, for KerasHub's `AlbertBackbone`, a copy of it as a `TibertBackbone`.

    Raises:
        InputError: If it is a backbone of another kind.
    """
    if isinstance(backbone, TibertBackbone):
        return backbone
    if not isinstance(backbone, keras_nlp.models.AlbertBackbone):
        raise InputError(
            f"The encoder must be an ALBERT. Received: {type(backbone).__name__}. "
            "Give a TibertBackbone or an AlbertBackbone."
        )
    copy = TibertBackbone.from_config(backbone.get_config())
    copy.set_weights(backbone.get_weights())
    return copy


def check_parts(backbone: Any, preprocessor: Any, arguments: Mapping[str, Any] | None = None) -> TibertBackbone:
    """Check that the parts of a model fit together.

    Args:
        backbone: The encoder.
        preprocessor: The preprocessor, or None.
        arguments: The other arguments of the model's constructor.

    Returns:
        The encoder as a `TibertBackbone`.

    Raises:
        InputError: If there is no such argument, the tokenizer has more pieces than the encoder has embeddings, or the
            sequences are longer than the encoder has positions.
    """
    advice = "Give sizes and dropout of the encoder to TibertBackbone.from_preset."
    check_arguments("The model", arguments or {}, {"name", "trainable", "compile"}, advice)
    backbone = as_tibert_backbone(backbone)
    tokenizer: Any = getattr(preprocessor, "tokenizer", None)
    # A preset's tokenizer gets its vocabulary after the model is made.
    if getattr(tokenizer, "proto", None) is not None:
        check_vocabulary(backbone.vocabulary_size, tokenizer.vocabulary_size())
    length = getattr(preprocessor, "sequence_length", None)
    if length is not None and length > backbone.max_sequence_length:
        raise InputError(
            "The sequences are longer than the model has positions. Received: "
            f"sequence_length={length}, max_sequence_length={backbone.max_sequence_length}. Shorten the former."
        )
    return backbone


def refuse_backbone(cls: type, arguments: Mapping[str, Any]) -> None:
    """Raise `InputError` if there is an encoder among the arguments of `from_preset`, which loads one."""
    if "backbone" in arguments:
        raise InputError(
            f"A preset brings its own encoder. Received: backbone={type(arguments['backbone']).__name__}. "
            f"Call {cls.__name__}(backbone, ...) for another."
        )


def vocabulary_size_for(given: int | None, preprocessor: Any) -> int | None:
    """Return the vocabulary size, by default that of the tokenizer if there is one."""
    if preprocessor is None:
        return given
    size = preprocessor.tokenizer.vocabulary_size()
    if given is None:
        return size
    check_vocabulary(given, size)
    return given
