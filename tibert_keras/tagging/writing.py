"""Writes tagged text without loss: forms, joined, are the text, but for the escapes that `spaces.py` describes."""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from tibert_keras.corpus.transliteration import to_wylie
from tibert_keras.tagging.preparation import UNIVERSAL_TAGS
from tibert_keras.tagging.spaces import escape
from tibert_keras.tagging.words import TaggedWord
from tibert_keras.tibetan import MARKER, SYLLABLE_SPACES

_MARKER = re.compile(MARKER)
# Characters to escape in a table, in words separated by spaces, and in the last column of CoNLL-U.
_IN_ROW, _IN_PLAIN, _IN_MISC = "\t\r", "\t\r ", "\t\r\n |"


def plain(lines: Iterable[Any]) -> Iterator[str]:
    """Write SOAS's horizontal layout: words as `form|tag`, separated by spaces, in the lines of the text."""
    for line in lines:
        yield " ".join(f"{escape(word.form, _IN_PLAIN)}|{word.tag}" for word in line.words) + line.end


def tsv(lines: Iterable[Any], *, wylie: bool = False) -> Iterator[str]:
    """Write a word, a tab and its tag per line, and an empty line for each line break of the text."""
    for line in lines:
        for word in line.words:
            columns = [escape(word.form, _IN_ROW), word.tag, *([_in_wylie(word)] if wylie else [])]
            yield "\t".join(columns) + "\n"
        yield line.end


def json_lines(lines: Iterable[Any], *, wylie: bool = False) -> Iterator[str]:
    """Write a JSON object per line of the text, with its `line` number, its `words` and its `end`."""
    for line in lines:
        words = [
            {"form": word.form, "tag": word.tag} | ({"wylie": _in_wylie(word)} if wylie else {}) for word in line.words
        ]
        yield json.dumps({"line": line.number, "words": words, "end": line.end}, ensure_ascii=False) + "\n"


def words(lines: Iterable[Any]) -> Iterator[str]:
    """Write the words of each line separated by spaces, without their own spaces, folio markers and tags."""
    for line in lines:
        forms = ("".join(_MARKER.sub("", word.form).split()) for word in line.words)
        yield " ".join(filter(None, forms)) + line.end


def conllu(lines: Iterable[Any], *, wylie: bool = False) -> Iterator[str]:
    """Write CoNLL-U, a sentence per line of the text, and `# newdoc` where a document begins.

    A joined tag becomes as many words of unknown form below their common form. Spaces and line breaks go to the last
    column, as `SpacesAfter` and, at the start, `SpacesBefore`; so does Wylie, as `Translit`.
    """
    before, document = "", 0
    sentence: tuple[str, int, list[TaggedWord], str, str] | None = None
    for line in lines:
        if line.words:
            if sentence is not None:
                yield _sentence(*sentence, wylie=wylie)
            title = "# newdoc" * (line.document != document)
            sentence, before, document = (title, line.number, line.words, before, line.end), "", line.document
        # An empty line is no sentence: its line break belongs to the one before.
        elif sentence is not None:
            sentence = (*sentence[:-1], sentence[-1] + line.end)
        else:
            before += line.end
    if sentence is not None:
        yield _sentence(*sentence, wylie=wylie)


def _sentence(title: str, number: int, words: list[TaggedWord], before: str, after: str, *, wylie: bool) -> str:
    text = escape("".join(word.form for word in words), _IN_ROW)
    rows, first = [*filter(None, [title]), f"# sent_id = {number}", f"# text = {text}"], 1
    for index, word in enumerate(words):
        tail = after if index == len(words) - 1 else ""
        rows += _word_rows(first, word, before if index == 0 else "", tail, wylie=wylie)
        first += len(word.tag.split("+"))
    return "\n".join(rows) + "\n\n"


def _word_rows(first: int, word: TaggedWord, before: str, after: str, *, wylie: bool) -> list[str]:
    form = word.form.strip(SYLLABLE_SPACES)
    # A line of nothing but spaces is a single word.
    start = word.form.index(form) if form else len(word.form)
    before, after = before + word.form[:start], word.form[start + len(form) :] + after
    shown = escape(form, _IN_ROW) or "_"
    misc = [f"SpacesBefore={escape(before, _IN_MISC)}"] if before else []
    misc += [f"SpacesAfter={escape(after, _IN_MISC)}" if after else "SpaceAfter=No"]
    misc += [f"Translit={escape(_in_wylie(word), _IN_MISC)}"] if wylie and form else []
    tags = word.tag.split("+")
    rows = [_row(str(first + index), "_", tag, "_") for index, tag in enumerate(tags)]
    if len(tags) == 1:
        return [_row(str(first), shown, tags[0], "|".join(misc))]
    return ["\t".join([f"{first}-{first + len(tags) - 1}", shown, *"_______", "|".join(misc)]), *rows]


def _in_wylie(word: TaggedWord) -> str:
    return to_wylie(_MARKER.sub("", word.form).strip(SYLLABLE_SPACES))


def _row(number: str, form: str, tag: str, misc: str) -> str:
    universal = tag if tag in UNIVERSAL_TAGS else "X"
    return "\t".join([number, form, "_", universal, tag, "_", "_", "_", "_", misc])


# Those of `IN_WYLIE` take `wylie`, whether to add each word in Wylie.
IN_WYLIE = ("tsv", "conllu", "json")
FORMATS: dict[str, Callable[..., Iterator[str]]] = {
    "plain": plain,
    "tsv": tsv,
    "conllu": conllu,
    "json": json_lines,
    "words": words,
}
