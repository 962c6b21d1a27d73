"""`manifest.json` beside record files: their origin, their options and their contents."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NotRequired, Self, TypedDict

from tibert_keras.corpus.report import CORPUS_FILE, CorpusReport
from tibert_keras.errors import InputError
from tibert_keras.integrity import MANIFEST_FILE, ListedFile, difference
from tibert_keras.json_types import known_fields, read_typed_json
from tibert_keras.records.examples import ExamplePolicy
from tibert_keras.records.masking import MaskingPolicy
from tibert_keras.storage import folder_of, join, list_folder, sha256, write_text


@dataclass(frozen=True, kw_only=True)
class _Options(ExamplePolicy, MaskingPolicy):
    """The options that `Manifest.options` has at least; those of older versions may lack some."""

    def __post_init__(self) -> None:
        ExamplePolicy.__post_init__(self)
        MaskingPolicy.__post_init__(self)


class _TokenizerOptions(TypedDict, total=False):
    tsheg_pretokenization: bool
    underline_between_sections: bool | str


class _Tokenizer(TypedDict):
    sha256: str
    vocabulary_size: int
    options: _TokenizerOptions


class _RecordFile(ListedFile):
    examples: int


class _Source(TypedDict):
    file: str
    sha256: str
    documents: int
    tokens: int
    unknown_tokens: int
    folder: NotRequired[str]
    skipped_lines: NotRequired[int]
    unknown_characters: NotRequired[dict[str, int]]


class _ManifestFile(TypedDict):
    options: _Options
    tokenizer: _Tokenizer
    sources: dict[str, _Source]
    files: dict[str, _RecordFile]
    made_from: NotRequired[dict[str, dict[str, Any]]]


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The `manifest.json` of a folder of records.

    Attributes:
        options: All options of `RecordsConfig` with the seed, but not the paths and the workers.
        tokenizer: `sha256` of the model file, `vocabulary_size`, and the tokenizer's `options`.
        sources: For each record file its text `file`, the text's `folder` as it was given and its `sha256`, the
            numbers of `documents`, `tokens`, `unknown_tokens` and `skipped_lines`, and the `unknown_characters` with
            their counts if there are many.
        files: For each record file its `sha256`, and the numbers of `bytes` and `examples`.
        made_from: The origin of the texts and the tokenizer: `corpora`, as from `describe_corpora`, and `tokenizer`,
            as from `describe_tokenizer`.
    """

    options: dict[str, Any]
    tokenizer: dict[str, Any]
    sources: dict[str, dict[str, Any]] = field(default_factory=dict)
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    made_from: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: str | os.PathLike[str]) -> Self | None:
        """Read the manifest of a folder, or return `None` if it has none, as folders of Google's records."""
        if MANIFEST_FILE not in list_folder(folder):
            return None
        path, advice = join(folder, MANIFEST_FILE), "Build the records again."
        content = read_typed_json(path, _ManifestFile, what="a manifest of records", advice=advice)
        manifest = known_fields(cls, content)
        try:
            _Options(**manifest.options_of(_Options))
        except InputError as error:
            raise InputError(f"{error} It is in {path!r}. {advice}") from error
        return manifest

    def options_of(self, policy: type) -> dict[str, Any]:
        """The options that a policy has."""
        names = [each.name for each in dataclasses.fields(policy)]
        return {name: self.options[name] for name in names if name in self.options}

    def write(self, folder: str | os.PathLike[str]) -> None:
        write_text(join(folder, MANIFEST_FILE), _as_json(self._content()))

    def digest(self) -> str:
        """Compute the SHA-256 of the manifest without the origin of texts and tokenizer: equal for equal records."""
        content = self._content()
        del content["made_from"]
        for source in content["sources"].values():
            source.pop("folder", None)
        return hashlib.sha256(_as_json(content).encode()).hexdigest()

    def _content(self) -> dict[str, Any]:
        content = dataclasses.asdict(self)
        # Files are finished in any order.
        return content | {part: dict(sorted(content[part].items())) for part in ("sources", "files")}

    def only(self, *names: str) -> Self:
        """Copy the manifest with the entries of these record files only."""
        return dataclasses.replace(
            self,
            sources={key: entry for key, entry in self.sources.items() if key in names},
            files={key: entry for key, entry in self.files.items() if key in names},
        )

    def is_whole(self, name: str, folder: str | os.PathLike[str]) -> bool:
        """Check by its hash whether the folder has a record file as it was written."""
        return name in self.files and difference(join(folder, name), self.files[name]) is None

    def total(self, count: str) -> int:
        """Sum one of the counts, such as `examples` or `tokens`, over all files."""
        return sum(entry.get(count, 0) for entry in [*self.sources.values(), *self.files.values()])

    def summary(self) -> str:
        """Describe the records in one line."""
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
    """Refuse a SentencePiece model other than that of the manifest's entry, which is `None` without a manifest."""
    given = hashlib.sha256(proto).hexdigest()
    if tokenizer is not None and tokenizer["sha256"] != given:
        raise InputError(
            f"The records were made with another tokenizer. Received: sha256 {given}, but "
            f"{tokenizer['sha256']} in the manifest of {os.fspath(folder)!r}. Give the tokenizer of the records."
        )


# === The origin of texts and tokenizer ===


def describe_corpora(texts: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Read what `tibert corpus` recorded in the folders of texts, by folder as it was given.

    This is the `input_file` and the `options` of the corpus, `sha256` of its `corpus.json`, and the SHA-256 of its
    `files`.
    """
    found = {}
    for folder in sorted(set(map(folder_of, texts))):
        try:
            corpus = CorpusReport.read(folder)
        except InputError:
            continue  # Another program's file of that name.
        if corpus is not None:
            found[folder] = {
                "input_file": corpus.input_file,
                "options": corpus.options,
                "sha256": sha256(join(folder, CORPUS_FILE)),
                "files": {name: counts.sha256 for name, counts in corpus.files.items()},
            }
    return found


def describe_tokenizer(spm_model_file: str) -> dict[str, Any]:
    """Return `spm_model_file` as given, and as `manifest` what `tibert tokenizer` recorded beside it, if anything."""
    from tibert_keras.tokenizers.training import read_tokenizer_manifest

    return {"spm_model_file": spm_model_file, "manifest": read_tokenizer_manifest(spm_model_file)}
