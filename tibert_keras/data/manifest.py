"""What stands beside record files: how they were made, and what they hold."""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass
from typing import Any

from tibert_keras.errors import InputError
from tibert_keras.storage import atomic_output, join, list_folder, read_json

MANIFEST_FILE = "manifest.json"


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The `manifest.json` of a folder of records.

    Attributes:
        options: Every option and the seed, as `RecordsConfig` has them, but for the paths.
        tokenizer: `sha256` of the model file, `vocabulary_size`, and the tokenizer's `options`.
        files: For each record file its `sha256`, its text's `source_sha256`, and the numbers of `bytes`, `documents`,
            `tokens`, `unknown_tokens` and `examples`.
    """

    options: dict[str, Any]
    tokenizer: dict[str, Any]
    files: dict[str, dict[str, Any]]

    @classmethod
    def read(cls, folder: str | os.PathLike[str]) -> Manifest | None:
        """Read the manifest of a folder, or return `None` if it has none, as folders of Google's records.

        Raises:
            InputError: If there is one that cannot be read.
        """
        if MANIFEST_FILE not in list_folder(folder):
            return None
        path = join(folder, MANIFEST_FILE)
        try:
            return cls(**read_json(path, what="a manifest of records", advice="Build the records again."))
        except TypeError as error:
            raise InputError(
                f"Not a manifest of records: {error}. Received: {path!r}. Build the records again."
            ) from error

    def write(self, folder: str | os.PathLike[str]) -> None:
        """Write `manifest.json` into a folder."""
        with atomic_output(join(folder, MANIFEST_FILE)) as path:
            path.write_text(json.dumps(dataclasses.asdict(self), indent=2, ensure_ascii=False), encoding="utf-8")

    def total(self, count: str) -> int:
        """Sum one of the counts, such as `examples`, over all files."""
        return sum(file[count] for file in self.files.values())

    def summary(self) -> str:
        """A line for people."""
        tokens, unknown = self.total("tokens"), self.total("unknown_tokens")
        return (
            f"{len(self.files)} files, {self.total('documents'):,} documents, {tokens:,} tokens "
            f"({unknown / max(tokens, 1):.3%} unknown), {self.total('examples'):,} examples, "
            f"{self.total('bytes') / 1e6:,.1f} MB"
        )
