"""`corpus.json`: what a corpus was made from, with which options, and what is in it."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from typing import Any

from tibert_keras.corpus.partition import FileCounts
from tibert_keras.corpus.report import ReadingReport, UnknownMarkup
from tibert_keras.errors import InputError, refuse_changes
from tibert_keras.storage import atomic_output, join, list_folder, read_json, sha256

MANIFEST = "corpus.json"
_CORPUS_FILE = re.compile(r"(?:train|validation)_[a-z]+\d+\.txt")


@dataclass(frozen=True, kw_only=True)
class CorpusReport:
    """What `build_corpus` did.

    Attributes:
        options: The options that decide what the corpus is.
        inputs: SHA-256 of each input file, by collection, volume and name.
        input_file: Where these were, as it was given; `None` if an older version did not note it.
        files: Counts by name of corpus file.
        reading: What was left out of the text.
    """

    options: dict[str, Any]
    inputs: dict[str, str]
    input_file: str | None = None
    files: dict[str, FileCounts] = field(default_factory=dict)
    reading: ReadingReport = field(default_factory=ReadingReport)

    def total(self, name: str) -> int:
        """Sum of one of the counts ("documents", "sections", "characters", "tshegs") over all files."""
        return sum(getattr(counts, name) for counts in self.files.values())

    def summary(self) -> str:
        """The corpus and what was left out of it, in a few lines."""
        volumes = sum(len(counts.volumes) for counts in self.files.values())
        dropped = ", ".join(f"{count:,} {kind}" for kind, count in self.reading.dropped.most_common())
        lines = [
            f"{len(self.files)} files of {volumes} volumes: {self.total('documents'):,} documents, "
            f"{self.total('sections'):,} sections, {self.total('characters'):,} characters, "
            f"{self.total('tshegs'):,} tshegs",
            f"Characters left out: {dropped or 'none'}",
        ]
        if self.reading.num_unknown:
            first = self.reading.unknown[0]
            lines.append(
                f"Unknown markup left out in {self.reading.num_unknown:,} places, listed in {MANIFEST}; the first "
                f"in {first.file}:{first.line}: {first.text!r}"
            )
        return "\n".join(lines)


def write_manifest(output_dir: str, report: CorpusReport) -> None:
    """Write `corpus.json` to a folder."""
    content = {
        "options": report.options,
        "input_file": report.input_file,
        "inputs": report.inputs,
        "files": {name: asdict(counts) for name, counts in report.files.items()},
        "dropped_characters": dict(report.reading.dropped.most_common()),
        "markup": dict(report.reading.markup.most_common()),
        "num_unknown_markup": report.reading.num_unknown,
        "unknown_markup": [asdict(place) for place in report.reading.unknown],
    }
    with atomic_output(join(output_dir, MANIFEST)) as path:
        path.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def read_manifest(output_dir: str) -> CorpusReport | None:
    """Read `corpus.json` of a folder; None if there is none.

    Raises:
        InputError: If it is not what `write_manifest` writes.
    """
    if MANIFEST not in list_folder(output_dir):
        return None
    path = join(output_dir, MANIFEST)
    try:
        content = read_json(path, what="a manifest of a corpus", advice="Take another output_dir.")
        reading = ReadingReport(
            unknown=[UnknownMarkup(**place) for place in content["unknown_markup"]],
            num_unknown=content["num_unknown_markup"],
        )
        reading.markup.update(content["markup"])
        reading.dropped.update(content["dropped_characters"])
        files = {name: FileCounts(**counts) for name, counts in content["files"].items()}
        return CorpusReport(
            options=content["options"],
            inputs=content["inputs"],
            input_file=content.get("input_file"),
            files=files,
            reading=reading,
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"Not a manifest of a corpus. Received: {path!r}. Take another output_dir.") from error


def check_folder(output_dir: str, planned: CorpusReport, existing: CorpusReport | None, *, names: set[str]) -> bool:
    """Check that a folder can take a corpus, and whether it holds it already.

    Args:
        output_dir: The folder.
        planned: Options and inputs of the corpus to come.
        existing: The folder's manifest, if it has one.
        names: Names of the files to come.

    Returns:
        Whether the folder has this very corpus, whole.

    Raises:
        InputError: If the folder holds another corpus, or files that would be taken for parts of this one.
    """
    if existing is not None:
        refuse_changes(existing.options | existing.inputs, planned.options | planned.inputs, folder=output_dir)
    found = {name for name in list_folder(output_dir) if _CORPUS_FILE.fullmatch(name)}
    if found - names:
        raise InputError(
            f"The folder has files of another corpus. Received: output_dir={output_dir!r} with "
            f"{', '.join(sorted(found - names))}. Take an empty folder, or remove them."
        )
    return existing is not None and all(
        name in found and sha256(join(output_dir, name)) == counts.sha256 for name, counts in existing.files.items()
    )
