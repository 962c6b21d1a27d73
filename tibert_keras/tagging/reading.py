"""Reads tagged text (`form|tag` lines, tables of words and tags, CoNLL-U) and the lists that split it."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import PurePosixPath

from tibert_keras.errors import InputError
from tibert_keras.storage import atomic_output, expand_glob, read_lines
from tibert_keras.tagging.words import TAG_SEPARATOR, Document, TaggedWord
from tibert_keras.tibetan import has_tibetan

_TITLE = re.compile(r"# (newdoc(?: id)?|doc|sent_id)\s*(?:=\s*(.*\S))?\s*")
_CONLLU_COLUMNS = 10
PARTS = ("train", "validation", "test")
# The number of a word, the range of words that a form stands for, or the number of a word that is not in the text.
_CONLLU_ID = re.compile(r"(\d+)(?:-(\d+)|\.\d+)?")

# Escapes for characters that a form cannot hold: https://universaldependencies.org/misc.html#spacesafter
ESCAPES = {"\\": "\\\\", "\t": "\\t", "\r": "\\r", "\n": "\\n", " ": "\\s", "|": "\\p"}
_ESCAPE = re.compile("|".join(map(re.escape, ESCAPES.values())))
_MEANINGS = {escape: character for character, escape in ESCAPES.items()}

_Lines = Iterable[tuple[int, str]]
# A document's name, the number of its first line, and its lines.
_Block = tuple[str, int, list[tuple[int, str]]]


def read_tagged(pattern: str) -> list[Document]:
    r"""Read tagged text, and tell the format of each file by its name or first line.

    - **Horizontal**, as SOAS has it: `form|tag`, words separated by spaces. Each line is a document, named after the
      file and the line: `mila-horizontal:17`. Empty lines are skipped.
    - **Table**: a word, a tab and its tag per line; further columns are ignored. A line `# doc = NAME` starts a
      document; in a file without such lines, an empty line does.
    - **CoNLL-U**: takes FORM and UPOS, or XPOS where UPOS is `X`. `# newdoc` starts a document; in a file without it,
      each sentence is one, named after the file and its `sent_id`. A multiword token (`1-2`) is one word with the
      joined tags of its words (`NOUN+ADP`).

    In the first two, `\s` in a form is a space, `\t` a tab, `\r` and `\n` line breaks, `\p` a bar and `\\` a backslash.
    Tibetan has no spaces between words, so the text of a document is its forms joined.

    Args:
        pattern: Paths or glob patterns, separated by commas.

    Returns:
        The documents in the order of the paths.

    Raises:
        InputError: If no file matches; if a file is in none of these formats, lacks a column, has an empty sentence or
            no Tibetan; or if two documents have the same name.

    Example:
        >>> documents = read_tagged("pos/soas-rebuilt/*.txt")  # doctest: +SKIP
    """
    documents = [document for path in expand_glob(pattern) for document in _read_file(path)]
    names: set[str] = set()
    for document in documents:
        if document.name in names:
            raise InputError(
                f"Two documents have the same name. Received: {document.name!r} in {pattern!r}. Rename a file or one "
                "of them."
            )
        names.add(document.name)
    return documents


def _read_file(path: str) -> list[Document]:
    lines = list(enumerate(read_lines(path), start=1))
    blocks, read_words = _formats(path, lines)
    documents = []
    for name, number, block in blocks:
        words = tuple(read_words(path, block))
        if not words:
            raise InputError(f"A sentence is empty. Received: line {number} of {path!r}. Take it out of the file.")
        documents.append(Document(name, words))
    if not any(has_tibetan(word.form) for document in documents for word in document.words):
        raise InputError(f"There is no Tibetan in the file. Received: {path!r}. Take it out of the input.")
    return documents


def _formats(path: str, lines: _Lines) -> tuple[Iterator[_Block], Callable[[str, _Lines], Iterator[TaggedWord]]]:
    """Cut a file into the lines of each document, and choose the reader of these lines."""
    stem = PurePosixPath(path).stem
    first = next((line for _, line in lines if line.strip() and not _is_comment(line)), "")
    columns = first.split("\t")
    if path.endswith(".conllu") or (len(columns) == _CONLLU_COLUMNS and _CONLLU_ID.fullmatch(columns[0])):
        titles = ("newdoc", "newdoc id") if _has_title(lines, "newdoc") else ("sent_id",)
        parted = titles == ("sent_id",)
        # Every file may number its sentences from 1.
        return _blocks(stem, lines, titles, parted=parted, prefix=f"{stem}:" * parted), _read_conllu
    if len(columns) > 1:
        return _blocks(stem, lines, ("doc",), parted=not _has_title(lines, "doc")), _read_columns
    if "|" in first:
        blocks = ((f"{stem}:{number}", number, [(number, line)]) for number, line in lines if line.strip())
        return blocks, _read_horizontal
    raise InputError(
        f"The first line has no tag. Received: {first[:60]!r} in {path!r}. Give words as `form|tag`, a word, a tab and "
        "its tag a line, or CoNLL-U."
    )


def _is_comment(line: str) -> bool:
    # The Kangyur has words that are a # alone.
    return line.startswith("# ")


def _has_title(lines: _Lines, kind: str) -> bool:
    return any((match := _TITLE.fullmatch(line)) and match[1].startswith(kind) for _, line in lines)


def _blocks(stem: str, lines: _Lines, titles: tuple[str, ...], *, parted: bool, prefix: str = "") -> Iterator[_Block]:
    """Cut a file at its titles and, if `parted`, at empty lines; put a prefix before the names from titles."""
    name, start = "", 0
    block: list[tuple[int, str]] = []
    for number, line in lines:
        match = _TITLE.fullmatch(line)
        is_title = match is not None and match[1] in titles
        if (is_title or (parted and not line.strip())) and (name or block):
            yield name or f"{stem}:{start}", start, block
            name, block = "", []
        if match is not None and is_title:
            name, start = f"{prefix}{match[2]}" if match[2] else f"{stem}:{number}", number
        elif line.strip() and not _is_comment(line):
            start = start if name or block else number
            block.append((number, line))
    if name or block:
        yield name or f"{stem}:{start}", start, block


# === Lines to words, one reader per format ===


def _read_horizontal(path: str, lines: _Lines) -> Iterator[TaggedWord]:
    for number, line in lines:
        # Not at other white space, which may be part of a form.
        for token in filter(None, re.split("[ \t]", line)):
            form, _bar, tag = token.rpartition("|")
            yield _word(path, number, token, _undo(form), tag)


def _read_columns(path: str, lines: _Lines) -> Iterator[TaggedWord]:
    for number, line in lines:
        form, tag, *_rest = [*line.split("\t"), ""]
        yield _word(path, number, line, _undo(form), tag)


def _undo(form: str) -> str:
    return _ESCAPE.sub(lambda match: _MEANINGS[match[0]], form)


def _read_conllu(path: str, lines: _Lines) -> Iterator[TaggedWord]:
    # Of a multiword token: its form, its line, and the numbers of its words.
    form, opened, first, last = "", (0, ""), 0, 0
    tags: list[str] = []
    for number, line in lines:
        columns = line.split("\t")
        match = _CONLLU_ID.fullmatch(columns[0])
        if len(columns) != _CONLLU_COLUMNS or match is None:
            raise InputError(
                f"A line of CoNLL-U has {_CONLLU_COLUMNS} columns and begins with a number. Received: {line[:60]!r} "
                f"with {len(columns)}, line {number} of {path!r}. Complete it."
            )
        if "." in columns[0]:
            continue
        if last and (match[2] or int(match[1]) != first + len(tags)):
            break
        if match[2]:
            form, opened, first, last = columns[1], (number, line), int(match[1]), int(match[2])
            continue
        # The universal tag; where it is only a placeholder, the tag of the corpus itself.
        tag = columns[4] if columns[3] == "X" and columns[4].strip(" _") else columns[3]
        form, tags = form or columns[1], [*tags, tag]
        if not last or int(match[1]) == last:
            yield _word(path, number, line, form, TAG_SEPARATOR.join(tags))
            form, last, tags = "", 0, []
    if last:
        raise InputError(
            f"A form over several words lacks one of them. Received: {opened[1][:60]!r}, line {opened[0]} of {path!r}. "
            "Add the line."
        )


def _word(path: str, number: int, line: str, form: str, tag: str) -> TaggedWord:
    if not form.strip() or not tag.strip():
        missing = "tag" if form.strip() else "word"
        raise InputError(
            f"A {missing} is missing. Received: {line[:60]!r}, line {number} of {path!r}. Add it or take the line out."
        )
    return TaggedWord(form, tag.strip())


# === The split into training, validation and test data ===


def make_split(
    documents: Collection[Document], *, seed: int = 0, validation_share: float = 0.1, test_share: float = 0.1
) -> dict[str, str]:
    """Draw documents for validation and for testing, and leave the others for training.

    Args:
        documents: The documents. Only their names matter, not their order.
        seed: Another seed gives another split.
        validation_share: Share of the documents for validation; at least one document.
        test_share: Likewise for testing.

    Returns:
        The part of each name, in the order of the documents: "train", "validation" or "test".

    Raises:
        InputError: If the shares leave no document for training.
    """
    # Sorted, so that the split does not depend on the order of the files.
    names = sorted(document.name for document in documents)
    random.Random(seed).shuffle(names)
    sizes = [max(1, round(share * len(names))) for share in (validation_share, test_share)]
    if sum(sizes) >= len(names):
        raise InputError(
            f"There is no document left for training. Received: {len(names)} documents, "
            f"validation_share={validation_share}, test_share={test_share}. Give more documents or lower shares."
        )
    validation, test = set(names[: sizes[0]]), set(names[sizes[0] : sum(sizes)])
    return {
        document.name: "validation" if document.name in validation else "test" if document.name in test else "train"
        for document in documents
    }


def write_split(split: Mapping[str, str], path: str | os.PathLike[str]) -> None:
    """Write a split, a line `name<TAB>part` for each document."""
    with atomic_output(path) as temporary:
        temporary.write_text("".join(f"{name}\t{part}\n" for name, part in split.items()), encoding="utf-8")


def read_split(path: str | os.PathLike[str]) -> dict[str, str]:
    """Read a split that `write_split` wrote.

    Raises:
        InputError: If the file cannot be read, or a line is not a new name, a tab and a part.
    """
    split: dict[str, str] = {}
    for number, line in enumerate(read_lines(path), start=1):
        name, _, part = line.partition("\t")
        if part not in PARTS or name in split:
            raise InputError(
                f"A line of a split is a new name, a tab and one of {PARTS}. Received: {line[:60]!r}, line {number} of "
                f"{os.fspath(path)!r}. Correct it."
            )
        split[name] = part
    return split


def split_documents(documents: Collection[Document], split: Mapping[str, str]) -> dict[str, list[Document]]:
    """Sort documents into the parts of a split.

    Args:
        documents: The documents.
        split: The part of each name.

    Returns:
        The documents of "train", "validation" and "test", each in their original order.

    Raises:
        InputError: If the names of the documents and of the split are not the same.

    Example:
        >>> parts = split_documents(read_tagged("pos/*.txt"), read_split("examples/splits/soas.tsv"))  # doctest: +SKIP
    """
    names = {document.name for document in documents}
    for missing, where in ((names - split.keys(), "split"), (split.keys() - names, "documents")):
        if missing:
            raise InputError(
                f"The names of the documents and of the split differ. Received: {len(missing)} names that the {where} "
                f"lack, such as {min(missing)!r}. Give the files that the split was made for."
            )
    parts: dict[str, list[Document]] = {part: [] for part in PARTS}
    for document in documents:
        parts[split[document.name]].append(document)
    return parts
