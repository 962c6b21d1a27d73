"""Read OpenPecha's OPF: `base/vNNN.txt`, and annotations by character offset.

`layers/vNNN/Correction.yml` and `Archaic.yml` hold the other reading of some spans, whose `end` is inclusive: the
text of a span is `base[start : end + 1]`. `index.yml` records at which offset of which volume each work starts. A
line of the base is a line of print, an empty line separates pages. The base still has some of the markup of
`markup.py`.
"""

import functools
import re
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from tibert_keras.corpus.markup import Reading, resolve_markup
from tibert_keras.corpus.report import ReadingReport
from tibert_keras.corpus.sections import DOCUMENT_BREAK
from tibert_keras.errors import InputError
from tibert_keras.storage import list_folder, read_bytes, read_lines
from tibert_keras.tibetan import SHADS, YIG_MGO
from tibert_keras.yaml_files import load_yaml

_BASE_PATH = re.compile(r"(?:^|(?P<opf>.*)/)base/(?P<volume>v(?P<number>\d+))\.txt")
# The kind of a layer's annotations, and the name of the text in each.
_LAYERS = {"Correction.yml": ("correction", "correction"), "Archaic.yml": ("archaic spelling", "modern")}
# A work's offset may be off by a few characters, even inside a word: move it to the next place where a section can
# start.
_SECTION_START = re.compile(rf"(?<=[{SHADS} \n])(?![{SHADS}])|(?=[{YIG_MGO}])")
_CONTEXT = 12


class Edit(NamedTuple):
    """Text that replaces `base[start:stop]`, and the kind of annotation it comes from."""

    start: int
    stop: int
    text: str
    kind: str


def is_openpecha_base(path: str) -> bool:
    """Return whether a path is that of a volume of an OPF: `.../base/vNNN.txt`."""
    return _BASE_PATH.fullmatch(path) is not None


def volume_files(path: str) -> list[str]:
    """List the files that a volume's text depends on: its base, and the layers and index if they exist."""
    opf, volume, _ = _locate(path)
    layers = f"{opf}/layers/{volume}"
    found = [f"{layers}/{name}" for name in list_folder(layers) if name in _LAYERS]
    index = [f"{opf}/index.yml"] if "index.yml" in list_folder(opf) else []
    return [path, *index, *found]


def read_openpecha(
    path: str, report: ReadingReport, *, reading: Reading = "original", tohoku_documents: bool = True
) -> Iterator[str]:
    """Read a volume, with its layers applied, as running text for `split_sections`."""
    base, (_, _, number) = "\n".join(read_lines(path)), _locate(path)
    edits: list[Edit] = []
    for file in volume_files(path)[1:]:
        if file.endswith("index.yml"):
            edits += _work_starts(file, number) if tohoku_documents else []
        elif reading == "corrected":
            edits += _read_layer(file)
    text = apply_edits(base, edits, report)
    return resolve_markup(text.split("\n"), report, reading=reading, tohoku_documents=tohoku_documents)


def apply_edits(base: str, edits: Iterable[Edit], report: ReadingReport) -> str:
    """Apply annotations to a base text."""
    parts, position = [], 0
    for start, stop, text, kind in sorted(_snap(edit, base) for edit in edits):
        old = base[start:stop]
        if text == DOCUMENT_BREAK:
            start = stop = max(start, position)
        if start < position or not 0 <= start <= stop <= len(base):
            context = base[max(0, start - _CONTEXT) : stop + _CONTEXT].replace("\n", " ")
            line = base.count("\n", 0, start) + 1
            report.add_unknown(line, f"{kind} {start}-{stop - 1}", context, num_dropped=0)
            continue
        if kind:
            report.count(kind, len(old))
        # Keep line ends inside the span, and with them the line numbers. They end no section by themselves.
        parts += [base[position:start], text, "\n" * old.count("\n")]
        position = stop
    return "".join([*parts, base[position:]])


def _snap(edit: Edit, base: str) -> Edit:
    if edit.text != DOCUMENT_BREAK or edit.start <= 0:
        return edit
    match = _SECTION_START.search(base, edit.start)
    start = match.start() if match else len(base)
    return edit._replace(start=start, stop=start)


def _locate(path: str) -> tuple[str, str, int]:
    match = _BASE_PATH.fullmatch(path)
    if match is None:
        raise InputError(f"Not a volume of an OPF. Received: {path!r}. Its path must end in base/vNNN.txt.")
    return match["opf"] or ".", match["volume"], int(match["number"])


# Every volume needs the index, which takes a third of a second to parse. Files may change, so the key is the content.
_parse_yaml = functools.lru_cache(maxsize=4)(load_yaml)


def _annotations(path: str) -> list[dict[str, Any]]:
    try:
        content = _parse_yaml(read_bytes(path), aliases=True)
    except ValueError as error:
        reason = str(error).split("\n")[0]
        raise InputError(f"Not valid YAML: {reason}. Received: {path!r}. Fetch the file again.") from error
    found = content.get("annotations") if isinstance(content, dict) else None
    if isinstance(found, dict):
        found = list(found.values())
    if not all(isinstance(each, dict) for each in found or []):
        raise InputError(f"Not an OPF layer: no annotations in it. Received: {path!r}. Fetch the file again.")
    return list(found or [])


def _read_layer(path: str) -> list[Edit]:
    kind, name = _LAYERS[PurePosixPath(path).name]
    edits = []
    for each in _annotations(path):
        span, text = each.get("span"), each.get(name, 0)
        if text is None:
            continue  # A span marked without another reading.
        if not isinstance(text, str):
            raise InputError(f"An annotation lacks {name!r}. Received: {each!r} in {path!r}. Fetch the file again.")
        edits.append(Edit(_offset(span, "start", path), _offset(span, "end", path) + 1, text, kind))
    return edits


def _work_starts(path: str, volume: int) -> set[Edit]:
    starts: set[Edit] = set()
    works = _annotations(path)
    while works:
        work = works.pop()
        parts = work.get("parts") or []
        works += parts.values() if isinstance(parts, dict) else parts
        for span in work.get("span") or []:
            if _offset(span, "vol", path) == volume:
                start = _offset(span, "start", path)
                starts.add(Edit(start, start, DOCUMENT_BREAK, ""))
    return starts


def _offset(span: Any, name: str, path: str) -> int:
    value = span.get(name) if isinstance(span, dict) else None
    if not isinstance(value, int):
        raise InputError(f"A span lacks the number {name!r}. Received: {span!r} in {path!r}. Fetch the file again.")
    return value
