"""`corpus.json`: what a corpus was made from, what is in it, and what was left out of the text."""

import json
import logging
import re
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any, NotRequired, Self, TypedDict

from tibert_keras.json_types import known_fields, read_typed_json
from tibert_keras.storage import join, list_folder, write_text

CORPUS_FILE = "corpus.json"
# A kind of markup.
NO_BREAK_SPACE = "no-break space inside a syllable"
_MAX_LISTED = 1000
_MAX_LOGGED = 20
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class UnknownMarkup:
    """A place with markup that no rule of the edition explains, with a few characters of the line on either side."""

    file: str
    line: int
    text: str
    context: str


@dataclass
class ReadingReport:
    """Counts the parts of a file that its reader left out. Reports can be added up.

    Attributes:
        file: Path of the file being read, for the places of unknown markup.
        markup: Occurrences by kind of markup.
        dropped: Characters left out of the text by kind of markup, line ends not counted.
        unknown: The first 1,000 places with unknown markup.
        num_unknown: Number of all such places.
        notes: Lines about the text that its user should read, each with the name of the file.
    """

    file: str = ""
    markup: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    unknown: list[UnknownMarkup] = field(default_factory=list)
    num_unknown: int = 0
    notes: list[str] = field(default_factory=list)

    def count(self, kind: str, num_dropped: int) -> None:
        """Count one occurrence of `kind` that kept `num_dropped` characters out of the text."""
        self.markup[kind] += 1
        self.dropped[kind] += num_dropped

    def leave_out(self, pattern: re.Pattern[str], kind: str, text: str, *, instead: str = "") -> str:
        """Replace all matches of a pattern in a text, and count them as occurrences of `kind`."""

        def replace(match: re.Match[str]) -> str:
            self.count(kind, len(match[0]))
            return instead

        return pattern.sub(replace, text)

    def add_unknown(self, line: int, text: str, context: str, *, num_dropped: int | None = None) -> None:
        """List a place with unknown markup, and log a warning for the first few in a file."""
        self.count("unknown", len(text) if num_dropped is None else num_dropped)
        self.num_unknown += 1
        if len(self.unknown) < _MAX_LISTED:
            self.unknown.append(UnknownMarkup(self.file, line, text, context))
        if self.num_unknown <= _MAX_LOGGED:
            _LOG.warning("%s:%d: unknown markup %r left out: %s", self.file, line, text, context)
        elif self.num_unknown == _MAX_LOGGED + 1:
            _LOG.warning("%s: more unknown markup, listed in the report only", self.file)

    def add(self, other: Self) -> None:
        self.markup.update(other.markup)
        self.dropped.update(other.dropped)
        self.unknown.extend(other.unknown[: _MAX_LISTED - len(self.unknown)])
        self.num_unknown += other.num_unknown
        self.notes.extend(other.notes)


@dataclass(kw_only=True)
class FileCounts:
    """Counts of one corpus file, in Unicode code points without line ends, with its volumes and its SHA-256."""

    volumes: list[int]
    documents: int = 0
    sections: int = 0
    characters: int = 0
    tshegs: int = 0
    sha256: str = ""


class _CorpusFile(TypedDict):
    options: dict[str, Any]
    input_file: NotRequired[str | None]
    inputs: dict[str, str]
    files: dict[str, FileCounts]
    dropped_characters: dict[str, int]
    markup: dict[str, int]
    num_unknown_markup: int
    unknown_markup: list[UnknownMarkup]
    notes: NotRequired[list[str]]


@dataclass(frozen=True, kw_only=True)
class CorpusReport:
    """The `corpus.json` of a folder of corpus files."""

    options: dict[str, Any]
    inputs: dict[str, str]
    input_file: str | None = None  # as it was given; `None` in older reports
    files: dict[str, FileCounts] = field(default_factory=dict)
    reading: ReadingReport = field(default_factory=ReadingReport)

    @classmethod
    def read(cls, folder: str) -> Self | None:
        """Read the report of a folder; `None` if it has none."""
        if CORPUS_FILE not in list_folder(folder):
            return None
        path, advice = join(folder, CORPUS_FILE), "Take another output_dir."
        content = read_typed_json(path, _CorpusFile, what="a manifest of a corpus", advice=advice)
        return cls(
            options=content["options"],
            inputs=content["inputs"],
            input_file=content.get("input_file"),
            files={name: known_fields(FileCounts, counts) for name, counts in content["files"].items()},
            reading=ReadingReport(
                markup=Counter(content["markup"]),
                dropped=Counter(content["dropped_characters"]),
                unknown=[known_fields(UnknownMarkup, place) for place in content["unknown_markup"]],
                num_unknown=content["num_unknown_markup"],
                notes=content.get("notes", []),
            ),
        )

    def write(self, folder: str) -> None:
        content = {
            "options": self.options,
            "input_file": self.input_file,
            "inputs": self.inputs,
            "files": {name: asdict(counts) for name, counts in self.files.items()},
            "dropped_characters": dict(self.reading.dropped.most_common()),
            "markup": dict(self.reading.markup.most_common()),
            "num_unknown_markup": self.reading.num_unknown,
            "unknown_markup": [asdict(place) for place in self.reading.unknown],
            "notes": self.reading.notes,
        }
        write_text(join(folder, CORPUS_FILE), json.dumps(content, ensure_ascii=False, indent=1) + "\n")

    def total(self, name: str) -> int:
        """Sum one of the counts ("documents", "sections", "characters", "tshegs") over all files."""
        return sum(getattr(counts, name) for counts in self.files.values())

    def summary(self) -> str:
        """Describe the corpus and what was left out of it in a few lines."""
        volumes = sum(len(counts.volumes) for counts in self.files.values())
        dropped = ", ".join(f"{count:,} {kind}" for kind, count in self.reading.dropped.most_common() if count)
        lines = [
            f"{len(self.files)} files of {volumes} volumes: {self.total('documents'):,} documents, "
            f"{self.total('sections'):,} sections, {self.total('characters'):,} characters, "
            f"{self.total('tshegs'):,} tshegs",
            f"Characters left out: {dropped or 'none'}",
        ]
        if self.reading.unknown:
            first = self.reading.unknown[0]
            lines.append(
                f"Unknown markup left out in {self.reading.num_unknown:,} places, listed in {CORPUS_FILE}; the first "
                f"in {first.file}:{first.line}: {first.text!r}"
            )
        if count := self.reading.markup[NO_BREAK_SPACE]:
            lines.append(
                f"No-break spaces between two letters, in {count:,} places, end a section there. Where they stand "
                "inside a syllable, take them out."
            )
        notes = self.reading.notes
        lines += notes[:_MAX_LOGGED]
        if len(notes) > _MAX_LOGGED:
            lines.append(f"{len(notes) - _MAX_LOGGED} more notes are in {CORPUS_FILE}.")
        return "\n".join(lines)
