"""Counts the characters of a text that are not Tibetan, and reports them in a line."""

import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator

from tibert_keras.tibetan import BLOCK, MARKER
from tibert_keras.transcription import GAP

_LOG = logging.getLogger(__name__)

_FOREIGN = re.compile(rf"[^{BLOCK}\s]")
_KNOWN = re.compile(f"{GAP.pattern}|{MARKER}")
# A name in brackets or a page number here and there is worth no line.
_SHARE = 0.02
_MAX_SHOWN = 8
_BEGINNING = 4000


class ForeignCounter:
    """Counts the characters of a text that are not Tibetan, without gaps and the markers of folios and lines."""

    def __init__(self) -> None:
        self.beginning = ""
        self._characters = 0
        self._foreign: Counter[str] = Counter()

    def add(self, text: str) -> None:
        """Count the characters of a part of the text."""
        if len(self.beginning) < _BEGINNING:
            self.beginning += f"{text} "
        self._characters += len(text)
        self._foreign.update(_FOREIGN.findall(_KNOWN.sub("", text)))

    def note(self) -> str:
        """Return a sentence about the characters, or nothing if they are few."""
        total = self._foreign.total()
        if total <= _SHARE * self._characters:
            return ""
        shown = ", ".join(f"`{sign}`" for sign, _ in self._foreign.most_common(_MAX_SHOWN))
        shown += ", ..." * (len(self._foreign) > _MAX_SHOWN)
        return f"{total / self._characters:.0%} of the characters are not Tibetan: {shown}."

    def warn(self, name: str) -> None:
        """Log a warning if there are many."""
        if note := self.note():
            _LOG.warning("%s: %s If this is markup, remove it, or give the text as TEI XML.", name, note)


def noting_foreign(lines: Iterable[tuple[str, str]], name: str) -> Iterator[tuple[str, str]]:
    """Yield the lines of a text with their ends, and log a warning at its end if much of it is not Tibetan."""
    counter = ForeignCounter()
    for line, end in lines:
        counter.add(line)
        yield line, end
    counter.warn(name)
