"""A SentencePiece model in a folder of another format, and the options of ours that it does not hold."""

from __future__ import annotations

from typing import Any

from tibert_keras.errors import InputError
from tibert_keras.models.tibert_tokenizer import TibertTokenizer
from tibert_keras.storage import exists, join, read_bytes, read_json

# A file of transformers'; beside a checkpoint of Google's it holds nothing but our options.
TOKENIZER_CONFIG_FILE = "tokenizer_config.json"

_OPTIONS_KEY = "tibert_tokenizer"
_OPTIONS = ("tsheg_pretokenization", "underline_between_sections")


def read_tokenizer_config(folder: str) -> dict[str, Any]:
    """Read a folder's `tokenizer_config.json`, or nothing if it has none.

    Raises:
        InputError: If it is damaged.
    """
    path = join(folder, TOKENIZER_CONFIG_FILE)
    what, advice = "a configuration of a tokenizer", "Give the folder of an ALBERT."
    return read_json(path, what=what, advice=advice) if exists(path) else {}


def make_tokenizer(spm_model_file: str, config: dict[str, Any]) -> TibertTokenizer:
    """Make the tokenizer of a SentencePiece model, with the options of ours that a configuration names.

    Raises:
        InputError: If the model cannot be read, or is none that a model of ours takes.
    """
    given = config.get(_OPTIONS_KEY)
    options = given if isinstance(given, dict) else {}
    named = {name: bool(options[name]) for name in _OPTIONS if name in options}
    content = read_bytes(spm_model_file)
    try:
        return TibertTokenizer(content, **named)
    except InputError as error:
        raise InputError(f"{error} It is of {spm_model_file!r}: give the model's own tokenizer.") from error


def options_of(tokenizer: TibertTokenizer) -> dict[str, Any]:
    """Our options, for `tokenizer_config.json`."""
    return {_OPTIONS_KEY: {name: getattr(tokenizer, name) for name in _OPTIONS}}
