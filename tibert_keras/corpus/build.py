"""Build a corpus: editions of the canon in, text files out."""

import contextlib
import itertools
import logging
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import PurePosixPath

from tqdm import tqdm

from tibert_keras.corpus.markup import Reading
from tibert_keras.corpus.report import CorpusReport, FileCounts, ReadingReport
from tibert_keras.corpus.transliteration import Transliteration
from tibert_keras.corpus.volumes import NUM_PARTITIONS, Edition, Volume, find_volumes, read_volume
from tibert_keras.errors import InputError, check_options, refuse_changes
from tibert_keras.integrity import check_unchanged
from tibert_keras.locks import only_writer
from tibert_keras.normalization import Normalization, normalize_text
from tibert_keras.parallel import check_shared, run_tasks
from tibert_keras.storage import (
    UNFINISHED,
    absolute,
    atomic_output,
    join,
    list_folder,
    move,
    remove,
    sha256,
    size,
)
from tibert_keras.tibetan import TSHEGS

_LOG = logging.getLogger(__name__)
_NOT_IN_CORPUS = {"input_file", "output_dir", "workers", "scheduler"}
_CORPUS_NAME = re.compile(r"(?:train|validation)_[a-z]+\d+\.txt")
_VOLUME = re.compile(r"(?:([a-z]+):)?(\d+)")
# Subfolder of the output folder for finished files, until all of them are.
_WAITING = f".corpus{UNFINISHED}"


@dataclass(frozen=True, kw_only=True)
class CorpusConfig:
    """Options of `build_corpus`.

    Args:
        input_file: Volumes of an edition, or texts: paths or glob patterns separated by commas. A folder NAME.opf
            stands for all its volumes.
        output_dir: Folder for the corpus files, local or remote. It is made if needed.
        edition: Edition or format of the input. auto recognises each file by its path and content; any other holds for
            all files: esukhia and openpecha are the canon's, tei is TEI XML, table CSV or TSV.
        reading: Which of two spellings to keep: original is the archaic or uncorrected one, corrected the
            edition's modern or corrected one.
        normalization: How to write text that has several spellings in Unicode: `none` keeps it as it is, since a
            tokenizer has rules of its own; `nfc` and `tibetan` are those of `tibert tokenizer`.
        tohoku_documents: Whether each text of the Tohoku catalogue starts a document.
        column: Name of the column of a table to read, or its number; by default the one with the most Tibetan.
        transliteration: Scheme of text in Latin letters, to convert it: ewts (Wylie) or acip.
        validation_volumes: Volumes held out for validation: they go to files validation_* instead of train_*. Numbers,
            such as 62,90, or numbers in a collection, such as kangyur:62,tengyur:12.
        workers: Number of processes, or 0 for one a core, fewer if the input is small. In a script, more than one
            need `if __name__ == "__main__":`.
        scheduler: Address of a Dask scheduler, such as `tcp://HOST:PORT`, whose workers do the work instead.
    """

    input_file: str
    output_dir: str
    edition: Edition = "auto"
    reading: Reading = "original"
    normalization: Normalization = "none"
    tohoku_documents: bool = True
    column: str | None = None
    transliteration: Transliteration | None = None
    validation_volumes: list[int | str] | str = field(default_factory=list)
    workers: int = 0
    scheduler: str | None = None

    def __post_init__(self) -> None:
        check_options(self)
        object.__setattr__(self, "validation_volumes", _read_volumes(self.validation_volumes))


def _read_volumes(given: list[int | str] | str) -> list[int | str]:
    """Read numbers, and names such as `kangyur:62`, sorted and without duplicates."""
    names = given.split(",") if isinstance(given, str) else given
    volumes: set[int | str] = set()
    for name in (str(name).strip().lower() for name in names):
        match = _VOLUME.fullmatch(name)
        if match is None:
            raise InputError(
                f"A volume is a number, or a collection and a number. Received: validation_volumes={name!r}. "
                "Give, for example, 62 or kangyur:62,tengyur:12."
            )
        volumes.add(f"{match[1]}:{int(match[2])}" if match[1] else int(match[2]))
    return sorted(volumes, key=lambda volume: (isinstance(volume, str), volume))


def build_corpus(config: CorpusConfig) -> CorpusReport:
    """Build a corpus of documents and sections from volumes of an edition.

    Volume `v` of the Kangyur goes to `train_kangyur{v % 20}.txt`, after the lower volumes there. A section is a line,
    and an empty line separates documents. `corpus.json` beside the files records all options, counts and hashes. If
    any file cannot be read, nothing is written. A folder that already holds this very corpus is left unchanged.
    """
    volumes = find_volumes(config.input_file, edition=config.edition)
    # Absolute, for workers with another working directory.
    volumes = [replace(volume, path=absolute(volume.path)) for volume in volumes]
    partitions = _partition(volumes, list(config.validation_volumes))
    # What changes nothing is not recorded: older corpora have no such options.
    options = {
        name: value
        for name, value in asdict(config).items()
        if name not in _NOT_IN_CORPUS and value not in (None, "none")
    }
    planned = CorpusReport(options=options, inputs=_fingerprint(volumes), input_file=config.input_file)
    with only_writer(config.output_dir):
        return _build(partitions, planned, config)


def _build(partitions: dict[str, list[Volume]], planned: CorpusReport, config: CorpusConfig) -> CorpusReport:
    existing = CorpusReport.read(config.output_dir)
    is_whole = _check_output(config.output_dir, planned, existing, names=set(partitions))
    if existing is None or not is_whole:
        return _write(partitions, planned, config)
    _LOG.info("%s holds this corpus already: kept", config.output_dir)
    if existing.input_file is None:
        # Written by an older version.
        existing = replace(existing, input_file=config.input_file)
        existing.write(config.output_dir)
    return existing


def _partition(volumes: list[Volume], validation_volumes: list[int | str]) -> dict[str, list[Volume]]:
    names = {volume: {volume.number, f"{volume.collection}:{volume.number}"} for volume in volumes}
    missing = set(validation_volumes) - set[int | str]().union(*names.values())
    if missing:
        groups = itertools.groupby(volumes, lambda volume: volume.collection)
        found = ", ".join(f"{name}: {[volume.number for volume in members]}" for name, members in groups)
        raise InputError(
            f"No such volumes in the input to hold out. Received: validation_volumes={sorted(missing, key=str)}. "
            f"The input has {found}."
        )
    partitions: dict[str, list[Volume]] = {}
    for volume in volumes:
        part = "validation" if names[volume].intersection(validation_volumes) else "train"
        name = f"{part}_{volume.collection}{volume.number % NUM_PARTITIONS}.txt"
        partitions.setdefault(name, []).append(volume)
    return partitions


def _fingerprint(volumes: Sequence[Volume]) -> dict[str, str]:
    return {
        f"{volume.collection}/{volume.number}/{PurePosixPath(path).name}": sha256(path)
        for volume in volumes
        for path in volume.source_files
    }


def _check_output(output_dir: str, planned: CorpusReport, existing: CorpusReport | None, *, names: set[str]) -> bool:
    """Refuse a folder that holds another corpus; return whether it holds the planned one, whole."""
    if existing is not None:
        refuse_changes(existing.options | existing.inputs, planned.options | planned.inputs, folder=output_dir)
    found = {name for name in list_folder(output_dir) if _CORPUS_NAME.fullmatch(name)}
    if found - names:
        raise InputError(
            f"The folder has files of another corpus. Received: output_dir={output_dir!r} with "
            f"{', '.join(sorted(found - names))}. Take an empty folder, or remove them."
        )
    return existing is not None and all(
        name in found and sha256(join(output_dir, name)) == counts.sha256 for name, counts in existing.files.items()
    )


def _write(partitions: dict[str, list[Volume]], planned: CorpusReport, config: CorpusConfig) -> CorpusReport:
    names, waiting = sorted(partitions), join(absolute(config.output_dir), _WAITING)
    results: dict[str, tuple[FileCounts, ReadingReport]] = {}
    try:
        with tqdm(total=len(names), desc="corpus", unit="file", disable=None) as progress:

            def on_result(number: int, result: tuple[FileCounts, ReadingReport]) -> None:
                results[names[number]] = result
                progress.update()

            run_tasks(
                _make_file,
                [(partitions[name], join(waiting, name), planned.inputs, config) for name in names],
                workers=config.workers,
                scheduler=config.scheduler,
                on_result=on_result,
                input_bytes=sum(size(volume.path) for volumes in partitions.values() for volume in volumes),
            )
        # Rename the files together, when all are whole: an unreadable volume leaves nothing behind.
        for name in names:
            check_shared(join(waiting, name))
            move(join(waiting, name), join(config.output_dir, name))
    finally:
        # A worker of a cluster may still write there. The next build overwrites it.
        with contextlib.suppress(OSError, InputError):
            remove(waiting)
    reading = ReadingReport()
    for name in names:
        reading.add(results[name][1])
    report = replace(planned, files={name: results[name][0] for name in names}, reading=reading)
    report.write(config.output_dir)
    return report


def _make_file(
    volumes: Sequence[Volume], path: str, inputs: dict[str, str], config: CorpusConfig
) -> tuple[FileCounts, ReadingReport]:
    """Write volumes, in this order, to one corpus file. It depends on nothing else, so it can run anywhere."""
    counts, total = FileCounts(volumes=[volume.number for volume in volumes]), ReadingReport()
    names = ("reading", "tohoku_documents", "column", "transliteration")
    options = {name: getattr(config, name) for name in names}
    with atomic_output(path) as local:
        with local.open("w", encoding="utf-8", newline="\n") as file:
            for volume in volumes:
                report = ReadingReport(volume.path)
                if counts.documents:
                    file.write("\n")
                counts.documents += 1
                for section in read_volume(volume, report, **options):
                    section = normalize_text(section, config.normalization)
                    file.write(f"{section}\n")
                    if section:
                        counts.sections += 1
                        counts.characters += len(section)
                        counts.tshegs += sum(map(section.count, TSHEGS))
                    else:
                        counts.documents += 1
                total.add(report)
        after = _fingerprint(volumes)
        check_unchanged({name: inputs[name] for name in after}, after)
        counts.sha256 = sha256(local)
    return counts, total
