"""Fills gaps in texts: single pieces or whole syllables, from strings or from file to file."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Any, Literal, NamedTuple, get_args

from tqdm import tqdm

from tibert_keras.corpus.transliteration import Transliteration, texts_in_tibetan
from tibert_keras.errors import InputError
from tibert_keras.inference.gap_search import Candidate, search_gaps
from tibert_keras.inference.gaps import GAP, MASK, fill_in, find_gaps, shorten
from tibert_keras.inference.loading import load_fill_mask
from tibert_keras.inference.texts import read_texts
from tibert_keras.storage import atomic_output
from tibert_keras.tokenizers.bounds import check_text

Unit = Literal["syllables", "pieces"]


@dataclass(frozen=True, kw_only=True)
class FillMaskConfig:
    """Fills gaps.

    Args:
        text: Texts with `[MASK]` in place of a missing piece of the vocabulary, or `[GAP:2-4]` in place of 2 to 4
            missing syllables.
        model: Folder of a SavedModel, of a model (a preset, such as `champion/` of a run), or of a run with a champion.
        input_file: UTF-8 file with a text per line, or, if its name ends in `.jsonl`, an object with a `text` per line.
        output_file: File for the guesses, in place of standard output: a table with tabs if its name ends in `.tsv`,
            an object per line if it ends in `.jsonl`.
        unit: What to guess: `syllables`, whole ones for each gap, by a search; or `pieces`, those of the vocabulary
            behind each `[MASK]`, many times as fast.
        transliteration: What texts in Latin letters are converted from: ewts (Wylie) or acip.
        show_wylie: Print each guess in Wylie (EWTS) beside its Tibetan.
        top_k: Maximum number of guesses for each gap; a SavedModel gives no more pieces than it was exported with.
        batch_size: Texts per step; a GPU needs more than a CPU, where more only adds padding.

    Raises:
        InputError: If a field has an invalid value.
    """

    text: list[str]
    model: str
    input_file: str | None = None
    output_file: str | None = None
    unit: Unit = "syllables"
    transliteration: Transliteration | None = None
    show_wylie: bool = False
    top_k: int = 5
    batch_size: int = 8

    def __post_init__(self) -> None:
        if bool(self.text) == (self.input_file is not None):
            raise InputError(
                f"Texts come from the command line or from a file. Received: {len(self.text)} texts and "
                f"input_file={self.input_file!r}. Give one or the other."
            )
        for name in ("model", "input_file", "output_file"):
            if getattr(self, name) == "":
                raise InputError(f"{name} must be a path. Received: {name}=''. Give one.")
        if self.output_file is not None:
            _check_format(self.output_file)
        _check_unit(self.unit)
        _check_counts(top_k=self.top_k, batch_size=self.batch_size)


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


class FilledText(NamedTuple):
    """The guesses for a text.

    Attributes:
        number: Number of the text: of its line in the file, from 1.
        text: The text with its gaps.
        gaps: For each gap the guesses with their scores, the likeliest first.
        filled: The text with the likeliest guess in each gap.
    """

    number: int
    text: str
    gaps: list[list[tuple[str, float]]]
    filled: str


def fill_mask(texts: Sequence[str], *, model: Any, top_k: int = 5, batch_size: int = 32) -> list[FilledMask]:
    """Fill the masks in texts.

    Args:
        texts: Texts with `[MASK]` in them.
        model: As for `load_fill_mask`.
        top_k: How many guesses for each mask; a SavedModel gives no more than it was exported with.
        batch_size: Texts per step.

    Returns:
        One item per mask, in order.

    Raises:
        InputError: If a text has no mask, has a `[GAP:...]`, which is for `fill_gaps`, or is too long for the model.

    Example:
    ```python
    for mask in fill_mask(["བཀྲ་ཤིས་[MASK]་ལེགས།"], model="run"):
        print(mask.filled, mask.pieces, mask.probabilities)
    ```
    """
    for text in texts:
        check_text(text)
        if any(match[1] is not None for match in GAP.finditer(text)):
            raise InputError(
                f"There is a gap of syllables, and here a mask is one piece. Received: {shorten(text)!r}. "
                "Give it to fill_gaps, or to `tibert fill-mask` with unit=syllables."
            )
        if MASK not in text:
            raise InputError(
                f"There is nothing to fill. Received: {shorten(text)!r}. Write {MASK} where a piece is missing."
            )
    _check_counts(top_k=top_k, batch_size=batch_size)
    loaded = load_fill_mask(model, top_k=top_k)
    # Texts of similar length share a batch, to keep the padding small.
    order = sorted(range(len(texts)), key=lambda number: len(texts[number]))
    filled: dict[int, list[FilledMask]] = {}
    for start in range(0, len(texts), batch_size):
        batch = order[start : start + batch_size]
        answer = _answer(loaded, [texts[number] for number in batch])
        for row, number in enumerate(batch):
            filled[number] = _read_row(answer, row, texts[number], number=number, top_k=top_k)
    return [mask for number in range(len(texts)) for mask in filled[number]]


def _answer(loaded: Any, batch: list[str]) -> dict[str, Any]:
    import tensorflow as tf

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
    return [
        FilledMask(number, mask, pieces[mask], answer["probabilities"][row][mask][:top_k].tolist(), filled.strip())
        for mask in range(count)
    ]


def fill_gaps(texts: Sequence[str], *, model: Any, top_k: int = 5) -> list[list[list[Candidate]]]:
    """Guess the whole syllables in the gaps of texts.

    A gap is a run of adjacent `[MASK]`s, that many pieces of the vocabulary, or `[GAP:2-4]`, 2 to 4 syllables. A beam
    search fills it from left to right, for each possible number of pieces. The best fillings are then scored in the
    line by pseudo-log-likelihood (Salazar et al., 2020, "Masked Language Model Scoring"): the mean log-probability of
    the pieces that the tokenizer cuts them into there, each behind a mask of its own. Each gap is searched by itself,
    with masks in place of the others. Of a long text the model sees the part around the gap.

    Args:
        texts: Texts with gaps.
        model: As for `load_fill_mask`.
        top_k: Maximum number of candidates for a gap.

    Returns:
        For each gap of each text the candidates, the likeliest first; none if no pieces of the vocabulary make whole
        syllables there.

    Raises:
        InputError: If a text has no gap, or one that is written wrongly or is too long.

    Example:
    ```python
    (gaps,) = fill_gaps(["བཅོམ་ལྡན་[GAP:1-2]་ལ་ཕྱག་འཚལ་ལོ།"], model="run")
    for candidate in gaps[0]:
        print(candidate.text, candidate.score)
    ```
    """
    _check_counts(top_k=top_k)
    loaded = load_fill_mask(model)
    gaps = [find_gaps(text) for text in texts]
    found = iter(search_gaps(loaded, [gap for each in gaps for gap in each], top_k))
    return [[next(found) for _ in each] for each in gaps]


# === From file to file ===


def fill_file(config: FillMaskConfig) -> Iterator[FilledText]:
    """Fill the gaps of the texts in a configuration or its file; see `fill_texts`."""
    texts = read_texts(config.input_file) if config.input_file is not None else enumerate(config.text, 1)
    texts = texts_in_tibetan(texts, config.transliteration)
    return fill_texts(texts, model=config.model, unit=config.unit, top_k=config.top_k, batch_size=config.batch_size)


def fill_texts(
    texts: Iterable[tuple[int, str]], *, model: Any, unit: Unit = "syllables", top_k: int = 5, batch_size: int = 8
) -> Iterator[FilledText]:
    """Fill the gaps of any number of texts.

    Args:
        texts: Numbers and texts.
        model: As for `load_fill_mask`.
        unit: Guess whole syllables with `fill_gaps`, or the piece behind each mask with `fill_mask`.
        top_k: Maximum number of guesses for a gap.
        batch_size: Texts per step; a GPU needs more than a CPU, where more only adds padding.

    Yields:
        The texts with their guesses, in order.

    Raises:
        InputError: As `fill_gaps` and `fill_mask`, with the number of the text; or if an option is invalid.
    """
    _check_unit(unit)
    _check_counts(top_k=top_k, batch_size=batch_size)
    # Read more texts at once for pieces: `fill_mask` batches them by length, to keep the padding small.
    at_once, fill = (batch_size, _fill_syllables) if unit == "syllables" else (64 * batch_size, _fill_pieces)
    remaining = iter(texts)
    # Read first, so that a missing file is refused before a model is loaded.
    some = list(islice(remaining, at_once))
    loaded = load_fill_mask(model, top_k=top_k)
    with tqdm(desc="fill-mask", unit="text", disable=None) as progress:
        while some:
            try:
                yield from fill(loaded, some, top_k, batch_size)
            except InputError:
                # Name the text in the error.
                for number, text in some:
                    try:
                        list(fill(loaded, [(number, text)], top_k, batch_size))
                    except InputError as error:
                        raise InputError(f"Text {number}: {error}") from error
                raise
            progress.update(len(some))
            some = list(islice(remaining, at_once))


def _fill_syllables(loaded: Any, texts: list[tuple[int, str]], top_k: int, _: int) -> Iterator[FilledText]:
    answers = fill_gaps([text for _, text in texts], model=loaded, top_k=top_k)
    for (number, text), gaps in zip(texts, answers, strict=True):
        guesses = [[(candidate.text, candidate.score) for candidate in candidates] for candidates in gaps]
        yield FilledText(number, text, guesses, fill_in(text, [each[0][0] if each else None for each in guesses]))


def _fill_pieces(loaded: Any, texts: list[tuple[int, str]], top_k: int, batch_size: int) -> Iterator[FilledText]:
    masks = fill_mask([text for _, text in texts], model=loaded, top_k=top_k, batch_size=batch_size)
    for row, group in groupby(masks, lambda mask: mask.text):
        filled = list(group)
        guesses = [list(zip(mask.pieces, mask.probabilities, strict=True)) for mask in filled]
        number, text = texts[row]
        yield FilledText(number, text, guesses, filled[0].filled)


def write_filled(filled: Iterable[FilledText], path: str | os.PathLike[str]) -> int:
    """Write texts with their guesses to a file, which appears only when it is complete.

    Args:
        filled: The texts.
        path: `.tsv` for a table with a guess per line, or `.jsonl` for a JSON object per text.

    Returns:
        The number of texts.

    Raises:
        InputError: If the name ends otherwise.
    """
    name = os.fspath(path)
    _check_format(name)
    count = 0
    with atomic_output(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        if name.endswith(".tsv"):
            file.write("line\tgap\trank\tguess\tscore\n")
        for text in filled:
            count += 1
            file.writelines(_rows(text) if name.endswith(".tsv") else [_json_line(text)])
    return count


def _rows(text: FilledText) -> Iterator[str]:
    for gap, guesses in enumerate(text.gaps, 1):
        for rank, (guess, score) in enumerate(guesses, 1):
            yield f"{text.number}\t{gap}\t{rank}\t{guess}\t{score:.6g}\n"


def _json_line(text: FilledText) -> str:
    gaps = [[{"text": guess, "score": round(score, 6)} for guess, score in guesses] for guesses in text.gaps]
    line = {"line": text.number, "text": text.text, "filled": text.filled, "gaps": gaps}
    return json.dumps(line, ensure_ascii=False) + "\n"


def _check_format(name: str) -> None:
    if not name.endswith((".tsv", ".jsonl")):
        raise InputError(f"The file's name says its format. Received: {name!r}. Let it end in .tsv or .jsonl.")


def _check_unit(unit: str) -> None:
    if unit not in get_args(Unit):
        raise InputError(f"No such unit. Received: unit={unit!r}. Give one of {', '.join(get_args(Unit))}.")


def _check_counts(**counts: int) -> None:
    for name, count in counts.items():
        if count < 1:
            raise InputError(f"{name} must be at least 1. Received: {name}={count}. Give more.")
