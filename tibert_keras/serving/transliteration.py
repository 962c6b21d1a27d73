"""Transliterates the texts of requests, for those who read or type Wylie."""

from __future__ import annotations

from tibert_keras.corpus.transliteration import (
    TibetanConverter,
    lacks_tibetan,
    no_tibetan,
    recognize_transliteration,
    to_wylie,
)
from tibert_keras.serving.protocol import RequestError, parse_object, parse_texts

# They take a fifth of a second.
MAX_CHARACTERS = 100_000
SCRIPTS = ("tibetan", "wylie")


def transliterate(body: bytes) -> list[str]:
    """Answer a request: convert texts to Tibetan script from what they look like, Wylie or ACIP, or to Wylie.

    Raises:
        RequestError: If the body is malformed, there is too much text, or one to convert is no transliteration.
    """
    fields = parse_object(body)
    texts, script = parse_texts(fields), fields.get("to")
    if script not in SCRIPTS:
        raise RequestError(400, f"'to' must be one of {', '.join(SCRIPTS)}.")
    if (size := sum(map(len, texts))) > MAX_CHARACTERS:
        raise RequestError(
            400, f"A request may have {MAX_CHARACTERS} characters. Received: {size}. Send less at a time."
        )
    return [to_wylie(text) if script == "wylie" else _to_tibetan(text) for text in texts]


def _to_tibetan(text: str) -> str:
    if not lacks_tibetan(text):
        return text
    if (kind := recognize_transliteration(text)) is None:
        raise RequestError(400, str(no_tibetan(text)))
    return TibetanConverter(kind).convert(text)
