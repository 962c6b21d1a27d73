"""Read TEI XML: the text, with its gaps, and without header, notes and page furniture.

| element | result |
|---|---|
| `teiHeader`, `note`, `fw`, `figDesc`, `del`, ... | left out, with all in them |
| `pb`, `cb`, `milestone` | left out; they part nothing |
| `lb` | a line end |
| `gap` | `[GAP:2]`, `[GAP:1-3]`, or `[GAP]` if its extent is not given in syllables |
| `choice` | one of `sic` and `corr`, `orig` and `reg`, `abbr` and `expan`, by the reading that is asked for |
| `app` | its `lem`, or its first `rdg` |
| `p`, `ab`, `l`, `head`, `div`, ... | end a section, unless they end in a tsheg: some files have a `p` a page |
| `text` | starts a document |
| all others | their text |

https://tei-c.org/release/doc/tei-p5-doc/en/html/
"""

import re
from collections.abc import Iterator
from html.entities import name2codepoint
from xml.parsers import expat

from tibert_keras.corpus.markup import Reading
from tibert_keras.corpus.report import ReadingReport
from tibert_keras.corpus.sections import DOCUMENT_BREAK
from tibert_keras.errors import InputError
from tibert_keras.storage import open_binary
from tibert_keras.tibetan import EDITION_SPACES, TSHEGS

_ROOTS = {"TEI", "TEI.2", "teiCorpus", "text"}
_LEFT_OUT = {"teiHeader", "note", "fw", "figDesc", "del", "facsimile", "sourceDoc", "standOff"}
_MARKERS = {"pb": "page marker", "cb": "column marker", "milestone": "milestone", "lb": "line marker"}
_BLOCKS = {
    "ab", "p", "l", "lg", "div", "div1", "div2", "head", "item", "list", "row", "cell", "table", "quote", "trailer",
}  # fmt: skip
_CHOSEN: dict[Reading, set[str]] = {"original": {"sic", "orig", "abbr"}, "corrected": {"corr", "reg", "expan"}}
_LINE_END = re.compile(r"[ \t]*\n\s*")
_SPACES = re.compile(EDITION_SPACES)
_NUMBER = re.compile(r"\d+")
_BLOCK_SIZE = 1 << 16
# Longer values, and values that name other entities, are how a small file becomes a huge text.
_LONGEST_ENTITY = 100
# The entities of HTML, which some files use without declaring them.
_HTML_ENTITIES = "".join(f'<!ENTITY {name} "&#{code};">' for name, code in name2codepoint.items() if code > 127)


def tei_text(
    path: str, report: ReadingReport, *, reading: Reading = "original", any_root: bool = False
) -> Iterator[str]:
    """Read the text of a TEI file as lines of running text, with a space at the end of each that ends a section."""
    reader = _Reader(path, report, reading, any_root=any_root)
    try:
        with open_binary(path) as file:
            while block := file.read(_BLOCK_SIZE):
                reader.parser.Parse(block, False)
                yield from reader.take_lines()
        reader.parser.Parse(b"", True)
    except expat.ExpatError as error:
        reason = f"{expat.ErrorString(error.code)}, line {error.lineno}"
        raise InputError(f"Not well-formed XML: {reason}. Received: {path!r}. Correct it.") from error
    except InputError:
        raise
    except (LookupError, ValueError) as error:
        # The encoding that the file declares is unknown, or not supported.
        raise InputError(f"The XML cannot be read: {error}. Received: {path!r}. Convert it to UTF-8.") from error
    reader.end_line()
    yield from reader.take_lines()


class _Reader:
    def __init__(self, path: str, report: ReadingReport, reading: Reading, *, any_root: bool) -> None:
        self.path, self.report, self.any_root = path, report, any_root
        self._chosen = _CHOSEN[reading]
        self._line = ""
        self._lines: list[str] = []
        # The open elements, each with whether it is in a part that is left out, and the number of its elements so far.
        self._open: list[tuple[str, bool]] = []
        self._children: list[int] = []
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.StartElementHandler, self.parser.EndElementHandler = self._start, self._end
        self.parser.CharacterDataHandler = self._characters
        self.parser.EntityDeclHandler = self._check_entity
        self.parser.UseForeignDTD(True)
        self.parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_ALWAYS)
        self.parser.ExternalEntityRefHandler = self._external
        self.parser.SkippedEntityHandler = self._skipped

    def take_lines(self) -> list[str]:
        lines, self._lines = self._lines, []
        return lines

    def _end_block(self) -> None:
        # After a tsheg the sentence goes on.
        self.end_line(" " * (not self._line.rstrip().endswith(tuple(TSHEGS))))

    def end_line(self, ending: str = "") -> None:
        if self._line or ending == DOCUMENT_BREAK:
            self._lines.append(self._line + ending)
        self._line = ""

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        name = name.rpartition(":")[2]
        if not self._open and name not in _ROOTS and not self.any_root:
            raise InputError(
                f"The XML file is not TEI. Received: {self.path!r} with the root <{name}>. "
                "Convert it to TEI or plain text, or read the text of all its elements with --edition=tei."
            )
        parent, left_out = self._open[-1] if self._open else ("", False)
        if not left_out and self._is_left_out(name, parent):
            left_out = True
            self.report.count(f"<{name}>", 0)
        if self._children:
            self._children[-1] += 1
        # What a gap contains describes it.
        self._open.append((name, left_out or name == "gap"))
        self._children.append(0)
        if left_out:
            return
        if name in _MARKERS:
            self.report.count(_MARKERS[name], 0)
        if name == "lb":
            self.end_line()
        elif name in _BLOCKS:
            self._end_block()
        elif name == "text":
            self.end_line(DOCUMENT_BREAK)
        elif name == "gap":
            self._line += _gap(attributes)
        elif name == "space":
            self._line += " "

    def _is_left_out(self, name: str, parent: str) -> bool:
        if parent == "choice":
            return name in set.union(*_CHOSEN.values()) - self._chosen
        return name in _LEFT_OUT or (parent == "app" and self._children[-1] > 0)

    def _end(self, _: str) -> None:
        name, left_out = self._open.pop()
        self._children.pop()
        if not left_out and name in _BLOCKS:
            self._end_block()

    def _characters(self, text: str) -> None:
        if self._open[-1][1]:
            self.report.dropped[f"<{next(name for name, left_out in self._open if left_out)}>"] += len(text)
            return
        # A line end of the file is one of the text at most: nothing ends there.
        first, *others = _LINE_END.split(text)
        self._line += _SPACES.sub(" ", first if self._line else first.lstrip())
        for line in others:
            self.end_line()
            self._line = _SPACES.sub(" ", line)

    def _check_entity(
        self, name: str, is_parameter: bool, value: str | None, _base: str | None, system_id: str | None, *_: str | None
    ) -> None:
        if value is None and is_parameter:
            # A part of the DTD, which is not read.
            return
        if value is None or len(value) > _LONGEST_ENTITY or "&" in value or "%" in value:
            shown = f"SYSTEM {system_id!r}" if value is None else f"{value[:40]!r}"
            raise InputError(
                "The file declares an entity that may be harmful: a file, a long text, or one made of other entities. "
                f"Received: {name!r} as {shown} in {self.path!r}. Write its text in place of it."
            )

    def _skipped(self, name: str, _is_parameter: bool) -> None:
        raise InputError(
            f"The file has an entity that it does not declare. Received: {name!r}, line "
            f"{self.parser.CurrentLineNumber} of {self.path!r}. Write its text in place of it."
        )

    def _external(self, context: str, _base: str | None, _system_id: str | None, _public_id: str | None) -> int:
        # The file's DTD is not read; it gets the names of HTML's entities instead.
        parser = self.parser.ExternalEntityParserCreate(context)
        parser.EntityDeclHandler = None
        parser.Parse(_HTML_ENTITIES.encode(), True)
        return 1


def _gap(attributes: dict[str, str]) -> str:
    unit = attributes.get("unit", attributes.get("extent", ""))
    sizes = [attributes.get(name, "") for name in ("atLeast", "atMost")]
    if not all(sizes):
        sizes = _NUMBER.findall(attributes.get("quantity", attributes.get("extent", "")))[:2]
    if "syl" not in unit.lower() or not sizes or not all(map(str.isdecimal, sizes)):
        return "[GAP]"
    return f"[GAP:{'-'.join(sizes)}]"
