"""The work on one file of the corpus: a function of its volumes and the options alone, so it can run anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tibert_keras.corpus.markup import Reading
from tibert_keras.corpus.report import ReadingReport
from tibert_keras.corpus.volumes import Volume, read_volume
from tibert_keras.storage import sha256
from tibert_keras.tibetan import TSHEGS


@dataclass(kw_only=True)
class FileCounts:
    """What is in one file of the corpus.

    Attributes:
        volumes: Numbers of its volumes.
        documents: Number of documents.
        sections: Number of sections.
        characters: Number of Unicode code points, without line ends.
        tshegs: Number of tshegs, the dots between syllables: a little below the number of syllables.
        sha256: SHA-256 of the file.
    """

    volumes: list[int]
    documents: int = 0
    sections: int = 0
    characters: int = 0
    tshegs: int = 0
    sha256: str = ""


def partition_name(volume: Volume, *, validation: bool) -> str:
    """Name of the corpus file that a volume goes to, such as `train_kangyur7.txt`."""
    return f"{'validation' if validation else 'train'}_{volume.collection}{volume.partition}.txt"


def write_partition(
    volumes: Sequence[Volume], path: Path, *, reading: Reading, tohoku_documents: bool
) -> tuple[FileCounts, ReadingReport]:
    """Write one file of the corpus: a section a line, an empty line between documents.

    Args:
        volumes: Its volumes, in the order they shall have.
        path: Local path of the new file.
        reading: Which spelling of a pair is kept.
        tohoku_documents: Whether a text of the Tohoku catalogue starts a document.

    Returns:
        The counts of what was written, and of what was left out.

    Raises:
        InputError: If a volume cannot be read.
    """
    counts, total = FileCounts(volumes=[volume.number for volume in volumes]), ReadingReport()
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for volume in volumes:
            report = ReadingReport(volume.path)
            if counts.documents:
                file.write("\n")
            counts.documents += 1
            for section in read_volume(volume, report, reading=reading, tohoku_documents=tohoku_documents):
                file.write(f"{section}\n")
                _count(section, counts)
            total.add(report)
    counts.sha256 = sha256(path)
    return counts, total


def _count(section: str, counts: FileCounts) -> None:
    if not section:
        counts.documents += 1
        return
    counts.sections += 1
    counts.characters += len(section)
    counts.tshegs += sum(map(section.count, TSHEGS))
