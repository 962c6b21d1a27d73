"""Editions in, corpus files out: `build_corpus`."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import asdict, dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any, get_args

from tqdm import tqdm

from tibert_keras.corpus.manifest import CorpusReport, check_folder, read_manifest, write_manifest
from tibert_keras.corpus.markup import Reading
from tibert_keras.corpus.partition import FileCounts, partition_name, write_partition
from tibert_keras.corpus.report import ReadingReport
from tibert_keras.corpus.volumes import Edition, Volume, find_volumes
from tibert_keras.errors import InputError
from tibert_keras.parallel import check_shared, run_tasks
from tibert_keras.storage import UNFINISHED, absolute, atomic_output, join, move, remove_folder, sha256

_LOG = logging.getLogger(__name__)
_NOT_IN_CORPUS = {"input_file", "output_dir", "workers", "scheduler"}
# Folder in the output folder for the files that wait for the last of them.
_WAITING = f".corpus{UNFINISHED}"


@dataclass(frozen=True, kw_only=True)
class CorpusConfig:
    """Options of `build_corpus`.

    Args:
        input_file: Volumes of an edition: paths or glob patterns with commas between them. A folder NAME.opf
            stands for all its volumes.
        output_dir: Folder for the corpus files, local or remote; it is made if need be.
        edition: Edition of the input; auto tells by path and content, for each file.
        reading: Which of two spellings to keep: original is the archaic or uncorrected one, corrected the
            edition's modern or corrected one.
        tohoku_documents: Whether each text of the Tohoku catalogue starts a document.
        validation_volumes: Numbers of volumes held out for validation: they go to files validation_* instead
            of train_*.
        workers: Processes that work at a time, or 0 for one a core. More than one need a main module that can be
            imported, as the command line is.
        scheduler: Address of a Dask scheduler, such as `tcp://HOST:PORT`, whose workers do the work instead.
    """

    input_file: str
    output_dir: str
    edition: Edition = "auto"
    reading: Reading = "original"
    tohoku_documents: bool = True
    validation_volumes: list[int] = field(default_factory=list)
    workers: int = 0
    scheduler: str | None = None

    def __post_init__(self) -> None:
        for name, choices in (("edition", get_args(Edition)), ("reading", get_args(Reading))):
            value = getattr(self, name)
            if value not in choices:
                raise InputError(f"No such {name}. Received: {name}={value!r}. Use one of {', '.join(choices)}.")


def build_corpus(config: CorpusConfig) -> CorpusReport:
    """Build a corpus of documents and sections from volumes of an edition.

    Volume `v` of the Kangyur goes to `train_kangyur{v % 20}.txt`, after the lower volumes there; a section is a
    line, an empty line stands between documents. `corpus.json` beside the files tells all options, counts and
    hashes. If any file cannot be read, nothing is written. A folder that already holds this very corpus is left as
    it is.

    Args:
        config: The options.

    Returns:
        Counts of what was written and what was left out; `summary()` puts them in words.

    Raises:
        InputError: If the input cannot be used, or the folder holds another corpus.

    Example:
        >>> from tibert_keras.corpus import CorpusConfig, build_corpus, write_sample
        >>> _ = write_sample("sample", seed=1, num_documents=40, num_files=4)
        >>> report = build_corpus(CorpusConfig(
        ...     input_file="sample/*.txt", output_dir="corpus", workers=1))
        >>> sorted(report.files)
        ['train_text1.txt', 'train_text2.txt', 'train_text3.txt', 'train_text4.txt']
    """
    volumes = find_volumes(config.input_file, edition=config.edition)
    # For workers with another working directory.
    volumes = [replace(volume, path=absolute(volume.path)) for volume in volumes]
    partitions = _partition(volumes, config.validation_volumes)
    planned = CorpusReport(options=_options(config), inputs=_fingerprint(volumes), input_file=config.input_file)
    existing = read_manifest(config.output_dir)
    if check_folder(config.output_dir, planned, existing, names=set(partitions)) and existing is not None:
        _LOG.info("%s holds this corpus already: kept", config.output_dir)
        if existing.input_file is None:
            # An older version did not note it.
            existing = replace(existing, input_file=config.input_file)
            write_manifest(config.output_dir, existing)
        return existing
    return _write(partitions, planned, config)


def _partition(volumes: list[Volume], validation_volumes: list[int]) -> dict[str, list[Volume]]:
    missing = set(validation_volumes) - {volume.number for volume in volumes}
    if missing:
        raise InputError(
            f"No such volumes in the input to hold out. Received: validation_volumes={sorted(missing)}. "
            f"The input has {sorted({volume.number for volume in volumes})}."
        )
    partitions: dict[str, list[Volume]] = {}
    for volume in volumes:
        name = partition_name(volume, validation=volume.number in validation_volumes)
        partitions.setdefault(name, []).append(volume)
    return partitions


def _options(config: CorpusConfig) -> dict[str, Any]:
    """The options that decide what the corpus is; where it lies and who does the work does not."""
    options = asdict(replace(config, validation_volumes=sorted(set(config.validation_volumes))))
    return {name: value for name, value in options.items() if name not in _NOT_IN_CORPUS}


def _fingerprint(volumes: list[Volume]) -> dict[str, str]:
    return {
        f"{volume.collection}/{volume.number}/{PurePosixPath(path).name}": sha256(path)
        for volume in volumes
        for path in volume.source_files
    }


def _write(partitions: dict[str, list[Volume]], planned: CorpusReport, config: CorpusConfig) -> CorpusReport:
    names, waiting = sorted(partitions), join(absolute(config.output_dir), _WAITING)
    results: dict[int, tuple[FileCounts, ReadingReport]] = {}
    try:
        with tqdm(total=len(names), desc="corpus", unit="file", disable=None) as progress:

            def on_result(number: int, result: tuple[FileCounts, ReadingReport]) -> None:
                results[number] = result
                progress.update()

            tasks = [(partitions[name], join(waiting, name), planned.inputs, config) for name in names]
            run_tasks(_partition_file, tasks, workers=config.workers, scheduler=config.scheduler, on_result=on_result)
        # The files get their names together, when the last is whole: an unreadable volume leaves nothing behind.
        for name in names:
            check_shared(join(waiting, name))
            move(join(waiting, name), join(config.output_dir, name))
    finally:
        # A worker of a cluster may still be writing there: what it leaves is overwritten the next time.
        with contextlib.suppress(OSError, InputError):
            remove_folder(waiting)
    total = ReadingReport()
    for number in range(len(names)):
        total.add(results[number][1])
    files = {name: results[number][0] for number, name in enumerate(names)}
    done = replace(planned, files=files, reading=total)
    write_manifest(config.output_dir, done)
    return done


def _partition_file(
    volumes: list[Volume], path: str, inputs: dict[str, str], config: CorpusConfig
) -> tuple[FileCounts, ReadingReport]:
    with atomic_output(path) as local:
        result = write_partition(volumes, local, reading=config.reading, tohoku_documents=config.tohoku_documents)
        for name, digest in _fingerprint(volumes).items():
            if inputs[name] != digest:
                raise InputError(f"The file changed while it was read. Received: {name!r}. Give the command again.")
        return result
