"""Folders of masked examples in TFRecord files, in Google ALBERT's schema, with a manifest beside them."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import logging
from collections import Counter
from pathlib import Path
from typing import Any

from tqdm import tqdm

from tibert_keras.data.config import RecordsConfig
from tibert_keras.data.manifest import Manifest
from tibert_keras.data.partition import record_tokenizer, write_partition
from tibert_keras.data.shuffle import gather, num_buckets, scatter
from tibert_keras.errors import InputError, refuse_changes
from tibert_keras.storage import atomic_output, expand_glob, join, read_bytes, remove_folder, sha256, size
from tibert_keras.tasks import run_tasks

_LOG = logging.getLogger(__name__)
RECORD_SUFFIX = ".tf_record"
TOKENIZER_FILE = "spiece.model"


def build_records(config: RecordsConfig) -> Manifest:
    """Make TFRecord files from text files, one from each, and the manifest.

    A worker takes less than 1.5 GB of memory whatever the size of the corpus. The same inputs, options and seed give
    byte-identical files on any number of workers. Files that are there already, whole and from the same text, are
    kept.

    Args:
        config: Inputs and options.

    Returns:
        The manifest, as it stands in `manifest.json`.

    Raises:
        InputError: If an input cannot be used, two inputs have one name, or the folder holds records made
            with other options.

    Example:
    ```python
    build_records(RecordsConfig(
        input_file="corpus/train_*.txt", output_dir="records", spm_model_file="tokenizer/spiece.model", workers=1))
    ```
    """
    manifest = _build(config)
    _warn_of_unknown(manifest)
    return manifest


def _build(config: RecordsConfig) -> Manifest:
    paths = expand_glob(config.input_file)
    targets = [Path(path).stem + RECORD_SUFFIX for path in paths]
    if duplicates := sorted({target for target in targets if targets.count(target) > 1}):
        raise InputError(f"Input files of one name would overwrite each other. Received: {duplicates}.")
    sources = dict(zip(targets, paths, strict=True))
    manifest = _open_folder(config)
    if not config.shuffle_examples:
        _write_partitions(sources, manifest, config)
    else:
        _build_shuffled(sources, manifest, config)
    return manifest


def _open_folder(config: RecordsConfig) -> Manifest:
    """Check what is in the folder, and put the tokenizer and a manifest there before anything else."""
    proto = read_bytes(config.spm_model_file)
    manifest = Manifest(
        options=config.options,
        tokenizer={
            "sha256": hashlib.sha256(proto).hexdigest(),
            "vocabulary_size": record_tokenizer(proto, config).vocabulary_size(),
            # What encodes new text as the records were; sampling is for training only.
            "options": {
                name: getattr(config, name) for name in ["tsheg_pretokenization", "underline_between_sections"]
            },
        },
    )
    previous = Manifest.read(config.output_dir)
    if previous:
        before = {**previous.options, "tokenizer": previous.tokenizer["sha256"]}
        refuse_changes(
            before, {**manifest.options, "tokenizer": manifest.tokenizer["sha256"]}, folder=config.output_dir
        )
        return previous
    with atomic_output(join(config.output_dir, TOKENIZER_FILE)) as copy:
        copy.write_bytes(proto)
    # Records without a manifest would pass for Google's.
    manifest.write(config.output_dir)
    return manifest


def _write_partitions(sources: dict[str, str], manifest: Manifest, config: RecordsConfig) -> None:
    targets = list(sources)
    sizes = [size(source) for source in sources.values()]
    with tqdm(total=sum(sizes), desc="records", unit="B", unit_scale=True, disable=None) as progress:

        def on_result(number: int, result: tuple[dict[str, Any], dict[str, Any]]) -> None:
            source, target = sources[targets[number]], targets[number]
            manifest.sources[Path(source).name], manifest.files[target] = result
            manifest.write(config.output_dir)
            progress.update(sizes[number])

        tasks = [(source, target, manifest, config) for target, source in sources.items()]
        run_tasks(_partition, tasks, workers=config.workers, scheduler=config.scheduler, on_result=on_result)


def _partition(
    source: str, target: str, manifest: Manifest, config: RecordsConfig
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Make one record file, unless it is there."""
    digest, name = sha256(source), Path(source).name
    if manifest.sources.get(name, {}).get("sha256") == digest and manifest.is_whole(target, config.output_dir):
        return manifest.sources[name], manifest.files[target]
    tokenizer = record_tokenizer(read_bytes(config.spm_model_file), config)
    with atomic_output(join(config.output_dir, target)) as path:
        counts, examples = write_partition(source, path, config=config, tokenizer=tokenizer, source_sha256=digest)
        return {"sha256": digest, **dataclasses.asdict(counts)}, _file_entry(path, examples)


def _file_entry(path: Path, examples: int) -> dict[str, Any]:
    return {"examples": examples, "bytes": path.stat().st_size, "sha256": sha256(path)}


# === shuffle_examples ===


def _build_shuffled(sources: dict[str, str], manifest: Manifest, config: RecordsConfig) -> None:
    """Make all files in the order of the text, deal their examples out, and write each share in random order."""
    hashes = {Path(source).name: sha256(source) for source in sources.values()}
    before = {name: entry["sha256"] for name, entry in manifest.sources.items()}
    if before:
        # One file more or less is another order of all.
        refuse_changes(before, hashes, folder=config.output_dir)
    if before and all(manifest.is_whole(target, config.output_dir) for target in sources):
        return
    unshuffled, dealt_out = (join(config.output_dir, name) for name in ("unshuffled", "dealt_out"))
    parts = _build(dataclasses.replace(config, output_dir=unshuffled, shuffle_examples=False))
    manifest.sources.update(parts.sources)
    manifest.write(config.output_dir)
    _shuffle([join(unshuffled, target) for target in sources], dealt_out, manifest, config)
    for folder in (dealt_out, unshuffled):
        remove_folder(folder)


def _shuffle(paths: list[str], dealt_out: str, manifest: Manifest, config: RecordsConfig) -> None:
    targets = [Path(path).name for path in paths]
    folders = [join(dealt_out, target) for target in targets]
    each = num_buckets(paths, len(targets))
    run = functools.partial(run_tasks, workers=config.workers, scheduler=config.scheduler)
    with tqdm(total=2 * len(paths), desc="shuffle", unit="file", disable=None) as progress:

        def on_result(number: int, entry: dict[str, Any]) -> None:
            manifest.files[targets[number]] = entry
            manifest.write(config.output_dir)
            progress.update()

        deals = [
            (path, folder, each * len(paths), [config.random_seed, number])
            for number, (path, folder) in enumerate(zip(paths, folders, strict=True))
        ]
        run(scatter, deals, on_result=lambda *_: progress.update())
        shares = [(folders, number, each, manifest, config) for number in range(len(targets))]
        run(_write_share, shares, on_result=on_result)


def _write_share(
    folders: list[str], number: int, each: int, manifest: Manifest, config: RecordsConfig
) -> dict[str, Any]:
    target = Path(folders[number]).name
    if manifest.is_whole(target, config.output_dir):
        return manifest.files[target]
    with atomic_output(join(config.output_dir, target)) as path:
        buckets = range(number * each, (number + 1) * each)
        examples = gather(folders, path, buckets=buckets, seed=[config.random_seed, number, 1])
        return _file_entry(path, examples)


def _warn_of_unknown(manifest: Manifest) -> None:
    characters: Counter[str] = Counter()
    for entry in manifest.sources.values():
        characters.update(entry["unknown_characters"])
    if not characters:
        return
    files = [name for name, entry in manifest.sources.items() if entry["unknown_characters"]]
    shown = ", ".join(
        f"{character} (U+{ord(character):04X}) {count}x" for character, count in characters.most_common(10)
    )
    _LOG.warning(
        "The tokenizer has no pieces for part of the text: more than 1%% of the tokens of %d files (%s, ...) are "
        "unknown. The characters: %s. Train it on this text, or take another.",
        len(files), files[0], shown,
    )  # fmt: skip
