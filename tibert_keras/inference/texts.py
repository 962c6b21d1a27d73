"""Reads the texts of a file whose gaps are to be filled."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping

from tibert_keras.corpus.recognition import is_xml, text_lines
from tibert_keras.errors import InputError
from tibert_keras.transcription import GAP


def list_texts(texts: Iterable[str] | str) -> list[str]:
    """Return texts, or a single one, as a list."""
    if isinstance(texts, str):
        return [texts]
    if not isinstance(texts, Iterable) or isinstance(texts, Mapping):
        raise InputError(f"Texts come in a list. Received: {texts!r:.80}. Give strings.")
    texts = list(texts)
    if others := [text for text in texts if not isinstance(text, str)]:
        raise InputError(f"A text is not a string. Received: {others[0]!r:.80}. Give strings in a list.")
    return texts


def read_texts(path: str | os.PathLike[str]) -> Iterator[tuple[int, str]]:
    """Yield the texts of a file with the numbers of their lines, except empty lines.

    Args:
        path: A UTF-8 file with a text per line, or, if its name ends in `.jsonl`, a JSON object with a `text` per line.
            Of a TEI file, the lines that have gaps.
    """
    name = os.fspath(path)
    is_text = GAP.search if is_xml(name) else bool
    for number, line in enumerate(text_lines(name), 1):
        if is_text(line):
            yield number, _text_of(line, number) if name.endswith(".jsonl") else line


def _text_of(line: str, number: int) -> str:
    try:
        text = json.loads(line)["text"]
        if not isinstance(text, str):
            raise TypeError
    except (ValueError, LookupError, TypeError) as error:
        raise InputError(
            f'Line {number} is not a JSON object with a text. Received: {line[:100]!r}. Write {{"text": "..."}}.'
        ) from error
    return text
