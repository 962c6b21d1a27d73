"""Tags texts of any length from strings, files or standard input, in four formats."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import IO, Any, Literal, NamedTuple

from tqdm import tqdm

from tibert_keras.errors import InputError
from tibert_keras.runs.folder import find_preset
from tibert_keras.storage import atomic_output, open_binary
from tibert_keras.tagging.windows import tag_lines
from tibert_keras.tagging.words import TaggedWord
from tibert_keras.tagging.writing import FORMATS
from tibert_keras.tibetan import has_tibetan


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """Takes text from the command line, a file or standard input.

    Args:
        text: Texts, independent of each other.
        model: Folder of a classifier (a preset, such as `champion/` of a fine-tuning), or of a fine-tuning.
        input_file: UTF-8 file; an empty line separates documents. Without texts and a file, standard input is read.
        output_file: File for the result, in place of standard output.
        batch_size: Windows of text, or section ends, per step.
    """

    text: list[str]
    model: str
    input_file: str | None = None
    output_file: str | None = None
    batch_size: int = 32

    def __post_init__(self) -> None:
        if self.text and self.input_file is not None:
            raise InputError(
                f"Texts come from the command line or from a file. Received: {len(self.text)} texts and "
                f"input_file={self.input_file!r}. Give one or the other."
            )
        if self.batch_size < 1:
            raise InputError(f"batch_size must be positive. Received: batch_size={self.batch_size}.")

    def lines(self) -> Iterator[tuple[str, str]]:
        """Yield the lines of the texts with their ends, as `read_text`; after each text an empty one without end."""
        if self.input_file is not None:
            yield from read_text(open_binary(self.input_file), self.input_file)
        elif not self.text:
            yield from read_text(sys.stdin.buffer, "standard input")
        for text in self.text:
            *lines, last = text.split("\n")
            yield from ((line, "\n") for line in lines)
            yield from [(last, ""), ("", "")] if last else [("", "")]


@dataclass(frozen=True, kw_only=True)
class TagConfig(TextConfig):
    """Tags text.

    Args:
        text: Texts, independent of each other.
        format: `plain`, words as `form|tag` in the lines of the input; `tsv`, a word and its tag per line, and an empty
            line for each line break; `conllu`, a sentence per line of the input; `json`, an object per line of it.
    """

    format: Literal["plain", "tsv", "conllu", "json"] = "plain"


class TaggedLine(NamedTuple):
    """A line of text as words.

    Attributes:
        number: Its number, from 1.
        words: Its words, whose forms joined are the line; none for an empty one.
        end: Its end: a line break, or nothing for a last line without one.
    """

    number: int
    words: list[TaggedWord]
    end: str


def tag_text(config: TagConfig) -> Iterator[str]:
    """Tag the texts in a configuration or its file.

    Yields:
        The result in the chosen format, piece by piece. Only the part being tagged is held in memory.

    Raises:
        InputError: If the model is no tagger, or the text cannot be read or has no Tibetan in it.
    """
    preset, lines = find_input(config)
    from tibert_keras.models.tibert_token_classifier import TibertTokenClassifier

    if config.text:
        # Each text begins a new line.
        lines = ((line, "\n" if line else end) for line, end in lines)
    tagged = tag_each(TibertTokenClassifier.from_preset(preset), lines, batch_size=config.batch_size)
    return FORMATS[config.format](tagged)


def find_input(config: TextConfig) -> tuple[str, Iterator[tuple[str, str]]]:
    """Find the model and the text of a configuration, before anything heavy is imported.

    Returns:
        The preset folder, and the lines with their ends.

    Raises:
        InputError: If there is no such model, or the text cannot be read or has no Tibetan in it.
    """
    return find_preset(config.model), with_tibetan(config.lines())


def tag_each(model: Any, lines: Iterable[tuple[str, str]], *, batch_size: int = 32) -> Iterator[TaggedLine]:
    """Tag lines.

    Args:
        model: A `TibertTokenClassifier`.
        lines: Lines with their ends. An empty one without end is no line, and only separates texts.
        batch_size: Windows of text per step.

    Yields:
        The lines as words, in order.
    """
    # `tag_lines` reads ahead.
    ends: deque[str] = deque()

    def noting_ends() -> Iterator[str]:
        for line, end in lines:
            ends.append(end)
            yield line

    number = 0
    with tqdm(desc="tag", unit="line", disable=None) as progress:
        for words in tag_lines(model, noting_ends(), batch_size=batch_size):
            end = ends.popleft()
            progress.update()
            if words or end:
                number += 1
                yield TaggedLine(number, words, end)


def read_text(file: IO[bytes], name: str) -> Iterator[tuple[str, str]]:
    r"""Yield the lines of a UTF-8 file with their ends, `\n` or nothing, so that no character is lost.

    Raises:
        InputError: If it is not UTF-8 (naming the byte).
    """
    offset = 0
    with file:
        for raw in file:
            try:
                line = raw.decode("utf-8")
            except UnicodeDecodeError as error:
                raise InputError(
                    f"Not a UTF-8 text: {error.reason} at byte {offset + error.start}. Received: {name!r}. "
                    "Convert it to UTF-8 first."
                ) from error
            offset += len(raw)
            yield line.removesuffix("\n"), "\n" * line.endswith("\n")


def with_tibetan(lines: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Check that a line has Tibetan in it, and return an iterator over all lines.

    Raises:
        InputError: If no line has.
    """
    waiting = []
    remaining = iter(lines)
    for line, end in remaining:
        waiting.append((line, end))
        if has_tibetan(line):
            return chain(waiting, remaining)
    shown = "".join(line for line, _ in waiting)[:60]
    raise InputError(f"There is no Tibetan in the text. Received: {shown!r}. Give a text in Tibetan script.")


def write_pieces(pieces: Iterable[str], path: str | os.PathLike[str]) -> None:
    """Write the pieces from `tag_text` or `segment_text` to a file, which appears only when it is complete."""
    with atomic_output(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        file.writelines(pieces)
