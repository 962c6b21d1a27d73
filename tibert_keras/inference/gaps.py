"""Finds gaps in texts, and describes the text around them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from tibert_keras.errors import InputError
from tibert_keras.tibetan import BLOCK, COMBINING_SIGNS, LETTERS, PUNCTUATION, SHADS, TSHEG, TSHEGS, VOWEL_SIGNS
from tibert_keras.transcription import GAP

MASK = "[MASK]"
# Longer gaps take long to search, for guesses that mean little. A line of verse has 7 to 15 syllables.
MAX_SYLLABLES = 15
MAX_TOKENS = 16
# Of a gap that does not say how long it is.
_USUAL_SYLLABLES = (1, 2)

_IN_SYLLABLE = f"{LETTERS}{COMBINING_SIGNS}"
_RANGE = re.compile(r"\s*(\d{1,3})\s*(?:[-\u2010-\u2015\u2212]\s*(\d{1,3})\s*)?(no shad)?\s*")
_ATTRIBUTE = re.compile(r"""([\w:]+)\s*=\s*["']([^"']*)["']""")
_MARKS = re.compile(f"[{PUNCTUATION}]*")
_SYLLABLE = re.compile(rf"[^{PUNCTUATION}\s]+")
TIBETAN = re.compile(f"[ {BLOCK}]+")
# Punctuation that nobody writes: a shad without a space after it, a tsheg before a shad (except in ང་།) or after a mark
# or a space.
_MALFORMED = re.compile(
    rf"[{_IN_SYLLABLE}{TSHEGS}][{SHADS}]+[{_IN_SYLLABLE}]"
    rf"|(?<!ང)(?<!ང[{VOWEL_SIGNS}])[{TSHEGS}][{SHADS}]|[{SHADS}{TSHEGS}\s][{TSHEGS}]"
)
_SHAD_INSIDE = re.compile(f"[{SHADS}].*[{_IN_SYLLABLE}]")

# The kinds of edges that pieces and texts have.
LETTER, SIGN, TSHEG_MARK, MARK, SPACE = range(5)
# The end of a syllable whose tsheg is part of the gap.
UNMARKED = 5


@dataclass(frozen=True)
class Gap:
    """A gap in a text.

    Attributes:
        text: The text.
        start: Index of its first character.
        end: Index after its last character.
        tokens: Its number of pieces, or `None` if unknown.
        syllables: Minimum and maximum number of syllables.
        begins: The legible beginning of its one syllable.
        ends: The legible end of it.
        allows_shad: Whether a sentence may end in it.
    """

    text: str = field(repr=False)
    start: int
    end: int
    tokens: int | None
    syllables: tuple[int, int]
    begins: str = ""
    ends: str = ""
    allows_shad: bool = True

    def around(self, reach: int) -> tuple[str, str]:
        """Return `reach` characters before and after it, with masks in place of other gaps."""
        start, end = max(0, self.start - reach), min(len(self.text), self.end + reach)
        # Not through the middle of another gap.
        cut = GAP.match(self.text, self.text.rfind("[", 0, start))
        if cut and cut.start() < start < cut.end():
            start = cut.end()
        cut = GAP.match(self.text, self.text.rfind("[", self.end, end))
        if cut and self.end <= cut.start() < end < cut.end():
            end = cut.start()
        return _mask_gaps(self.text[start : self.start]), _mask_gaps(self.text[self.end : end])


def find_gaps(text: str) -> list[Gap]:
    """Find the gaps of a text, in any of these notations; one that is written wrongly or too long is an `InputError`.

    - `[GAP:m-n]`, `[GAP:n]` or `[GAP:m-n no shad]`: syllables; `[GAP]` is `[GAP:1-2]`.
    - Runs of `[MASK]`: that many pieces of the vocabulary.
    - `ཐོ[?]་`, `[?]ས་`, `ཐོ[?]ས་`: the rest of a syllable that is legible in part; `[?]` alone is a whole one.
    - TEI's `<gap quantity="2" unit="syllable"/>`, also with `atLeast` and `atMost` or `extent`.
    """
    gaps = [_read_gap(text, match) for match in GAP.finditer(text)]
    if not gaps:
        raise InputError(f"There is nothing to fill. Received: {shorten(text)!r}. {_advice(text)}")
    return gaps


def most_syllables(text: str) -> int:
    """Return how many syllables, or pieces in place of masks, the gaps of a text may have at most.

    A text whose gaps are written wrongly counts as none: it is refused when it is filled.
    """
    try:
        return sum(gap.tokens or gap.syllables[1] for gap in find_gaps(text))
    except InputError:
        return 0


def is_masks(match: re.Match[str]) -> bool:
    """Whether a match of `GAP` is a run of masks."""
    return match[0].startswith(MASK)


def _read_gap(text: str, match: re.Match[str]) -> Gap:
    if is_masks(match):
        tokens = len(match[0]) // len(MASK)
        if tokens > MAX_TOKENS:
            raise InputError(f"A gap has at most {MAX_TOKENS} masks. Received: {tokens} times {MASK}. Leave out some.")
        return Gap(text, *match.span(), tokens, (1, 2**15))
    if match["begins"] is not None:
        return Gap(text, *match.span(), None, (1, 1), begins=match["begins"], ends=match["ends"])
    low, high, allows_shad = _read_range(match)
    return Gap(text, *match.span(), None, (low, high), allows_shad=allows_shad)


def _read_range(match: re.Match[str]) -> tuple[int, int, bool]:
    """The fewest and most syllables of a gap, and whether it may hold a shad."""
    inside = match["range"] if match["attributes"] is None else _range_of_tei(match[0], match["attributes"])
    if inside is None and match[0] != "[GAP":
        return (*_USUAL_SYLLABLES, True)
    numbers = _RANGE.fullmatch(inside or "")
    low = int(numbers[1]) if numbers else -1
    high = int(numbers[2] or numbers[1]) if numbers else -1
    if not (numbers and 0 <= low <= high and 1 <= high <= MAX_SYLLABLES and match[0].endswith(("]", ">"))):
        raise InputError(
            f"A gap is written [GAP:2-4], in syllables, the fewest first, at most {MAX_SYLLABLES}. "
            f"Received: {shorten(match[0])!r}. Write it so, or {MASK} for a single piece."
        )
    return low, high, numbers[3] is None


def _range_of_tei(element: str, written: str) -> str | None:
    attributes = dict(_ATTRIBUTE.findall(written))
    quantity = attributes.get("quantity", attributes.get("extent", "").partition(" ")[0])
    if quantity == "unknown":
        quantity = ""
        if not attributes.keys() & {"atLeast", "atMost"}:
            return None
    if not _is_in_syllables(written):
        raise InputError(
            f"The length of a gap is counted in syllables. Received: {shorten(element)!r}. "
            'Write <gap quantity="2" unit="syllable"/>, with your estimate, or give one for all: gap_signs=1-2.'
        )
    low, high = attributes.get("atLeast", quantity), attributes.get("atMost", quantity)
    return f"{low or high}-{high or low}" if low or high else None


def _is_in_syllables(written: str) -> bool:
    """Whether the attributes of TEI's element count syllables, or nothing."""
    attributes = dict(_ATTRIBUTE.findall(written))
    _, _, unit = attributes.get("extent", "").partition(" ")
    return attributes.get("unit", unit or "syllable").lower().startswith("syl")


def _mask_gaps(text: str) -> str:
    """Replace gaps by masks, one for each syllable of their mean length."""

    def masks(match: re.Match[str]) -> str:
        if is_masks(match):
            return match[0]
        return MASK * (1 if match["begins"] is not None else sum(_read_range(match)[:2]) // 2)

    return GAP.sub(masks, text)


# === Signs of other editors ===

# The signs for gaps in other people's transcriptions.
_FOREIGN = re.compile(
    r"\[(?:[-\u2010-\u2015.…‥⋯xX×\s_*+]+\??)?\]"
    r"|[\[({](?:[Gg]ap|[Ll]acuna|[Ii]lleg(?:ible|\.)|[Ll]ost|[Mm]issing|[Uu]nclear|[Dd]amaged|[Ee]rased)[\])}]"
    r"|\[(?:ca?\. ?|[±+~] ?)?\d{1,2} ?syll?(?:able)?s?\.?(?: (?:illegible|lacking|lost|missing))?\]"
    r"|\[(?:ca?\. ?|[±+~] ?)\d{1,2}\]|\[[-\u2010-\u2015.…]+ ?\d{1,2} ?[-\u2010-\u2015.…]+\]"
    r"|[({<⟨⟦‹〈《【⸢]\s*(?:[…⋯]\s*|(?:[-\u2010-\u2015.xX×+]\s*){3,})(?:\?\s*)?[)}>⟩⟧›〉》】⸣]"
    r"|[{<⟨⟦‹〈《【⸢]\s*\?+\s*[}>⟩⟧›〉》】⸣]|[…⋯]+|\.{3,}|-{3,}|\+{3,}|×+"
    r"|_{3,}|\?{3,}|[•‧]{3,}|(?<![a-zA-Z])(?:x{3,}|X{3,})(?![a-zA-Z])|[\u25a0-\u25a2\u25ad-\u25af\u3013\u25cc\u25ef]+|[\u25cb\u25cf]{2,}"
)
_KNOWN = re.compile(f"{GAP.pattern}|{_FOREIGN.pattern}")
# Those, and slips in ours.
_UNREAD = re.compile(rf"{_FOREIGN.pattern}|\[\s*(?i:gap|mask)\b[^\]\n{BLOCK}]{{0,8}}\]?")


def unread_signs(text: str) -> list[str]:
    """Find the signs in a text that may stand for gaps, but are read as text.

    Example:
        >>> unread_signs("བཅོམ་[---]་[GAP:2]་[gap:1]་[MASK་")
        ['[---]', '[gap:1]', '[MASK']
    """
    return [match[0] for match in _UNREAD.finditer(GAP.sub(" ", text))]


def mark_gaps(text: str, signs: str) -> tuple[str, list[str | None]]:
    """Write other editors' signs for gaps as `[GAP:...]`.

    Returns:
        The text, and for each of its gaps the sign that it had, or `None` if it had none of others.

    Example:
        >>> mark_gaps("བཅོམ་[---]་[GAP:2]་…", "[---]=1-2,…=1")
        ('བཅོམ་[GAP:1-2]་[GAP:2]་[GAP:1]', ['[---]', None, '…'])
    """
    pattern, numbers = _read_signs(signs)
    marked, replaced, end = "", dict[int, str](), 0
    for match in pattern.finditer(text):
        if not numbers and GAP.fullmatch(match[0]) and _is_in_syllables(match[0]):
            continue
        marked += text[end : match.start()]
        replaced[len(marked)] = match[0]
        marked += f"[GAP:{numbers.get(match[0], signs.strip())}]"
        end = match.end()
    marked += text[end:]
    return marked, [replaced.get(gap.start()) for gap in GAP.finditer(marked)]


def _read_signs(signs: str) -> tuple[re.Pattern[str], dict[str, str]]:
    """The pattern of the signs, and the number of syllables of each unless it is the same for all known ones."""
    if _RANGE.fullmatch(signs):
        return _KNOWN, {}
    numbers = {}
    for pair in signs.split(","):
        sign, _, number = pair.rpartition("=")
        if not sign.strip() or not _RANGE.fullmatch(number):
            raise InputError(
                f"A sign for a gap comes with a number of syllables. Received: gap_signs={signs!r}. "
                "Give 1-2 for all known signs, or for instance [---]=1-3,…=1."
            )
        numbers[sign.strip()] = number.strip()
    return re.compile("|".join(map(re.escape, sorted(numbers, key=len, reverse=True)))), numbers


def _advice(text: str) -> str:
    if sign := _FOREIGN.search(text):
        return f"If {sign[0]} is a gap, say how many syllables it stands for: gap_signs='{sign[0]}=1-2'."
    return f"Write {MASK} where a piece is missing, or [GAP:2-4] where 2 to 4 syllables are."


# === Text and its fillings ===


def shorten(text: str) -> str:
    """Cut a text down for a message."""
    return text if len(text) <= 100 else f"{text[:100]}…"


def fill_in(text: str, fillings: Sequence[str | None]) -> str:
    """Replace each gap of a text by its filling; keep the gap if that is `None`."""
    remaining = iter(fillings)
    filled, end = "", 0
    for match in GAP.finditer(text):
        filling = next(remaining)
        filled += text[end : match.start()] + (match[0] if filling is None else filling)
        end = match.end()
        if filling == "" and filled.endswith(tuple(TSHEGS)) and text[end : end + 1] in tuple(TSHEGS):
            end += 1
    return filled + text[end:]


def put_in(before: str, filling: str, after: str) -> str:
    """Join a filling with the text around it. An empty one leaves a single tsheg between two syllables."""
    if not filling and before.endswith(tuple(TSHEGS)) and after.startswith(tuple(TSHEGS)):
        after = after[1:]
    return f"{before}{filling}{after}"


def is_well_formed(before: str, filling: str, after: str = "") -> bool:
    """Whether the punctuation in a filling, and at its seams with the text around, is as it is written in Tibetan."""
    return _MALFORMED.search(f"{before[-1:]}{filling}{after[:1]}") is None


def has_shad_inside(text: str) -> bool:
    """Whether a sentence ends in a text, and another goes on."""
    return _SHAD_INSIDE.search(text) is not None


def edge(character: str) -> int:
    """Classify the character at the edge of a text or piece. An empty one counts as a space."""
    if not character or character.isspace():
        return SPACE
    if character in TSHEGS:
        return TSHEG_MARK
    if character in PUNCTUATION or not TIBETAN.fullmatch(character):
        return MARK
    return SIGN if character in COMBINING_SIGNS else LETTER


def leading_marks(text: str) -> str:
    """The marks that a text begins with."""
    return _MARKS.match(text)[0]  # type: ignore[index]


def syllables_of(text: str) -> list[str]:
    """The syllables of a text, without the marks between them."""
    return _SYLLABLE.findall(text)


def readable(spelled: str, *, before: str, after: str) -> str:
    """Write a filling as it replaces the gap in the line."""
    text = spelled.strip(f"{PUNCTUATION} ")
    if not text:
        return TSHEG if edge(before[-1:]) in (LETTER, SIGN) and edge(after[:1]) in (LETTER, SIGN) else ""
    # A letter next to the gap belongs to another syllable.
    left = TSHEG if edge(before[-1:]) in (LETTER, SIGN) else ""
    right = TSHEG if edge(after[:1]) in (LETTER, SIGN) or GAP.match(after) else ""
    return f"{left}{text}{right}"
