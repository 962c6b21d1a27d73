"""The table of embeddings, which may have more rows than the tokenizer has pieces, and its size."""

import logging
from typing import Any

from keras import ops

from tibert_keras.errors import InputError

# The weights with a row for each piece.
_TABLES = ("token_embedding/embeddings", "mlm_head/output_bias")

_LOG = logging.getLogger(__name__)


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
        InputError: If the model's tokenizer has more pieces.

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
    for weight in resized.weights:
        value = values[weight.path]
        if weight.path in _TABLES:
            kept = min(len(value), vocabulary_size)
            value = [*value[:kept], *ops.convert_to_numpy(weight)[kept:]]
        weight.assign(value)
    return resized
