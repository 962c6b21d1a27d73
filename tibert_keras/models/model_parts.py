"""The parts of a model: checks that they fit together, and other sizes of the table of embeddings."""

import logging
from collections.abc import Mapping
from typing import Any

import keras_nlp
from keras import ops

from tibert_keras.errors import InputError, check_arguments
from tibert_keras.models.encoder_layer import lora_kernels, quantized_policies
from tibert_keras.models.tibert_backbone import TibertBackbone

# The weights with a row for each piece. The table may have more rows than the tokenizer has pieces.
_TABLES = ("token_embedding/embeddings", "mlm_head/output_bias")

_LOG = logging.getLogger(__name__)


def as_tibert_backbone(backbone: keras_nlp.models.AlbertBackbone) -> TibertBackbone:
    """Return the backbone, or, for KerasHub's `AlbertBackbone`, a copy of it as a `TibertBackbone`."""
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
    """Return the encoder as a `TibertBackbone`, if it fits the preprocessor, which may be None.

    An `InputError` is raised for more pieces than embeddings, for sequences longer than the positions, and for unknown
    `arguments` of the model's constructor.
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


def check_vocabulary(rows: int, pieces: int) -> None:
    """Check that a table has a row for each piece of a tokenizer, and log if it has more, which are never predicted."""
    if pieces > rows:
        raise InputError(
            f"The tokenizer and the model disagree. Received: {pieces} pieces in the tokenizer, vocab_size={rows} in "
            "the model. Give the tokenizer that it was trained with."
        )
    if pieces < rows:
        _LOG.info("The table of embeddings has %d rows for %d pieces: the others are never predicted.", rows, pieces)


def resize_vocabulary(model: Any, vocabulary_size: int) -> Any:
    """Make a copy of a model with more rows in its table of embeddings, or fewer.

    Rows keep their ids, and new ones have initial values. Google's checkpoints, for example, may have 30,000 rows for a
    tokenizer of 10,000 pieces, which can be dropped.

    Args:
        model: A `TibertBackbone` or any task.
        vocabulary_size: The number of rows.

    Returns:
        A model of the same class, not compiled, with the other weights as they are.

    Raises:
        InputError: If the model's tokenizer has more pieces, or the model is quantized.

    Example:
    ```python
    model = TibertMaskedLM.from_preset("run/champion")
    smaller = resize_vocabulary(model, model.preprocessor.tokenizer.vocabulary_size())
    ```
    """
    preprocessor = getattr(model, "preprocessor", None)
    pieces = 1 if preprocessor is None else preprocessor.tokenizer.vocabulary_size()
    if vocabulary_size < pieces:
        raise InputError(
            f"Each piece of the tokenizer needs a row. Received: vocabulary_size={vocabulary_size}, {pieces} pieces."
        )
    if len(quantized_policies(model)):
        raise InputError(
            f"A quantized table keeps its size. Received: {type(model).__name__}, quantized. "
            "Resize the model that it was made from."
        )
    config = model.get_config()
    if "backbone" in config:
        config["backbone"]["config"]["vocabulary_size"] = vocabulary_size
        # Its configuration lacks the tokenizer's pieces.
        config["preprocessor"] = None
    else:
        config["vocabulary_size"] = vocabulary_size
    resized = type(model).from_config(config)
    if preprocessor is not None:
        resized.preprocessor = preprocessor
    values = {weight.path: ops.convert_to_numpy(weight) for weight in model.weights}
    # The copy has no low-rank additions.
    values |= {kernel.path: ops.convert_to_numpy(value) for kernel, value, _ in lora_kernels(model)}
    for weight in resized.weights:
        value = values[weight.path]
        if weight.path in _TABLES:
            kept = min(len(value), vocabulary_size)
            value = [*value[:kept], *ops.convert_to_numpy(weight)[kept:]]
        weight.assign(value)
    return resized
