"""Find the volumes of an edition, tell their edition, collection and number, and read them."""

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import Any, Literal

from tibert_keras.corpus.markup import LINE_START, Reading, esukhia_text
from tibert_keras.corpus.openpecha import is_openpecha_base, read_openpecha, volume_files
from tibert_keras.corpus.plain import plain_text
from tibert_keras.corpus.recognition import check_kind
from tibert_keras.corpus.report import ReadingReport
from tibert_keras.corpus.sections import group_documents, split_sections
from tibert_keras.corpus.table import TABLE_ENDINGS, table_text
from tibert_keras.corpus.tei import tei_text
from tibert_keras.corpus.transliteration import ForeignCounter, TibetanConverter, Transliteration, no_tibetan
from tibert_keras.errors import InputError
from tibert_keras.storage import expand_glob, read_lines
from tibert_keras.tibetan import TSHEGS, has_tibetan
from tibert_keras.transcription import GAP, OTHER_BREAK, close_lines

Edition = Literal["auto", "esukhia", "openpecha", "plain", "tei", "table"]

NUM_PARTITIONS = 20
# The editions whose files are volumes.
_CANONS = ("esukhia", "openpecha")
_HEAD_LINES = 200
_NUMBER = re.compile(r"v?(\d+)")
_TOHOKU_ID = re.compile(r"\{[DT](\d+)")
# With the tshegs after it, which begin no section.
_GAP = re.compile(f"(?:{GAP.pattern})[{TSHEGS}]*")
# The catalogue numbers the Kangyur and the Tengyur in one sequence.
_LAST_KANGYUR_ID = 1108
_COLLECTION_NAMES = {"kangyur": "kangyur", "p000001": "kangyur", "tengyur": "tengyur", "p000002": "tengyur"}


@dataclass(frozen=True, kw_only=True)
class Volume:
    """A volume file and its place in the corpus.

    Its edition is that of its reader, never "auto"; `is_forced` says that it was given, not told by the file. The
    collection is "kangyur", "tengyur" or "text".
    """

    path: str
    edition: Edition
    collection: str
    number: int
    is_forced: bool = False

    @property
    def source_files(self) -> list[str]:
        """All files that the volume's text depends on."""
        return volume_files(self.path) if self.edition == "openpecha" else [self.path]


def detect_edition(path: str, *, edition: Edition = "auto") -> Edition:
    """Tell a file's edition by its path and first lines, unless it is given."""
    is_xml = check_kind(path)
    if edition == "openpecha" and not is_openpecha_base(path):
        raise InputError(
            f"A volume of OpenPecha is a file base/vNNN.txt. Received: edition={edition!r} for {path!r}. "
            "Use 'auto', or the edition that the file is of."
        )
    if edition != "auto":
        return edition
    if is_xml:
        return "tei"
    if any(map(LINE_START.match, itertools.islice(read_lines(path), _HEAD_LINES))):
        return "esukhia"
    if is_openpecha_base(path):
        return "openpecha"
    return "table" if path.lower().endswith(TABLE_ENDINGS) else "plain"


def find_volumes(input_file: str, *, edition: Edition = "auto") -> list[Volume]:
    """List the volumes that match a pattern, by collection and number.

    The numbers are those at the start of the file names. If a name has none, or two plain text files have the same, the
    files of the collection are numbered from 1 in the order of their paths.
    """
    parts = (part.strip().rstrip("/") for part in input_file.split(","))
    paths = expand_glob(",".join(f"{part}/base/*.txt" if part.endswith(".opf") else part for part in parts))
    editions = {path: detect_edition(path, edition=edition) for path in paths}
    collections: dict[str, list[str]] = {}
    for path, name in _name_collections(paths).items():
        collections.setdefault(name, []).append(path)
    return [
        Volume(path=path, edition=editions[path], collection=collection, number=number, is_forced=edition != "auto")
        for collection, members in sorted(collections.items())
        for number, path in _number(members, plain=not {editions[path] for path in members} & set(_CANONS))
    ]


def _name_collections(paths: list[str]) -> dict[str, str]:
    names = {path: _name_from_path(path) or _name_from_ids(path) for path in paths}
    # A volume without a Tohoku id continues a text of the volumes in the same folder.
    folders = {PurePosixPath(path).parent: name for path, name in names.items() if name}
    return {path: name or folders.get(PurePosixPath(path).parent, "text") for path, name in names.items()}


def _name_from_path(path: str) -> str | None:
    parts = reversed(PurePosixPath(path.lower()).parts[-3:])
    return next((name for part in parts for sign, name in _COLLECTION_NAMES.items() if sign in part), None)


def _name_from_ids(path: str) -> str | None:
    for line in itertools.islice(read_lines(path), _HEAD_LINES):
        if match := _TOHOKU_ID.search(line):
            return "kangyur" if int(match[1]) <= _LAST_KANGYUR_ID else "tengyur"
    return None


def _number(paths: list[str], *, plain: bool) -> list[tuple[int, str]]:
    numbers = [_NUMBER.match(PurePosixPath(path).name) for path in paths]
    numbered = sorted((int(match[1]), path) for match, path in zip(numbers, paths, strict=True) if match)
    twins = [(one, two) for (n, one), (m, two) in itertools.pairwise(numbered) if n == m]
    if len(numbered) < len(paths) or (twins and plain):
        return list(enumerate(paths, start=1))
    if twins:
        raise InputError(f"Two files are the same volume. Received: {twins[0][0]!r} and {twins[0][1]!r}. Give one.")
    return numbered


def read_volume(
    volume: Volume,
    report: ReadingReport,
    *,
    reading: Reading = "original",
    tohoku_documents: bool = True,
    column: str | None = None,
    transliteration: Transliteration | None = None,
) -> Iterator[str]:
    """Read a volume, plain text as a stream, as sections, with an empty string between two documents."""
    options: dict[str, Any] = {"reading": reading, "tohoku_documents": tohoku_documents}
    path = volume.path
    converter = TibetanConverter(transliteration)
    convert = partial(map, converter.convert_line)
    if volume.edition == "esukhia":
        lines = esukhia_text(convert(read_lines(path)), report, **options)
    elif volume.edition == "openpecha":
        lines = read_openpecha(path, report, **options)
    elif volume.edition == "plain":
        lines = plain_text(convert(line.rstrip(" ") if transliteration else line for line in _lines(path)), report)
    else:
        if volume.edition == "tei":
            lines = tei_text(path, report, reading=reading, any_root=volume.is_forced)
        else:
            lines = table_text(_lines(path), report, column=column)
        lines = close_lines(itertools.chain(convert(lines), [""]))
    if volume.edition not in _CANONS:
        # They end a section: a model should learn neither `[GAP:2]` nor its neighbours as one text.
        lines = map(partial(report.leave_out, _GAP, "gap", instead=" "), lines)
    counter = ForeignCounter()
    found_tibetan = False
    for section in split_sections(lines):
        found_tibetan = found_tibetan or has_tibetan(section)
        # The readers of canons leave out all that is not Tibetan themselves.
        if volume.edition not in _CANONS:
            counter.add(section)
        yield section
    if not found_tibetan:
        raise no_tibetan(counter.beginning, path)
    if note := converter.note():
        report.notes.append(f"{path}: {note}")
    if note := counter.note():
        advice = "If this is markup, remove it, or choose the reader that knows it with --edition."
        report.notes.append(f"{path}: {note} {advice}")


def _lines(path: str) -> Iterator[str]:
    """Read a file line by line, where lines may end as on other systems, too."""
    return (part for line in read_lines(path) for part in OTHER_BREAK.split(line))


def read_documents(
    input_file: str, *, edition: Edition = "auto", report: ReadingReport | None = None, **options: Any
) -> Iterator[list[str]]:
    """Read documents, lists of sections, from one or more files as a stream, with the options of `read_volume`."""
    total = ReadingReport() if report is None else report
    for volume in find_volumes(input_file, edition=edition):
        found = ReadingReport(volume.path)
        yield from group_documents(read_volume(volume, found, **options))
        total.add(found)
