"""Record files that time has not been kind to."""

from __future__ import annotations

from pathlib import Path


def flip_bit(path: Path, *, index: int = 3) -> int:
    """Flip a bit in the middle of an example; the size of the file stays as it was. Returns the example's index."""
    content = bytearray(path.read_bytes())
    start = 0
    for _ in range(index):
        # A record is its length in 8 bytes, 4 bytes of checksum, the example, and 4 bytes of checksum.
        start += 16 + int.from_bytes(content[start : start + 8], "little")
    content[start + 100] ^= 1
    path.write_bytes(content)
    return index
