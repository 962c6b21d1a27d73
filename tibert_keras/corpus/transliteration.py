"""Converts Latin transliterations to Tibetan script, and tells of text that is neither.

The conversion is that of pyewts: Extended Wylie (EWTS), and the Asian Classics Input Project's (ACIP) by way of it.
"""

import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any, Literal

from tibert_keras import tibetan
from tibert_keras.errors import InputError
from tibert_keras.transcription import GAP

Transliteration = Literal["ewts", "acip"]
_NAMES: dict[Transliteration, str] = {"ewts": "Wylie (EWTS)", "acip": "ACIP"}

_LOG = logging.getLogger(__name__)

# Gaps and page markers stay as they are.
_BRACKETED = re.compile(rf"(\[[^\[\]\n]*\]|<gap\b[^<>]*>|{tibetan.BRACKETED_NUMBER}|{tibetan.SIDE_BETWEEN_STROKES})")
_SPACES = re.compile(" +")
# pyewts's time is quadratic in such a run. No word is so long.
_ENDLESS = re.compile(r"(?<!\S)\S{256}")
# Before a shad, a tsheg is written after ང only; after ཀ, ག and ཤ there is a space.
_SPACE_BEFORE_SHAD, _TSHEG_BEFORE_SHAD = re.compile("(?<=[ཀགཤ])་(?=།)"), re.compile("(?<!ང)་(?=།)")
_ENDS_IN_LETTER = re.compile(f"[{tibetan.LETTERS}]$")
_WORD = re.compile(r"[A-Za-z'+.~`]+")
_NATIVE = re.compile(tibetan.NATIVE_SYLLABLE)
# How much of a text is tried, and how many of its words must be words of a transliteration, and Tibetan ones.
_MAX_READ, _MAX_TRIED, _SHARE, _NATIVE_SHARE = 10_000, 300, 0.8, 0.4
_FOREIGN = re.compile(rf"[^{tibetan.BLOCK}\s]")
_KNOWN = re.compile(f"{GAP.pattern}|{tibetan.MARKER}")
# A name in brackets or a page number here and there is worth no line.
_FOREIGN_SHARE = 0.02
_MAX_SHOWN = 8
_BEGINNING = 4000


class TibetanConverter:
    """Converts lines of a transliteration; without one, they stay as they are.

    Attributes:
        unknown: What could not be converted, with its number of occurrences.

    Example:
        >>> TibetanConverter("ewts").convert("bkra shis [GAP:1] legs/")
        'བཀྲ་ཤིས་[GAP:1]་ལེགས།'
    """

    def __init__(self, transliteration: Transliteration | None) -> None:
        self.transliteration = transliteration
        self.unknown: Counter[str] = Counter()

    def convert(self, text: str) -> str:
        """Convert a text. Square brackets with their content, markers, TEI's gaps and Tibetan script stay."""
        if self.transliteration is None:
            return text
        *lines, line = text.split("\n")
        if lines:
            return "\n".join([*map(self.convert_line, lines), self.convert(line)])
        parts = _BRACKETED.split(_SPACES.sub(" ", line.strip(" ")))
        return "".join(part if index % 2 else self._convert(part) for index, part in enumerate(parts))

    def convert_line(self, line: str) -> str:
        """Convert a line that others follow: it ends between two syllables, unless spaces at its end end a section."""
        if self.transliteration is None:
            return line
        text = line.rstrip(" ")
        converted = self.convert(text)
        return converted + (line[len(text) :] or tibetan.TSHEG * bool(_ENDS_IN_LETTER.search(converted)))

    def _convert(self, text: str) -> str:
        if not text or tibetan.has_tibetan(text):
            return text
        if endless := _ENDLESS.search(text):
            self.unknown[f"{endless[0][:20]}..."] += 1
            return text
        converter, to_ewts = _pyewts()
        warnings: list[str] = []
        if self.transliteration == "acip":
            edges = text[: len(text) - len(text.lstrip())], text[len(text.rstrip()) :]
            text = to_ewts(text).strip().join(edges)
        converted = converter.toUnicode(text, warnings)
        for warning in warnings:
            self.unknown[warning.removeprefix("line 1: ").split(":")[0]] += 1
        return _TSHEG_BEFORE_SHAD.sub("", _SPACE_BEFORE_SHAD.sub(" ", converted))

    def note(self) -> str:
        """Return a line about what could not be converted, or nothing."""
        if self.transliteration is None or not self.unknown:
            return ""
        shown = ", ".join(word for word, _ in self.unknown.most_common(8)) + ", ..." * (len(self.unknown) > 8)
        return f"{self.unknown.total()} syllables or signs are no {_NAMES[self.transliteration]}: {shown}"


@cache
def _pyewts() -> tuple[Any, Any]:
    # Imported here because few texts need it.
    from pyewts import ACIPtoEWTS, pyewts

    # Spaces at the edges stay: beside a gap they are tshegs.
    return pyewts(fix_spacing=False), ACIPtoEWTS


def to_wylie(text: str) -> str:
    """Transliterate Tibetan as EWTS. Tshegs at its ends, which are spaces there, are left out.

    Example:
        >>> to_wylie("་ལྡན་འདས་")
        "ldan 'das"
    """
    return str(_pyewts()[0].toWylie(text)).strip()


def recognize_transliteration(text: str) -> Transliteration | None:
    """Tell whether a text without Tibetan script is a transliteration of Tibetan."""
    words = _WORD.findall(_BRACKETED.sub(" ", text[:_MAX_READ]))[:_MAX_TRIED]
    if not words:
        return None
    kind: Transliteration = "acip" if sum(map(str.isupper, words)) > len(words) / 2 else "ewts"
    good = native = 0
    for word in words:
        converter = TibetanConverter(kind)
        converted = converter.convert(word)
        good += not converter.unknown
        native += not converter.unknown and _NATIVE.fullmatch(converted.strip(tibetan.PUNCTUATION)) is not None
    return kind if good >= _SHARE * len(words) and native >= _NATIVE_SHARE * len(words) else None


def lacks_tibetan(text: str) -> bool:
    """Whether a text has letters or digits, but none of Tibetan. Gaps are neither."""
    has_letters = any(each.isalnum() and each not in tibetan.DIGITS for each in _BRACKETED.sub("", text))
    return has_letters and not tibetan.has_tibetan(text)


def no_tibetan(
    text: str, name: str | None = None, *, convert: str = "Give --transliteration={}, which converts it."
) -> InputError:
    """Make the error for a text without Tibetan script."""
    shown = f"{text.strip()[:60]!r}" + (f" in {name!r}" if name is not None else "")
    if (kind := recognize_transliteration(text)) is not None:
        return InputError(
            f"There is no Tibetan letter in the text; it looks like {_NAMES[kind]}. Received: {shown}. "
            f"{convert.format(kind)}"
        )
    return InputError(f"There is no Tibetan letter in the text. Received: {shown}. Give a text in Tibetan script.")


def texts_in_tibetan(
    texts: Iterable[tuple[int, str]], transliteration: Transliteration | None
) -> Iterator[tuple[int, str]]:
    """Convert transliterated texts, refuse those in other scripts, and log it if much else is not Tibetan."""
    converter, counter = TibetanConverter(transliteration), ForeignCounter()
    for number, text in texts:
        converted = converter.convert(text)
        if lacks_tibetan(converted):
            raise InputError(f"Text {number}: {no_tibetan(text)}")
        counter.add(converted)
        yield number, converted
    if transliteration is None:
        counter.warn("the texts")
    elif note := converter.note():
        _LOG.warning("%s", note)


# === Other characters than Tibetan ===


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
        if total <= _FOREIGN_SHARE * self._characters:
            return ""
        shown = ", ".join(f"`{sign}`" for sign, _ in self._foreign.most_common(_MAX_SHOWN))
        shown += ", ..." * (len(self._foreign) > _MAX_SHOWN)
        return f"{total / self._characters:.0%} of the characters are not Tibetan: {shown}."

    def warn(self, name: str) -> None:
        """Log a warning if there are many."""
        if note := self.note():
            _LOG.warning("%s: %s If this is markup, remove it, or give the text as TEI XML.", name, note)
