"""Reads a transcription as a model does: without its lines and markers, and with the signs that models know best."""

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import pairwise

from tibert_keras import tibetan

_IN_SYLLABLE = f"{tibetan.LETTERS}{tibetan.COMBINING_SIGNS}{tibetan.DIGITS}"
_MARKER = re.compile(tibetan.MARKER)
_INTERRUPTION = re.compile(rf"(?<!\s)(?:\s*(?:\n|{tibetan.MARKER}))+\s*")
_TAIL, _HEAD = re.compile(f"[{_IN_SYLLABLE}]*\\Z"), re.compile(f"[{_IN_SYLLABLE}]*")
GAP = re.compile(tibetan.GAP)
# The second half of a double shad, which belongs to the text after it.
_OPENING_SHAD = re.compile(rf"\s[{tibetan.SHADS}]\Z")
# No syllable is longer.
_REACH = 16
_NATIVE = re.compile(tibetan.NATIVE_SYLLABLE)
# Of other systems and programs.
OTHER_BREAK = re.compile("\r\n?|[\x85\u2028\u2029]")
_EMPTY_LINE = re.compile(r"\n[^\S\n]*\n")
_PLAIN = str.maketrans({**dict.fromkeys(tibetan.TSHEGS, tibetan.TSHEG), **dict.fromkeys(tibetan.SHADS, tibetan.SHAD)})

_SPACES = f"[{tibetan.SYLLABLE_SPACES}]*"
# The parts of `READINGS`, for regular expressions of other programs.
INSIDE = f"[{_IN_SYLLABLE}{tibetan.TSHEGS}]"
EMPTY_LINE = rf"\n[ \t\r]*\n{_SPACES}"
BREAKS = rf"(?:{_SPACES}(?:\n|{tibetan.MARKER}))+{_SPACES}"
PLAIN_SIGNS = [(tibetan.MARKER, ""), (f"[{tibetan.TSHEGS}]", tibetan.TSHEG), (f"[{tibetan.SHADS}]", tibetan.SHAD)]
# What `read_syllable` does to a unit, as patterns and replacements that RE2 accepts too.
READINGS = [(EMPTY_LINE, "  "), (f"^{BREAKS}", ""), (f"({INSIDE}){BREAKS}$", r"\1"), *PLAIN_SIGNS]
_READINGS = [(re.compile(pattern), replacement) for pattern, replacement in READINGS]


def goes_on(line: str) -> bool:
    """Whether a sentence goes on after the end of a line: the line ends with a tsheg or in a syllable.

    Example:
        >>> goes_on("བྲམ་"), goes_on("བྲམ"), goes_on("ཕྱག་འཚལ་ལོ།"), goes_on("Homage")
        (True, True, False, False)
    """
    end = _MARKER.sub("", line).rstrip()[-1:]
    return bool(end) and end in tibetan.TSHEGS or bool(_TAIL.search(end)[0])  # type: ignore[index]


def join_lines(text: str) -> str:
    r"""Take the line breaks inside sentences, and the markers of folios and lines, out of a text.

    After a tsheg or a letter the text goes on. If the two parts of a syllable do not make one, a tsheg is missing at
    the end of the line. After any other sign, and at an empty line, a break is a space.

    Example:
        >>> join_lines("བྲམ་\n[2a.1] ཟེ་ལ་ཕྱ\nག་འཚལ་ལོ།\n(3)དེ་ནས")
        'བྲམ་ཟེ་ལ་ཕྱག་འཚལ་ལོ། དེ་ནས'
    """
    text = OTHER_BREAK.sub("\n", text)
    parts: list[str] = []
    end = 0
    for match in _INTERRUPTION.finditer(text):
        start = match.start()
        parts.append(text[end:start])
        end = match.end()
        parts.append(_bridge(text[max(0, start - _REACH) : start], match[0], text[end : end + _REACH]))
    return "".join([*parts, text[end:]])


def joint(before: str, after: str) -> str:
    """Return the text for the break between two lines: nothing, a space, or the tsheg that is missing there."""
    before = before[-_REACH:]
    if before.endswith(tuple(tibetan.TSHEGS)) or _OPENING_SHAD.search(before):
        return ""
    tail, head = _TAIL.search(before)[0], _HEAD.match(after)[0]  # type: ignore[index]
    if not tail:
        return " "
    if not head:
        # No shad is written right after ག.
        ends = after[:1] in tibetan.SHADS and tail.endswith("ག") or after[:1] not in tibetan.PUNCTUATION
        return " " if after and ends else ""
    return "" if _NATIVE.fullmatch(tail + head) else tibetan.TSHEG


def close_lines(lines: Iterable[str]) -> Iterator[str]:
    """Yield the lines of a text but the last, each with a space or nothing in place of its break.

    A space at the end of a line ends a section, but not after a tsheg.

    Example:
        >>> list(close_lines(["བྲམ་ ", "ཟེ", "ལ་ཕྱག", "།དེ ", "ནས", ""]))
        ['བྲམ་', 'ཟེ', 'ལ་ཕྱག ', '།དེ ', 'ནས']
    """
    for line, following in pairwise(lines):
        text = line.strip(" ")
        ends = line.endswith(" ") and not text.endswith(tuple(tibetan.TSHEGS))
        yield text + (" " if ends else joint(text, following.lstrip(" ")))


def _bridge(before: str, interruption: str, after: str) -> str:
    if _EMPTY_LINE.search(interruption):
        return " "
    # A gap may end in the middle of a sentence.
    if not before or before.endswith("]") or not _MARKER.sub("", interruption):
        return ""
    return joint(before, after)


def plain_marks(text: str) -> str:
    """Write each tsheg as ་ and each shad as །, the ones of which a model has seen most.

    Example:
        >>> plain_marks("བཅོམ༌ལྡན༎")
        'བཅོམ་ལྡན།'
    """
    return text.translate(_PLAIN)


@lru_cache(maxsize=1 << 16)
def read_syllable(unit: str) -> str:
    r"""Return a unit of `split_syllables` as a tagger reads it: as `join_lines` and `plain_marks` would leave it.

    Example:
        >>> read_syllable("བྲམ་ [2a] "), read_syllable("༎\n")
        ('བྲམ་', '།\n')
    """
    for pattern, replacement in _READINGS:
        unit = pattern.sub(replacement, unit)
    return unit
