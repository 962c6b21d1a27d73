"""Read text files as blocks of sections, with lines of any length."""

import hashlib
import os
from collections.abc import Iterator
from typing import Literal

from tibert_keras.errors import InputError
from tibert_keras.storage import open_binary
from tibert_keras.tibetan import SHADS, TSHEGS

ErrorHandling = Literal["strict", "skip"]

_BLOCK_BYTES = 1 << 22
# Longer lines are cut: the tokenizer's memory grows with the length of a text.
LONGEST_SECTION = 1 << 18
# The time to find the best 64 encodings grows with the square of the length.
LONGEST_SAMPLED_SECTION = 1 << 12
_SEPARATORS = f" {TSHEGS}{SHADS}"


class SectionReader:
    """Reads a UTF-8 file of sections, one in each line, with an empty line between documents.

    A line that is not UTF-8 is an error or, with `errors="skip"`, skipped and counted (of a line longer than a block,
    the part in the block). One of more characters than `longest_section` is cut into several sections, at spaces,
    tshegs or shads. `sha256` and `skipped_lines` are those of the content read so far.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, errors: ErrorHandling = "strict", longest_section: int = LONGEST_SECTION
    ) -> None:
        self.path = os.fspath(path)
        self.errors = errors
        self.longest_section = longest_section
        self.skipped_lines = 0
        self._digest = hashlib.sha256()

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def __iter__(self) -> Iterator[list[str]]:
        """Yield sections, stripped of white space, in blocks of about 4 MB; a file without any is an `InputError`."""
        rest, offset, inside_line = b"", 0, False
        with open_binary(self.path) as file:
            while content := file.read(_BLOCK_BYTES):
                self._digest.update(content)
                content = rest + content
                end = _end_of_lines(content)
                if end:
                    yield self._sections(content[:end], offset, inside_line)
                    inside_line = content[end - 1 : end] != b"\n"
                    offset += end
                rest = content[end:]
        if rest:
            yield self._sections(rest, offset, inside_line)
        elif offset == 0:
            raise InputError(f"The file is empty. Received: {self.path!r}. Take it out of the input.")

    def _sections(self, content: bytes, offset: int, inside_line: bool) -> list[str]:
        try:
            lines: list[str | None] = list(content.decode("utf-8").split("\n"))
        except UnicodeDecodeError as error:
            if self.errors == "strict":
                raise InputError(
                    f"Not a UTF-8 file: {error.reason} at byte {offset + error.start}. Received: {self.path!r}. "
                    "Convert it to UTF-8, or leave out such lines with --errors=skip."
                ) from error
            lines = list(self._readable(content))
        if content.endswith(b"\n"):
            lines.pop()
        if offset == 0 and lines[0]:
            lines[0] = lines[0].removeprefix("\ufeff")
        if inside_line and not (lines[0] or "").strip():
            # The rest of a long line is not an empty line.
            lines = lines[1:]
        return [section for line in lines if line is not None for section in _cut(line, self.longest_section)]

    def _readable(self, content: bytes) -> Iterator[str | None]:
        for line in content.split(b"\n"):
            try:
                yield line.decode("utf-8")
            except UnicodeDecodeError:
                self.skipped_lines += 1
                yield None


def _end_of_lines(content: bytes) -> int:
    """Find the end of the last whole line or, in a part of a long line, the best place to cut."""
    end = content.rfind(b"\n") + 1
    if end or len(content) < _BLOCK_BYTES:
        return end
    for mark in map(str.encode, _SEPARATORS):
        if mark in content[len(content) // 2 :]:
            end = max(end, content.rfind(mark) + len(mark))
    if end:
        return end
    end = len(content)
    while end > len(content) - 3 and content[end - 1] & 0xC0 == 0x80:
        end -= 1
    # Before a character that may continue in the next block.
    return end - 1 if content[end - 1] >= 0xC0 else end


def _cut(line: str, longest: int) -> list[str]:
    """Cut a long line after a space or tsheg, or anywhere if it has none."""
    if len(line) <= longest:
        return [line.strip()]
    sections = []
    while line:
        cut = len(line)
        if cut > longest:
            cut = max(line.rfind(mark, 0, longest) + 1 for mark in _SEPARATORS) or longest
        sections.append(line[:cut].strip())
        line = line[cut:]
    return list(filter(None, sections))
