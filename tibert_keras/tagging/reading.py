"""Reads tagged text (`form|tag` lines, tables of words and tags, CoNLL-U) and the lists that split it."""

import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import partial
from pathlib import PurePosixPath

from tibert_keras.corpus.recognition import check_kind
from tibert_keras.errors import InputError
from tibert_keras.storage import expand_glob, read_lines
from tibert_keras.tagging.conllu import COLUMNS, ID, ConlluReader
from tibert_keras.tagging.slips import Slips
from tibert_keras.tagging.spaces import attach_spaces, clean_form, put_back_spaces, unescape
from tibert_keras.tagging.words import Document, TaggedWord
from tibert_keras.tibetan import has_tibetan

_TITLE = re.compile(r"#\s*(newdoc(?: id)?|doc|page_id|sent_id)\s*(?:=\s*(.*\S))?\s*")
PARTS = ("train", "validation", "test")
# Tags that a lexicon allows, before one is chosen: `[n.count][v.past]`.
_CANDIDATES = re.compile(r"\[.*\]")
# The end of an utterance, in the output of Memory-Based Tagger.
_UTTERANCE_END = "<utt>"

_Lines = Iterable[tuple[int, str]]
# A document's name, the number of its first line, and its lines.
_Block = tuple[str, int, list[tuple[int, str]]]
# Yields the words in the lines of a document.
_ReadWords = Callable[[_Lines], Iterator[TaggedWord]]


def read_tagged(pattern: str, *, shad_spaces: bool = True) -> list[Document]:
    r"""Read tagged text, and tell the format of each file by its name or first line.

    - **Horizontal**: `form|tag`, as SOAS has it, or `form/tag`, words separated by spaces. Each line is a document,
      named after the file and the line: `mila-horizontal:17`. Empty lines are skipped.
    - **Table**: a word, a tab and its tag per line; further columns, and a lemma after the tag and a space, are
      ignored. A line `# doc = NAME` or `# page_id = NAME` starts a document; in a file without such lines, an empty
      line does.
    - **CoNLL-U**: takes FORM and UPOS, or XPOS where UPOS is `X` or `_`. `# newdoc` starts a document; in a file
      without it, each sentence is one, named after the file and its `sent_id`. A multiword token (`1-2`) is one word
      with the joined tags of its words (`NOUN+ADP`); empty nodes (`8.1`) are no part of the text. For its white space
      see `ConlluReader`.

    In the first two, `\s` in a form is a space, `\t` a tab, `\p` a bar and `\\` a backslash. The text of a document is
    its forms joined. A byte-order mark or line end is never part of a form.

    Args:
        pattern: Paths or glob patterns, separated by commas.
        shad_spaces: Whether words have the white space of the text. If so, a file whose forms have none gets back the
            spaces of an edition: between two shads, and between a shad and a letter.
    """
    documents = [document for path in expand_glob(pattern) for document in _read_file(path, shad_spaces=shad_spaces)]
    names: set[str] = set()
    for document in documents:
        if document.name in names:
            raise InputError(
                f"Two documents have the same name. Received: {document.name!r} in {pattern!r}. Rename a file or one "
                "of them."
            )
        names.add(document.name)
    return documents


def _read_file(path: str, *, shad_spaces: bool) -> list[Document]:
    check_kind(path)
    lines, slips = list(enumerate(read_lines(path), start=1)), Slips(path)
    blocks, read_words, has_spaces = _formats(path, lines, slips, shad_spaces=shad_spaces)
    found = []
    for name, number, block in blocks:
        before = len(slips)
        words = list(read_words(block))
        if not words and len(slips) == before:
            slips.add("A sentence is empty", number, "", "Take it out of the file.")
        # A line of the text may be nothing but white space.
        if words := attach_spaces(words):
            found.append((name, words))
    slips.check()
    has_spaces = has_spaces or any(map(str.isspace, "".join(word.form for _, words in found for word in words)))
    if shad_spaces and not has_spaces:
        found = [(name, list(put_back_spaces(words))) for name, words in found]
    if not any(has_tibetan(word.form) for _, words in found for word in words):
        raise InputError(f"There is no Tibetan in the file. Received: {path!r}. Take it out of the input.")
    return [Document(name, tuple(words)) for name, words in found]


def _formats(path: str, lines: _Lines, slips: Slips, *, shad_spaces: bool) -> tuple[Iterator[_Block], _ReadWords, bool]:
    """Cut a file into the lines of each document, choose their reader, and tell whether the format has white space."""
    stem = PurePosixPath(path).stem
    first = next((line for _, line in lines if line.strip() and not _is_comment(line)), "")
    columns = first.split("\t")
    if path.endswith(".conllu") or (len(columns) == COLUMNS and ID.fullmatch(columns[0])):
        titles = ("newdoc", "newdoc id") if _has_title(lines, "newdoc") else ("sent_id",)
        parted = titles == ("sent_id",)
        # Every file may number its sentences from 1.
        blocks = _blocks(stem, lines, titles, parted=parted, prefix=f"{stem}:" * parted, comments=True)
        return blocks, ConlluReader(lines, slips, spaces=shad_spaces).read, True
    # Tabs may stand between words with their tags, too.
    is_horizontal = any(all(mark in cell for cell in columns if cell.strip()) for mark in "|/")
    if len(columns) > 1 and not is_horizontal:
        title = next((title for title in ("doc", "page_id") if _has_title(lines, title)), None)
        # Every text may number its pages from 1.
        prefix = f"{stem}:" * (title == "page_id")
        blocks = _blocks(stem, lines, (title or "doc",), parted=not title, prefix=prefix)
        return blocks, partial(_read_columns, slips), False
    for mark in "|/":
        if mark in first:
            blocks = ((f"{stem}:{number}", number, [(number, line)]) for number, line in lines if _has_words(line))
            return blocks, partial(_read_horizontal, slips, mark), False
    raise InputError(
        f"The first line has no tag. Received: {first[:60]!r} in {path!r}. Give words as `form|tag` or `form/tag`, a "
        "word, a tab and its tag a line, or CoNLL-U."
    )


def _is_comment(line: str) -> bool:
    # The Kangyur has words that are a # alone.
    return line.startswith("# ") or (line.startswith("#") and not any(mark in line for mark in "\t|/"))


def _has_words(line: str) -> bool:
    return bool(line.strip()) and not _is_comment(line)


def _has_title(lines: _Lines, kind: str) -> bool:
    return any((match := _TITLE.fullmatch(line)) and match[1].startswith(kind) for _, line in lines)


def _blocks(
    stem: str, lines: _Lines, titles: tuple[str, ...], *, parted: bool, prefix: str = "", comments: bool = False
) -> Iterator[_Block]:
    """Cut a file at its titles and, if `parted`, at empty lines; put a prefix before the names from titles."""
    # The number of a document's title or first words; 0 before them.
    name, start = "", 0
    block: list[tuple[int, str]] = []
    for number, line in lines:
        match = _TITLE.fullmatch(line)
        title = match if match is not None and match[1] in titles else None
        if start and (title or (parted and not line.strip())):
            yield name or f"{stem}:{start}", start, block
            name, start, block = "", 0, []
        if title:
            name, start = f"{prefix}{title[2]}" if title[2] else "", number
        elif _has_words(line):
            start = start or number
            block.append((number, line))
        elif comments and line.strip():
            block.append((number, line))
    if start:
        yield name or f"{stem}:{start}", start, block


# === Lines to words, one reader per format; CoNLL-U has a module of its own ===


def _read_horizontal(slips: Slips, mark: str, lines: _Lines) -> Iterator[TaggedWord]:
    for number, line in lines:
        # Not at other white space, which may be part of a form.
        for token in filter(None, re.split("[ \t]", line)):
            if token == _UTTERANCE_END:
                continue
            form, _mark, tag = token.rpartition(mark)
            # Memory-Based Tagger doubles the slash behind a word that it does not know.
            yield _word(slips, number, token, form.removesuffix("/") if mark == "/" else form, tag)


def _read_columns(slips: Slips, lines: _Lines) -> Iterator[TaggedWord]:
    for number, line in lines:
        form, tag, *_rest = [*line.split("\t"), ""]
        # SOAS's vertical layout has the lemma, or a dash, after the tag.
        yield _word(slips, number, line, form, tag.strip().partition(" ")[0])


def _word(slips: Slips, number: int, line: str, form: str, tag: str) -> TaggedWord:
    if not form or not tag.strip():
        slips.add_missing("tag" if form else "word", number, line)
    elif _CANDIDATES.fullmatch(tag):
        slips.add("A word has a list of candidates for a tag", number, f"{line[:60]!r}", "Give tagged text.")
    return TaggedWord(clean_form(unescape(form)), tag.strip())


# === The split into training, validation and test data ===


def read_split(path: str | os.PathLike[str]) -> dict[str, str]:
    """Read a table that assigns each document to one of `PARTS`, a line `name<TAB>part` for each."""
    split: dict[str, str] = {}
    slips = Slips(os.fspath(path))
    for number, line in enumerate(read_lines(path), start=1):
        name, _, part = line.partition("\t")
        if part not in PARTS or name in split:
            slips.add(
                f"A line of a split is a new name, a tab and one of {PARTS}", number, f"{line[:60]!r}", "Correct it."
            )
        split[name] = part
    slips.check()
    return split


def split_documents(documents: Collection[Document], split: Mapping[str, str]) -> dict[str, list[Document]]:
    """Sort documents into the parts of a split."""
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
