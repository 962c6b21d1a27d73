"""Fills masks with single pieces of the vocabulary."""

import re
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from typing import Any, NamedTuple

from tibert_keras.errors import InputError
from tibert_keras.inference.gaps import MASK, is_masks, shorten
from tibert_keras.inference.loading import load_fill_mask
from tibert_keras.inference.plain import PlainFillMask
from tibert_keras.lazy import tf
from tibert_keras.models.tibert_presets import MASKED_LM
from tibert_keras.tokenizers.bounds import check_text
from tibert_keras.transcription import GAP, join_lines


class FilledMask(NamedTuple):
    """The guesses for one mask.

    Attributes:
        text: Number of the text, from 0.
        mask: Number of the mask in the text, from 0.
        pieces: The likeliest pieces, as in the vocabulary (`▁` marks the beginning of a section).
        probabilities: Their probabilities.
        filled: The text with the likeliest piece in each of its masks.
    """

    text: int
    mask: int
    pieces: list[str]
    probabilities: list[float]
    filled: str


def fill_mask(
    texts: Sequence[str] | str, *, model: Any = MASKED_LM, top_k: int = 5, batch_size: int = 32
) -> list[FilledMask]:
    """Fill the masks in texts.

    Args:
        texts: Texts with `[MASK]` in them.
        model: As for `load_fill_mask`: a model, a folder, or a name.
        top_k: How many guesses for each mask; a SavedModel gives no more than it was exported with.
        batch_size: Texts per step.

    Returns:
        One item per mask, in order.

    Raises:
        InputError: If a text has no mask, has a `[GAP:...]`, which is for `fill_gaps`, or is too long for the model.

    Example:
    ```python
    for mask in fill_mask(["བཀྲ་ཤིས་[MASK]ལེགས།"]):
        print(mask.filled, mask.pieces, mask.probabilities)
    ```
    """
    texts = list_texts(texts)
    for text in texts:
        check_text(text)
        if not all(map(is_masks, GAP.finditer(text))):
            raise InputError(
                f"There is a gap of syllables, and here a mask is one piece. Received: {shorten(text)!r}. "
                "Give it to fill_gaps, or to `tibert fill-mask` with unit=syllables."
            )
        if MASK not in text:
            raise InputError(
                f"There is nothing to fill. Received: {shorten(text)!r}. Write {MASK} where a piece is missing."
            )
    check_counts(top_k=top_k, batch_size=batch_size)
    loaded = load_fill_mask(model, top_k=top_k, count=len(texts))
    # Texts of similar length share a batch, to keep the padding small.
    order = sorted(range(len(texts)), key=lambda number: len(texts[number]))
    filled: dict[int, list[FilledMask]] = {}
    for start in range(0, len(texts), batch_size):
        batch = order[start : start + batch_size]
        answer = _answer(loaded, [join_lines(texts[number]) for number in batch])
        for row, number in enumerate(batch):
            filled[number] = _read_row(answer, row, texts[number], number=number, top_k=top_k)
    return [mask for number in range(len(texts)) for mask in filled[number]]


def _answer(loaded: Any, batch: list[str]) -> dict[str, Any]:
    if isinstance(loaded, PlainFillMask):
        return loaded.fill_mask(batch)
    try:
        return {name: tensor.numpy() for name, tensor in loaded.fill_mask(tf.constant(batch)).items()}
    except tf.errors.InvalidArgumentError as error:
        for text in batch if len(batch) > 1 else []:
            _answer(loaded, [text])  # finds the text that failed
        assertion = re.search(r"A text is longer than \d+ tokens\.", error.message)
        reason = assertion[0] if assertion else error.message.splitlines()[0]
        raise InputError(f"{reason} Received: {shorten(batch[0])!r}. Give a shorter text.") from error


def _read_row(answer: dict[str, Any], row: int, text: str, *, number: int, top_k: int) -> list[FilledMask]:
    pieces = [[piece.decode() for piece in mask[:top_k]] for mask in answer["pieces"][row]]
    count = int(answer["mask_count"][row])
    # In one pass: a filling may itself be a mask.
    fillings = iter(pieces)
    filled = re.sub(re.escape(MASK), lambda mask: next(fillings)[0].replace("▁", " "), text)
    if text.startswith(MASK):
        # The space of a piece that begins a section.
        filled = filled.lstrip()
    return [
        FilledMask(number, mask, pieces[mask], answer["probabilities"][row][mask][:top_k].tolist(), filled)
        for mask in range(count)
    ]


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


def check_counts(**counts: Any) -> None:
    """Raise `InputError` if a count is no whole number, or less than 1."""
    for name, count in counts.items():
        if not isinstance(count, Integral) or count < 1:
            raise InputError(f"{name} must be positive and whole. Received: {name}={count!r}.")
