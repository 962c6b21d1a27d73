"""Filling the gaps of many texts, from file to file."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Any, Literal, NamedTuple, get_args

from tqdm import tqdm

from tibert_keras.errors import InputError
from tibert_keras.inference.fill_mask import check_counts, fill_gaps, fill_mask, load_fill_mask
from tibert_keras.inference.gaps import fill_in
from tibert_keras.storage import atomic_output, read_lines

Unit = Literal["syllables", "pieces"]


@dataclass(frozen=True, kw_only=True)
class FillMaskConfig:
    """Fills gaps.

    Args:
        text: Texts with `[MASK]` where a piece of the vocabulary is missing, or `[GAP:2-4]` where 2 to 4 syllables are.
        model: Folder of a SavedModel, of a model (a preset, as `champion/` of a run), or of a run with a champion.
        input_file: UTF-8 file with a text a line, or, if its name ends in `.jsonl`, an object with a `text` a line.
        output_file: File for the guesses, in place of standard output: a table with tabs if its name ends in `.tsv`,
            an object a line if it ends in `.jsonl`.
        unit: What to guess: `syllables`, whole ones for each gap, by a search; or `pieces`, those behind each `[MASK]`
            as the vocabulary has them, many times as fast.
        top_k: The most guesses for each gap; of pieces a SavedModel gives no more than it was exported with.
        batch_size: Texts a step; a GPU wants more than a CPU, for which more is only more padding.

    Raises:
        InputError: If a field has another value than it may have.
    """

    text: list[str]
    model: str
    input_file: str | None = None
    output_file: str | None = None
    unit: Unit = "syllables"
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
        check_counts(top_k=self.top_k, batch_size=self.batch_size)


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


def fill_file(config: FillMaskConfig) -> Iterator[FilledText]:
    """Fill the gaps of the texts that a configuration gives or names; see `fill_texts`."""
    texts = read_texts(config.input_file) if config.input_file is not None else enumerate(config.text, 1)
    return fill_texts(texts, model=config.model, unit=config.unit, top_k=config.top_k, batch_size=config.batch_size)


def read_texts(path: str | os.PathLike[str]) -> Iterator[tuple[int, str]]:
    """Iterate over the texts of a file and the numbers of their lines; empty lines are left out.

    Args:
        path: A UTF-8 file with a text a line, or, if its name ends in `.jsonl`, a JSON object with a `text` a line.

    Raises:
        InputError: If the file cannot be read, or a line is no such object.
    """
    for number, line in enumerate(read_lines(path), 1):
        if line:
            yield number, _text_of(line, number) if os.fspath(path).endswith(".jsonl") else line


def _text_of(line: str, number: int) -> str:
    try:
        text = json.loads(line)["text"]
        if not isinstance(text, str):
            raise TypeError
    except (ValueError, LookupError, TypeError) as error:
        raise InputError(
            f'Line {number} is no JSON object with a text. Received: {line[:100]!r}. Write {{"text": "..."}}.'
        ) from error
    return text


def fill_texts(
    texts: Iterable[tuple[int, str]],
    *,
    model: Any,
    unit: Unit = "syllables",
    top_k: int = 5,
    batch_size: int = 8,
) -> Iterator[FilledText]:
    """Fill the gaps of any number of texts.

    Args:
        texts: Texts and their numbers.
        model: As for `fill_mask`.
        unit: Whether `fill_gaps` guesses whole syllables, or `fill_mask` the piece behind each mask.
        top_k: The most guesses for a gap.
        batch_size: Texts a step; a GPU wants more than a CPU, for which more is only more padding.

    Yields:
        The texts with their guesses, in order.

    Raises:
        InputError: As `fill_gaps` and `fill_mask`, with the number of the text; or if an option cannot be.
    """
    _check_unit(unit)
    check_counts(top_k=top_k, batch_size=batch_size)
    loaded = load_fill_mask(model, top_k=top_k) if isinstance(model, str | os.PathLike) else model
    # Neighbours in length share a batch: the more texts at once, the less is padded.
    at_once, fill = (batch_size, _fill_syllables) if unit == "syllables" else (64 * batch_size, _fill_pieces)
    remaining = iter(texts)
    with tqdm(desc="fill-mask", unit="text", disable=None) as progress:
        while some := list(islice(remaining, at_once)):
            try:
                yield from fill(loaded, some, top_k, batch_size)
            except InputError:
                for number, text in some:
                    with _named(number):
                        list(fill(loaded, [(number, text)], top_k, batch_size))
                raise
            progress.update(len(some))


@contextmanager
def _named(number: int) -> Iterator[None]:
    """Say in an error which text it is about."""
    try:
        yield
    except InputError as error:
        raise InputError(f"Text {number}: {error}") from error


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
    """Write texts with their guesses to a file, which appears when it is whole.

    Args:
        filled: The texts.
        path: Its name ends in `.tsv`, for a table with a guess a line, or `.jsonl`, for a JSON object a text.

    Returns:
        How many texts there were.

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


def _check_format(name: str) -> None:
    if not name.endswith((".tsv", ".jsonl")):
        raise InputError(f"The file's name says its format. Received: {name!r}. Let it end in .tsv or .jsonl.")


def _check_unit(unit: str) -> None:
    if unit not in get_args(Unit):
        raise InputError(f"No such unit. Received: unit={unit!r}. Give one of {', '.join(get_args(Unit))}.")


def _rows(text: FilledText) -> Iterator[str]:
    for gap, guesses in enumerate(text.gaps, 1):
        for rank, (guess, score) in enumerate(guesses, 1):
            yield f"{text.number}\t{gap}\t{rank}\t{guess}\t{score:.6g}\n"


def _json_line(text: FilledText) -> str:
    gaps = [[{"text": guess, "score": round(score, 6)} for guess, score in guesses] for guesses in text.gaps]
    line = {"line": text.number, "text": text.text, "filled": text.filled, "gaps": gaps}
    return json.dumps(line, ensure_ascii=False) + "\n"
