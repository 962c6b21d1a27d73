"""What reading an edition left out: every character that did not reach the text, counted by kind."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field

_LOG = logging.getLogger(__name__)

_MAX_LISTED = 1000
_MAX_LOGGED = 20


@dataclass(frozen=True)
class UnknownMarkup:
    """One place with markup that no rule of the edition explains.

    Attributes:
        file: Path of the file.
        line: Line number in it, from 1.
        text: The signs left out of the text.
        context: The same with a few characters of the line on either side.
    """

    file: str
    line: int
    text: str
    context: str


@dataclass
class ReadingReport:
    """Counts of what one reader found in its file, or of several such reports added up.

    Attributes:
        file: Path of the file that is being read, for the places of unknown markup.
        markup: Occurrences by kind of markup.
        dropped: Characters left out of the text by kind of markup; line ends are not counted.
        unknown: The first 1,000 places with unknown markup.
        num_unknown: How many such places there are.
    """

    file: str = ""
    markup: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    unknown: list[UnknownMarkup] = field(default_factory=list)
    num_unknown: int = 0

    def count(self, kind: str, num_dropped: int) -> None:
        """Count one occurrence of `kind` that kept `num_dropped` characters out of the text."""
        self.markup[kind] += 1
        self.dropped[kind] += num_dropped

    def add_unknown(self, line: int, text: str, context: str, *, num_dropped: int | None = None) -> None:
        """List a place with unknown markup, and log a warning for the first few of a file."""
        self.count("unknown", len(text) if num_dropped is None else num_dropped)
        self.num_unknown += 1
        if len(self.unknown) < _MAX_LISTED:
            self.unknown.append(UnknownMarkup(self.file, line, text, context))
        if self.num_unknown <= _MAX_LOGGED:
            _LOG.warning("%s:%d: unknown markup %r left out: %s", self.file, line, text, context)
        elif self.num_unknown == _MAX_LOGGED + 1:
            _LOG.warning("%s: more unknown markup, listed in the report only", self.file)

    def add(self, other: ReadingReport) -> None:
        """Add the counts of another report to this one."""
        self.markup.update(other.markup)
        self.dropped.update(other.dropped)
        self.unknown.extend(other.unknown[: _MAX_LISTED - len(self.unknown)])
        self.num_unknown += other.num_unknown
