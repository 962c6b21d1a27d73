"""Texts with labels, from tables."""

from __future__ import annotations

from typing import NamedTuple

from tibert_keras.errors import InputError
from tibert_keras.storage import expand_glob, read_lines
from tibert_keras.tibetan import has_tibetan


class LabelledText(NamedTuple):
    """A text with its label.

    Attributes:
        label: Its label.
        segments: The text, or two texts that a model sees side by side.
    """

    label: str
    segments: tuple[str, ...]


def read_labelled(pattern: str) -> list[LabelledText]:
    """Read tables of `label<TAB>text`, or `label<TAB>text<TAB>second text`, a line each.

    Args:
        pattern: A path, a glob pattern, or several with commas between them. Empty lines are left out.

    Returns:
        The texts, in order.

    Raises:
        InputError: If a file cannot be read or has no Tibetan in it, a line lacks a column, or some lines have a second
            text and others none.
    """
    texts: list[LabelledText] = []
    for path in expand_glob(pattern):
        before = len(texts)
        for number, line in enumerate(read_lines(path), 1):
            if not line.strip():
                continue
            label, *segments = line.split("\t")
            if not label.strip() or len(segments) not in (1, 2) or not segments[0].strip():
                raise InputError(
                    f"A line is `label<TAB>text`. Received: {line[:60]!r} with {len(segments) + 1} columns, "
                    f"line {number} of {path!r}. Complete it."
                )
            if texts and len(segments) != len(texts[0].segments):
                raise InputError(
                    "All lines have a second text or none has. Received: "
                    f"{len(segments) + 1} columns in line {number} of {path!r}, {len(texts[0].segments) + 1} before. "
                    "Make them equal."
                )
            texts.append(LabelledText(label.strip(), tuple(segments)))
        if not any(has_tibetan(text.segments[0]) for text in texts[before:]):
            raise InputError(f"There is no Tibetan in the file. Received: {path!r}. Take it out of the input.")
    return texts
