"""Tags texts of any length from strings, files or standard input, in several formats."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, tee
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

from tqdm import tqdm

from tibert_keras.corpus.recognition import check_kind, tei_lines
from tibert_keras.corpus.transliteration import ForeignCounter, TibetanConverter, Transliteration, no_tibetan
from tibert_keras.errors import InputError, check_options
from tibert_keras.globs import check_outputs
from tibert_keras.inference.plain import PlainTagger, is_plain
from tibert_keras.models.tibert_presets import TAGGER
from tibert_keras.runs.folder import find_preset
from tibert_keras.storage import atomic_output, decode_utf8, expand_glob, open_binary
from tibert_keras.tagging.windows import tag_lines
from tibert_keras.tagging.words import TaggedWord
from tibert_keras.tagging.writing import FORMATS, IN_WYLIE
from tibert_keras.tibetan import has_tibetan

_LOG = logging.getLogger(__name__)

TagFormat = Literal["plain", "tsv", "conllu", "json", "words"]
# The endings of the files with the words of a text, beside it.
_ENDINGS: dict[TagFormat, str] = {
    "plain": ".tagged.txt",
    "tsv": ".tagged.tsv",
    "conllu": ".tagged.conllu",
    "json": ".tagged.jsonl",
    "words": ".words.txt",
}
# The files of a folder that are texts.
_TEXT_ENDINGS = (".txt", ".xml", ".tei")
_TASK = "TibertTokenClassifier"
# Lines of a text without Tibetan that may tell what it is.
_MAX_TRIED = 100
_LINE = re.compile(r"([^\r\n]*)(\r\n|\r|\n|\Z)")


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """Takes text from the command line, a file or standard input.

    Args:
        text: Texts, independent of each other.
        model: Folder of a classifier (a preset, such as `champion/` of a fine-tuning), or of a fine-tuning.
        input_file: UTF-8 files: a path, a glob pattern, a folder, or several separated by commas. An empty line
            separates documents. Without texts and a file, standard input is read.
        output_file: File for the result, in place of standard output.
        transliteration: Scheme of text in Latin letters, to convert it: ewts (Wylie) or acip.
        batch_size: Windows of text, or section ends, per step.
    """

    text: list[str]
    model: str
    input_file: str | None = None
    output_file: str | None = None
    transliteration: Transliteration | None = None
    batch_size: int = 32

    def __post_init__(self) -> None:
        if self.text and self.input_file is not None:
            raise InputError(
                f"Texts come from the command line or from a file. Received: {len(self.text)} texts and "
                f"input_file={self.input_file!r}. Give one or the other."
            )
        check_options(self, positive=("batch_size",))
        check_outputs(self.input_file, output_file=self.output_file)

    def lines(self) -> Iterator[tuple[str, str]]:
        """Yield the lines of the texts with their ends, as `read_text`; after each text an empty one without end."""
        for path in self.paths():
            yield from self.lines_of(path)
            yield "", ""
        if self.input_file is None and not self.text:
            yield from self._converted(read_text(sys.stdin.buffer, "standard input"), "standard input")
        for text in self.text:
            yield from self._converted(split_lines(text), "the text")
            yield "", ""

    def lines_of(self, path: str) -> Iterator[tuple[str, str]]:
        """Yield the lines of a file with their ends."""
        return self._converted(read_file(path), path)

    def _converted(self, lines: Iterable[tuple[str, str]], name: str) -> Iterator[tuple[str, str]]:
        converter, counter = TibetanConverter(self.transliteration), ForeignCounter()
        for line, end in lines:
            counter.add(line)
            yield converter.convert_line(line) if end else converter.convert(line), end
        if self.transliteration is None:
            counter.warn(name)
        elif note := converter.note():
            _LOG.warning("%s: %s", name, note)

    def paths(self) -> list[str]:
        """List the input files. Of a folder these are its texts, at any depth."""
        if self.input_file is None:
            return []
        if not Path(self.input_file).is_dir() and not any(sign in self.input_file for sign in "*?[,"):
            return [self.input_file]
        paths = expand_glob(self.input_file, folder_endings=_TEXT_ENDINGS)
        # Not the files that an earlier call has written, beside them or as the output file.
        written = {tagged_path(path, each) for path in paths for each in _ENDINGS}
        result = self.output_file and os.path.realpath(self.output_file)
        return [path for path in paths if path not in written and os.path.realpath(path) != result]


@dataclass(frozen=True, kw_only=True)
class TagConfig(TextConfig):
    """Tags text.

    The results of several files are written beside them (of `a.txt` to `a.tagged.conllu` and the like), unless there is
    an output file for all.

    Args:
        text: Texts, independent of each other.
        model: Folder of a tagger (a preset, such as `champion/` of a fine-tuning), or of a fine-tuning; or the name of
            a tagger that comes with the package.
        format: `plain`, words as `form|tag` in the lines of the input; `tsv`, a word and its tag per line, and an empty
            line for each line break; `conllu`, a sentence per line of the input; `json`, an object per line of it;
            `words`, the words of a line separated by spaces, without tags, for concordancers.
        show_wylie: Add each word in Wylie (EWTS): a third column, `wylie` in JSON, `Translit` in CoNLL-U.
    """

    model: str = TAGGER
    format: TagFormat = "plain"
    show_wylie: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.show_wylie and self.format not in IN_WYLIE:
            raise InputError(
                f"This format has no place for Wylie. Received: format={self.format!r}, show_wylie=True. "
                f"Give one of {', '.join(IN_WYLIE)}."
            )

    def write(self, lines: Iterable[TaggedLine]) -> Iterator[str]:
        """Yield tagged lines in the format, piece by piece."""
        return FORMATS[self.format](lines, wylie=True) if self.show_wylie else FORMATS[self.format](lines)

    @property
    def writes_beside(self) -> bool:
        """Whether the results are written beside the input files."""
        several = self.input_file is not None and (Path(self.input_file).is_dir() or len(self.paths()) > 1)
        return several and self.output_file is None


class TaggedLine(NamedTuple):
    """A line of text as words, whose forms joined are the line, and its end; it and its document are counted from 1."""

    number: int
    words: list[TaggedWord]
    end: str
    document: int = 1


def tag_text(config: TagConfig) -> Iterator[str]:
    """Tag the texts in a configuration or its file, and yield the result in the chosen format, piece by piece.

    Only the part being tagged is held in memory.
    """
    preset, lines = find_input(config, task=_TASK)
    if config.text or len(config.paths()) > 1:
        # Each text begins a new line.
        lines = ((line, end or "\n" * bool(line)) for line, end in lines)
    # A unit of work for each window or so. Texts on a command line are short, and those of files are not known yet.
    count = sum(1 + len(text) // 256 for text in config.text)
    is_little = count > 0 and is_plain(preset, _TASK, count=count)
    model = PlainTagger(preset) if is_little else _load_tagger(preset)
    return config.write(tag_each(model, lines, batch_size=config.batch_size))


def _load_tagger(preset: str) -> Any:
    from tibert_keras.models.tibert_token_classifier import TibertTokenClassifier

    return TibertTokenClassifier.from_preset(preset)


def tag_files(config: TagConfig) -> Iterator[str]:
    """Tag each file of a configuration, and write the result beside it."""
    preset = find_preset(config.model, task=_TASK)
    paths = config.paths()
    results = [tagged_path(path, config.format) for path in paths]
    if twins := {result for result in results if results.count(result) > 1}:
        raise InputError(
            f"Two texts would have the same file for their words. Received: {min(twins)!r}. Rename one, or give them "
            "an output_file."
        )
    for path in paths:
        with_tibetan(config.lines_of(path), path)
    model = _load_tagger(preset)
    for path, result in zip(paths, results, strict=True):
        tagged = tag_each(model, config.lines_of(path), batch_size=config.batch_size)
        write_pieces(config.write(tagged), result)
        yield result


def tagged_path(path: str, form: TagFormat) -> str:
    """Return the path beside a text for its words."""
    return f"{os.path.splitext(path)[0]}{_ENDINGS[form]}"


def find_input(config: TextConfig, *, task: str) -> tuple[str, Iterator[tuple[str, str]]]:
    """Find the model of a configuration, of the class `task`, and its text, before anything heavy is imported."""
    return find_preset(config.model, task=task), with_tibetan(config.lines())


def tag_each(model: Any, lines: Iterable[tuple[str, str]], *, batch_size: int = 32) -> Iterator[TaggedLine]:
    """Tag lines with their ends. An empty one without end is no line, and only separates texts."""

    def in_documents() -> Iterator[tuple[str, str, int]]:
        document, is_over = 0, True
        for line, end in lines:
            has_text = bool(line.strip())
            document, is_over = document + (has_text and is_over), not has_text
            yield line, end, max(document, 1)

    # `tag_lines` reads ahead.
    ahead, known = tee(in_documents())
    tagged = zip(tag_lines(model, (line for line, _, _ in ahead), batch_size=batch_size), known, strict=True)
    number = 0
    for words, (_, end, document) in tqdm(tagged, desc="tag", unit="line", disable=None):
        if words or end:
            number += 1
            yield TaggedLine(number, words, end, document)


def read_file(path: str) -> Iterator[tuple[str, str]]:
    """Yield the lines of a text file with their ends, as `read_text`, or those of a TEI file's text."""
    is_xml = check_kind(path)
    if is_xml:
        return ((line, "\n") for line in tei_lines(path))
    return read_text(open_binary(path), path)


def read_text(file: IO[bytes], name: str) -> Iterator[tuple[str, str]]:
    r"""Yield the lines of a UTF-8 file with their ends, `\n`, `\r\n` or nothing, so that no character is lost.

    A `\r` alone ends a line, too, and becomes `\n`. Byte-order marks are no text, and are left out.
    """
    offset = 0
    with file:
        for raw in file:
            yield from split_lines(decode_utf8(raw, name, offset=offset))
            offset += len(raw)


def split_lines(text: str) -> Iterator[tuple[str, str]]:
    """Yield the lines of a text with their ends, as `read_text`."""
    for match in _LINE.finditer(text.replace("\ufeff", "")):
        if match[0]:
            yield match[1], "\n" if match[2] == "\r" else match[2]


def with_tibetan(lines: Iterable[tuple[str, str]], name: str | None = None) -> Iterator[tuple[str, str]]:
    """Check that a line has Tibetan in it, and return an iterator over all lines."""
    waiting = []
    remaining = iter(lines)
    for line, end in remaining:
        waiting.append((line, end))
        if has_tibetan(line):
            return chain(waiting, remaining)
    raise no_tibetan("\n".join(line for line, _ in waiting[:_MAX_TRIED]), name)


def write_pieces(pieces: Iterable[str], path: str | os.PathLike[str] | None) -> None:
    """Write the pieces of a result to a file, which appears only when it is complete, or to standard output."""
    if path is None:
        sys.stdout.writelines(pieces)
        return
    with atomic_output(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        file.writelines(pieces)
