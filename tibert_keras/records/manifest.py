"""What stands beside record files: how they were made, and what they hold."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from dataclasses import dataclass, field
from typing import Any

from tibert_keras.errors import InputError
from tibert_keras.storage import atomic_output, exists, join, list_folder, read_json, sha256

MANIFEST_FILE = "manifest.json"


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The `manifest.json` of a folder of records.

    Attributes:
        options: Every option and the seed, as `RecordsConfig` has them, but for the paths and the workers.
        tokenizer: `sha256` of the model file, `vocabulary_size`, and the tokenizer's `options`.
        sources: For each record file the text `file` it is named after, its `folder` as it was given, its `sha256`, the
            numbers of `documents`, `tokens`, `unknown_tokens` and `skipped_lines`, and the `unknown_characters` with
            their counts if they are many.
        files: For each record file its `sha256`, and the numbers of `bytes` and `examples`.
        made_from: What made the texts and the tokenizer: `corpora`, by the folders of the texts, and `tokenizer`, as
            `provenance` has them.
    """

    options: dict[str, Any]
    tokenizer: dict[str, Any]
    sources: dict[str, dict[str, Any]] = field(default_factory=dict)
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    made_from: dict[str, dict[str, Any]] = field(default_factory=dict)

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
            manifest = cls(**read_json(path, what="a manifest of records", advice="Build the records again."))
            manifest.tokenizer["sha256"]
        except (TypeError, KeyError) as error:
            raise InputError(
                f"Not a manifest of records: {error}. Received: {path!r}. Build the records again."
            ) from error
        return manifest

    def write(self, folder: str | os.PathLike[str]) -> None:
        """Write `manifest.json` into a folder."""
        with atomic_output(join(folder, MANIFEST_FILE)) as path:
            path.write_text(_as_json(self._content()), encoding="utf-8")

    def digest(self) -> str:
        """The SHA-256 of the manifest without what made texts and tokenizer, and where: the same records have one."""
        content = self._content()
        del content["made_from"]
        for source in content["sources"].values():
            source.pop("folder", None)
        return hashlib.sha256(_as_json(content).encode()).hexdigest()

    def _content(self) -> dict[str, Any]:
        content = dataclasses.asdict(self)
        # In order of names, whichever file was ready first.
        return content | {part: dict(sorted(content[part].items())) for part in self._entries()}

    def only(self, *names: str) -> Manifest:
        """The manifest without the entries of other files."""
        parts = {part: {n: known[n] for n in names if n in known} for part, known in self._entries().items()}
        return dataclasses.replace(self, **parts)

    def _entries(self) -> dict[str, dict[str, dict[str, Any]]]:
        return {"sources": self.sources, "files": self.files}

    def is_whole(self, name: str, folder: str | os.PathLike[str]) -> bool:
        """Whether a record file is in the folder as it was written, by its hash."""
        path = join(folder, name)
        return name in self.files and exists(path) and sha256(path) == self.files[name]["sha256"]

    def total(self, count: str) -> int:
        """Sum one of the counts, such as `examples` or `tokens`, over all files."""
        return sum(entry.get(count, 0) for entry in [*self.sources.values(), *self.files.values()])

    def summary(self) -> str:
        """A line for people."""
        tokens, skipped = self.total("tokens"), self.total("skipped_lines")
        return (
            f"{len(self.files)} file{'s' * (len(self.files) != 1)}, "
            f"{self.total('documents'):,} documents, {tokens:,} tokens "
            f"({self.total('unknown_tokens') / max(tokens, 1):.3%} unknown), {self.total('examples'):,} examples, "
            f"{self.total('bytes') / 1e6:,.1f} MB" + (f", {skipped:,} lines left out" if skipped else "")
        )


def _as_json(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False)


def refuse_other_tokenizer(tokenizer: dict[str, Any] | None, proto: bytes, *, folder: str | os.PathLike[str]) -> None:
    """Refuse a SentencePiece model that records were not made with, if their manifest says with which.

    Args:
        tokenizer: What the manifest says of the tokenizer, or `None` without a manifest.
        proto: The model.
        folder: The folder of the records, for the message.

    Raises:
        InputError: If it is another, with both hashes.
    """
    given = hashlib.sha256(proto).hexdigest()
    if tokenizer is not None and tokenizer["sha256"] != given:
        raise InputError(
            f"The records were made with another tokenizer. Received: sha256 {given}, but "
            f"{tokenizer['sha256']} in the manifest of {os.fspath(folder)!r}. Give the tokenizer of the records."
        )
