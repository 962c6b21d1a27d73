"""Gathers the slips of a file, so that all can be mended at once."""

from typing import NamedTuple

from tibert_keras.errors import InputError

# Of further slips only the lines are named.
_MAX_SHOWN = 20


class _Slip(NamedTuple):
    what: str
    number: int
    received: str
    advice: str


class Slips:
    """The slips found in a file."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._slips: list[_Slip] = []

    def __len__(self) -> int:
        return len(self._slips)

    def add(self, what: str, number: int, received: str, advice: str) -> None:
        """Note a slip in a line."""
        self._slips.append(_Slip(what, number, received, advice))

    def add_missing(self, what: str, number: int, line: str) -> None:
        """Note that a line lacks its `word` or `tag`."""
        self.add(f"A {what} is missing", number, f"{line[:60]!r}", "Add it or take the line out.")

    def check(self) -> None:
        """Raise an `InputError` that names every slip with its line, if there are any."""
        if not self._slips:
            return
        slips = sorted(self._slips, key=lambda slip: slip.number)
        if len(slips) == 1:
            (slip,) = slips
            shown = f"{slip.received}, " if slip.received else ""
            raise InputError(f"{slip.what}. Received: {shown}line {slip.number} of {self.path!r}. {slip.advice}")
        places = [", ".join(filter(None, [f"line {slip.number}", slip.received])) for slip in slips]
        shown = "; ".join(f"{place}: {slip.what}" for place, slip in zip(places[:_MAX_SHOWN], slips, strict=False))
        if others := slips[_MAX_SHOWN:]:
            shown += f"; and slips in lines {', '.join(str(slip.number) for slip in others)}"
        raise InputError(f"The file has {len(slips)} slips. Received: {self.path!r} with {shown}. Correct them.")
