"""Answers requests about texts: fills their gaps, and transliterates them for those who read or type Wylie."""

import threading
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from tibert_keras.corpus.transliteration import (
    TibetanConverter,
    lacks_tibetan,
    no_tibetan,
    recognize_transliteration,
    to_wylie,
)
from tibert_keras.errors import InputError
from tibert_keras.inference.conjectures import certainty
from tibert_keras.inference.gap_model import SearchStopped
from tibert_keras.inference.gap_search import search_gaps
from tibert_keras.inference.gaps import Gap, find_gaps
from tibert_keras.serving.models import Version
from tibert_keras.serving.protocol import RequestError, parse_object, parse_texts, whole_number
from tibert_keras.transcription import GAP

# The search of one gap calls the model dozens of times. More gaps in one request would keep others waiting.
MAX_GAPS = 32
MAX_CANDIDATES = 50
# Gaps in texts, searched or not: each takes 10 microseconds to find.
_MOST_FOUND = 10_000
# They take a fifth of a second.
MAX_CHARACTERS = 100_000
SCRIPTS = ("tibetan", "wylie")


def parse_gaps(body: bytes) -> tuple[list[list[Gap]], int]:
    """Parse the gaps to fill in each text, and the maximum number of candidates for each."""
    fields = parse_object(body)
    texts, top_k, only = parse_texts(fields), whole_number(fields.get("top_k", 5)), fields.get("only")
    if top_k is None or not 1 <= top_k <= MAX_CANDIDATES:
        raise RequestError(400, f"'top_k' must be a whole number from 1 to {MAX_CANDIDATES}.")
    # Fewer than given if one of them is no whole number.
    given = map(whole_number, only if isinstance(only, list) else [])
    numbers = [number for number in given if number is not None]
    if only is not None and not len(texts) == len(numbers) == len(only):
        raise RequestError(400, "'only' must be a list with the number of a gap, from 0, for each text.")
    found = sum(1 for text in texts for _ in GAP.finditer(text))
    if found > _MOST_FOUND:
        raise RequestError(
            400, f"Texts may have {_MOST_FOUND} gaps in all. Received: {found}. Send a part of the text."
        )
    count = len(texts) if only else found
    if count > MAX_GAPS:
        raise RequestError(400, f"A request may have {MAX_GAPS} gaps. Received: {count}. Ask for some at a time.")
    try:
        gaps = [find_gaps(text) for text in texts]
        for text in filter(lacks_tibetan, texts):
            raise no_tibetan(text, convert="POST /v1/transliterate converts it.")
    except InputError as error:
        raise RequestError(400, str(error)) from error
    if only is None:
        return gaps, top_k
    for number, of_text in zip(numbers, gaps, strict=True):
        if not 0 <= number < len(of_text):
            raise RequestError(400, f"The text has gaps 0 to {len(of_text) - 1}. Received: 'only' with {number}.")
    return [[of_text[number]] for number, of_text in zip(numbers, gaps, strict=True)], top_k


def fill(version: Version, top_k: int, payloads: Sequence[tuple[Gap, threading.Event]]) -> Sequence[Any]:
    """Search gaps, as long as one of their clients is connected."""
    try:
        found = search_gaps(
            version.loaded,
            [gap for gap, _ in payloads],
            top_k,
            should_stop=lambda: all(gone.is_set() for _, gone in payloads),
        )
    except InputError as error:
        raise RequestError(400, str(error)) from error
    except SearchStopped:
        return [RequestError(499, "The client has gone.")] * len(payloads)
    return [
        {"candidates": [asdict(each) | {"cert": certainty(each.score)} for each in candidates]} for candidates in found
    ]


def transliterate(body: bytes) -> list[str]:
    """Answer a request: convert texts to Wylie, or from Wylie or ACIP, whichever they look like, to Tibetan script."""
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
