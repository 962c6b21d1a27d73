"""Filling masks in texts with a preset, a run or a SavedModel."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from tibert_keras.errors import InputError
from tibert_keras.inference.gap_score import Candidate
from tibert_keras.inference.gap_search import search_gaps
from tibert_keras.inference.gaps import GAP, MASK, find_gaps, shorten
from tibert_keras.runs.presets import load_model
from tibert_keras.saved_model.fill_mask import FillMask
from tibert_keras.saved_model.versions import find_saved_model


class FilledMask(NamedTuple):
    """The guesses for one mask.

    Attributes:
        text: Number of the text, from 0.
        mask: Number of the mask in the text, from 0.
        pieces: The likeliest pieces, as the vocabulary has them (`▁` marks the beginning of a section).
        probabilities: Their probabilities.
        filled: The text with the likeliest piece in each of its masks.
    """

    text: int
    mask: int
    pieces: list[str]
    probabilities: list[float]
    filled: str


def load_fill_mask(model: str | os.PathLike[str], *, top_k: int = 5) -> Any:
    """Load what fills masks: a SavedModel as it is or in its newest version, or a `FillMask` of a preset or champion.

    Returns:
        An object with the method `FillMask.fill_mask`.

    Raises:
        InputError: If `model` is none of them.
    """
    if (saved_model := find_saved_model(model)) is not None:
        import tensorflow_text  # noqa: F401  (registers the tokenizer's ops)

        return tf.saved_model.load(saved_model)
    return FillMask(load_model(model), top_k=top_k)


def fill_mask(texts: Sequence[str], *, model: Any, top_k: int = 5, batch_size: int = 32) -> list[FilledMask]:
    """Fill the masks in texts.

    Args:
        texts: Texts with `[MASK]` in them.
        model: A SavedModel, a preset, or a run with a champion; or what `load_fill_mask` returns.
        top_k: How many guesses for each mask; a SavedModel gives no more than it was exported with.
        batch_size: Texts a step.

    Returns:
        One item a mask, in order.

    Raises:
        InputError: If a text has no mask, or a `[GAP:...]`, which is for `fill_gaps`; or is too long for the model.

    Example:
    ```python
    for mask in fill_mask(["བཀྲ་ཤིས་[MASK]་ལེགས།"], model="run"):
        print(mask.filled, mask.pieces, mask.probabilities)
    ```
    """
    for text in texts:
        if any(match[1] is not None for match in GAP.finditer(text)):
            raise InputError(
                f"There is a gap of syllables, and here a mask is one piece. Received: {shorten(text)!r}. "
                "Give it to fill_gaps, or to `tibert fill-mask` with unit=syllables."
            )
        if MASK not in text:
            raise InputError(
                f"There is nothing to fill. Received: {shorten(text)!r}. Write {MASK} where a piece is missing."
            )
    check_counts(top_k=top_k, batch_size=batch_size)
    loaded = load_fill_mask(model, top_k=top_k) if isinstance(model, str | os.PathLike) else model
    # Neighbours in length go into one batch, so that little is padded.
    order = sorted(range(len(texts)), key=lambda number: len(texts[number]))
    filled: dict[int, list[FilledMask]] = {}
    for start in range(0, len(texts), batch_size):
        batch = order[start : start + batch_size]
        answer = _answer(loaded, [texts[number] for number in batch])
        for row, number in enumerate(batch):
            filled[number] = _read_row(answer, row, texts[number], number=number, top_k=top_k)
    return [mask for number in range(len(texts)) for mask in filled[number]]


def fill_gaps(texts: Sequence[str], *, model: Any, top_k: int = 5) -> list[list[list[Candidate]]]:
    """Guess the whole syllables in the gaps of texts.

    A gap is a run of adjacent `[MASK]`s, that many pieces of the vocabulary, or `[GAP:2-4]`, 2 to 4 syllables. Beam
    search fills it from left to right, for each number of pieces that it may have. The best fillings are then scored
    in the line by pseudo-log-likelihood (Salazar et al., 2020, "Masked Language Model Scoring"): over the pieces that
    they are cut into there, the mean of the logarithm of each one's probability behind a mask of its own. Each gap is
    searched by itself, with masks in place of the others. Of a long text the model sees what is around the gap.

    Args:
        texts: Texts with gaps.
        model: As for `fill_mask`.
        top_k: The most candidates for a gap.

    Returns:
        For each text, for each of its gaps, the candidates, the likeliest first; none if no pieces of the vocabulary
        make whole syllables there.

    Raises:
        InputError: If a text has no gap, or one that is written wrongly or is too long.

    Example:
    ```python
    (gaps,) = fill_gaps(["བཅོམ་ལྡན་[GAP:1-2]་ལ་ཕྱག་འཚལ་ལོ།"], model="run")
    for candidate in gaps[0]:
        print(candidate.text, candidate.score)
    ```
    """
    check_counts(top_k=top_k)
    loaded = load_fill_mask(model) if isinstance(model, str | os.PathLike) else model
    gaps = [find_gaps(text) for text in texts]
    found = iter(search_gaps(loaded, [gap for each in gaps for gap in each], top_k))
    return [[next(found) for _ in each] for each in gaps]


def check_counts(**counts: int) -> None:
    """Raise `InputError` if one of the numbers is less than 1."""
    for name, count in counts.items():
        if count < 1:
            raise InputError(f"{name} must be at least 1. Received: {name}={count}. Give more.")


def _answer(loaded: Any, batch: list[str]) -> dict[str, Any]:
    try:
        return {name: tensor.numpy() for name, tensor in loaded.fill_mask(tf.constant(batch)).items()}
    except tf.errors.InvalidArgumentError as error:
        for text in batch if len(batch) > 1 else []:
            _answer(loaded, [text])  # says which of them it is
        raise InputError(f"{_first_line(error)} Received: {shorten(batch[0])!r}. Give a shorter text.") from error


def _read_row(answer: dict[str, Any], row: int, text: str, *, number: int, top_k: int) -> list[FilledMask]:
    pieces = [[piece.decode() for piece in mask[:top_k]] for mask in answer["pieces"][row]]
    count = int(answer["mask_count"][row])
    # In one go: a filling may itself be a mask.
    fillings = iter(pieces)
    filled = re.sub(re.escape(MASK), lambda mask: next(fillings)[0].replace("▁", " "), text)
    return [
        FilledMask(number, mask, pieces[mask], answer["probabilities"][row][mask][:top_k].tolist(), filled.strip())
        for mask in range(count)
    ]


def _first_line(error: tf.errors.InvalidArgumentError) -> str:
    assertion = re.search(r"A text is longer than \d+ tokens\.", error.message)
    return assertion[0] if assertion else error.message.splitlines()[0]
