"""Reads the lines of CoNLL-U, with the spaces of the text: https://universaldependencies.org/format.html."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import zip_longest

from tibert_keras.tagging.slips import Slips
from tibert_keras.tagging.spaces import clean_form, space_between, unescape
from tibert_keras.tagging.words import TAG_SEPARATOR, TaggedWord

COLUMNS = 10
# The number of a word, the range of words that a form stands for, or the number of a word that is not in the text.
ID = re.compile(r"(\d+)(?:-(\d+)|\.\d+)?")
_TEXT = re.compile(r"#\s*text\s*=\s*(.*)")
_NO_SPACE_AFTER = "SpaceAfter=No"


@dataclass
class _Token:
    """A form of the text, with the tags of its words and the white space around it."""

    form: str
    tags: list[str]
    before: str = ""
    # `None` if the file does not say.
    after: str | None = None


class ConlluReader:
    """Reads the documents of a file.

    The white space is that of `SpacesAfter`, `SpacesBefore` and `SpaceAfter=No`, or else of `# text`. By the format's
    rule a word that has none of them has a space after it; but this holds only in a file that uses `SpaceAfter=No`,
    for Tibetan has no spaces between words. Elsewhere it has one if it is a shad.
    """

    def __init__(self, lines: Iterable[tuple[int, str]], slips: Slips, *, spaces: bool) -> None:
        self._slips, self._with_spaces = slips, spaces
        self._spaces_by_rule = any(
            len(columns := line.split("\t")) == COLUMNS and _NO_SPACE_AFTER in columns[9].split("|")
            for _, line in lines
        )

    def read(self, lines: Iterable[tuple[int, str]]) -> Iterator[TaggedWord]:
        """Yield the words of a document. Lines that begin with `#` are comments, except `# text = ...`."""
        tokens: list[_Token] = []
        for text, sentence in _sentences(lines):
            of_sentence = list(self._tokens(sentence))
            if text is not None and all(token.after is None for token in of_sentence):
                _take_spaces(of_sentence, text)
            tokens += of_sentence
        before = ""
        for token, following in zip_longest(tokens, tokens[1:]):
            form = clean_form(token.form)
            if self._with_spaces:
                form = clean_form(token.before) + form
                form += self._space(token, before + form, following.form if following else "")
            yield TaggedWord(form, TAG_SEPARATOR.join(token.tags))
            before = form

    def _space(self, token: _Token, before: str, after: str) -> str:
        if token.after is None and self._spaces_by_rule:
            return " " if after else ""
        space = clean_form(token.after or "")
        # Where nothing is said, and at a line break, as editions have it.
        return space if space == token.after else space or space_between(before, after)

    def _tokens(self, lines: Iterable[tuple[int, str]]) -> Iterator[_Token]:
        # A form over several words, its line, and the numbers of its words.
        token, opened, first, last = _Token("", []), (0, ""), 0, 0
        for number, line in lines:
            columns = line.split("\t")
            match = ID.fullmatch(columns[0])
            if len(columns) != COLUMNS or match is None:
                what = f"A line of CoNLL-U has {COLUMNS} columns and begins with a number"
                self._slips.add(what, number, f"{line[:60]!r} with {len(columns)}", "Complete it.")
                continue
            if "." in columns[0]:
                continue
            if last and (match[2] or int(match[1]) != first + len(token.tags)):
                self._complain(*opened)
                last = 0
            if match[2]:
                token, opened, first, last = _token(columns), (number, line), int(match[1]), int(match[2])
                continue
            if not last:
                token = _token(columns)
            tag = _tag(columns)
            if not tag or not (token.form.strip() or token.before):
                self._slips.add_missing("word" if tag else "tag", number, line)
            token.tags.append(tag)
            if not last or int(match[1]) == last:
                yield token
                last = 0
        if last:
            self._complain(*opened)

    def _complain(self, number: int, line: str) -> None:
        what = "A form over several words lacks one of them"
        self._slips.add(what, number, f"{line[:60]!r}", "Add the line.")


def _sentences(lines: Iterable[tuple[int, str]]) -> Iterator[tuple[str | None, list[tuple[int, str]]]]:
    """Cut a document where the numbers begin again; yield each sentence's `# text` and its lines."""
    text: str | None = None
    sentence: list[tuple[int, str]] = []
    for number, line in lines:
        if line.startswith("#"):
            if sentence:
                yield text, sentence
                text, sentence = None, []
            if match := _TEXT.fullmatch(line):
                text = match[1]
        else:
            sentence.append((number, line))
    if sentence:
        yield text, sentence


def _token(columns: list[str]) -> _Token:
    spaces = dict(item.split("=", 1) for item in columns[9].split("|") if "=" in item)
    token = _Token(unescape(columns[1]), [], unescape(spaces.get("SpacesBefore", "")))
    if "SpacesAfter" in spaces:
        token.after = unescape(spaces["SpacesAfter"])
    elif spaces.get("SpaceAfter") == "No":
        token.after = ""
    if columns[1] == "_" and token.before:
        # A stretch of nothing but white space.
        token.form = ""
    return token


def _tag(columns: list[str]) -> str:
    # The universal tag; where there is none or only a placeholder, the tag of the corpus itself.
    return (columns[4] if columns[3].strip() in ("X", "_") and columns[4].strip(" _") else columns[3]).strip()


def _take_spaces(tokens: list[_Token], text: str) -> None:
    """Take the white space between the tokens of a sentence from its text, if this consists of their forms."""
    spaces, place = [], 0
    for token in tokens:
        start = text.find(token.form, place)
        if start < 0 or text[place:start].strip():
            return
        spaces.append(text[place:start])
        place = start + len(token.form)
    # With a space between all words it is a list of words.
    if text[place:].strip() or (len(tokens) > 1 and all(spaces[1:])):
        return
    for token, space in zip(tokens, spaces[1:], strict=False):
        token.after = space
