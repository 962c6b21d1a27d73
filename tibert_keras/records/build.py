"""Build a folder of record files: masked examples in Google ALBERT's schema, with a manifest."""

import dataclasses
import functools
import hashlib
import logging
from collections import Counter
from pathlib import Path
from typing import Any

from tqdm import tqdm

from tibert_keras.errors import InputError, refuse_changes
from tibert_keras.integrity import MANIFEST_FILE, file_entry
from tibert_keras.locks import only_writer
from tibert_keras.parallel import check_shared, run_tasks
from tibert_keras.records.config import RecordsConfig, check_vocab_file, name_targets
from tibert_keras.records.manifest import Manifest, describe_corpora, describe_tokenizer
from tibert_keras.records.one_file import record_tokenizer, write_records_file
from tibert_keras.records.shuffle import gather, num_buckets, scatter
from tibert_keras.storage import (
    absolute,
    atomic_output,
    exists,
    expand_glob,
    folder_of,
    join,
    list_folder,
    read_bytes,
    remove,
    sha256,
    size,
)

_LOG = logging.getLogger(__name__)
TOKENIZER_FILE = "spiece.model"


def build_records(config: RecordsConfig) -> Manifest:
    """Make a TFRecord file from each text file, and the manifest.

    A worker needs less than 1.5 GB of memory for a corpus of any size. The same inputs, options and seed give
    byte-identical files on any number of workers. Existing files are kept if they are whole and from the same text.
    """
    if config.vocab_file is not None:
        check_vocab_file(config.vocab_file, config.spm_model_file)
    made_from = {
        "corpora": describe_corpora(expand_glob(config.input_file)),
        "tokenizer": describe_tokenizer(config.spm_model_file),
    }
    # Absolute, for workers with another working directory.
    config = dataclasses.replace(
        config, output_dir=absolute(config.output_dir), spm_model_file=absolute(config.spm_model_file)
    )
    is_new = not exists(config.output_dir)
    with only_writer(config.output_dir):
        try:
            manifest = _build(config, made_from)
        except InputError:
            # Records that were made are kept. Without any, the folder would only be in the way.
            if is_new and set(list_folder(config.output_dir)) <= {MANIFEST_FILE, TOKENIZER_FILE}:
                remove(config.output_dir)
            raise
    _warn_of_unknown(manifest)
    return manifest


def _build(config: RecordsConfig, made_from: dict[str, dict[str, Any]]) -> Manifest:
    paths = expand_glob(config.input_file)
    targets = name_targets(paths, config.output_files)
    if duplicates := sorted({target for target in targets if targets.count(target) > 1}):
        raise InputError(f"Input files of one name would overwrite each other. Received: {duplicates}. Rename them.")
    # In order of names, whichever folders they are in.
    sources = dict(sorted(zip(targets, paths, strict=True)))
    manifest = _open_folder(config, made_from)
    if config.shuffle_examples:
        _build_shuffled(sources, manifest, config)
    else:
        _write_files(sources, manifest, config)
    if others := sorted(manifest.files.keys() - sources.keys()):
        _LOG.warning("%s also holds records of other texts: %s.", config.output_dir, ", ".join(others))
    return manifest


def _open_folder(config: RecordsConfig, made_from: dict[str, dict[str, Any]]) -> Manifest:
    """Check the folder, and write the tokenizer and a manifest to it before anything else."""
    proto = read_bytes(config.spm_model_file)
    manifest = Manifest(
        options=config.options,
        tokenizer={
            "sha256": hashlib.sha256(proto).hexdigest(),
            "vocabulary_size": record_tokenizer(proto, config).vocab_size(),
            # The options that encode new text as the records were. Sampling is for training only.
            "options": {
                name: getattr(config, name) for name in ["tsheg_pretokenization", "underline_between_sections"]
            },
        },
    )
    previous = Manifest.read(config.output_dir)
    if previous:
        before, now = ({**each.options, "tokenizer": each.tokenizer["sha256"]} for each in (previous, manifest))
        refuse_changes(before, now, folder=config.output_dir)
        manifest = previous
    # Update the corpora of the given folders. Keep the other entries: their folders may be gone.
    manifest.made_from.setdefault("corpora", {}).update(made_from["corpora"])
    manifest.made_from.setdefault("tokenizer", made_from["tokenizer"])
    with atomic_output(join(config.output_dir, TOKENIZER_FILE)) as copy:
        copy.write_bytes(proto)
    # Before the records: without a manifest they would pass for Google's.
    manifest.write(config.output_dir)
    return manifest


def _write_files(sources: dict[str, str], manifest: Manifest, config: RecordsConfig) -> None:
    targets = list(sources)
    sizes = [size(source) for source in sources.values()]
    with tqdm(total=sum(sizes), desc="records", unit="B", unit_scale=True, disable=None) as progress:

        def on_result(number: int, result: tuple[dict[str, Any], dict[str, Any]]) -> None:
            target = targets[number]
            check_shared(join(config.output_dir, target))
            entry, manifest.files[target] = result
            # The entry of a file that was kept has its old folder: the text may have moved.
            manifest.sources[target] = {"folder": folder_of(sources[target]), **entry}
            manifest.write(config.output_dir)
            progress.update(sizes[number])

        run_tasks(
            _make_file,
            [(absolute(source), target, manifest.only(target), config) for target, source in sources.items()],
            workers=config.workers,
            scheduler=config.scheduler,
            on_result=on_result,
            input_bytes=sum(sizes),
        )


def _make_file(
    source: str, target: str, previous: Manifest, config: RecordsConfig
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Make a record file, unless it exists, and return its entries in the manifest."""
    digest, entry = sha256(source), previous.sources.get(target, {})
    same_text = (entry.get("file"), entry.get("sha256")) == (Path(source).name, digest)
    # With `errors="strict"` no line may have been skipped.
    complete = config.errors == "skip" or not entry.get("skipped_lines")
    if same_text and complete and previous.is_whole(target, config.output_dir):
        return entry, previous.files[target]
    tokenizer = record_tokenizer(read_bytes(config.spm_model_file), config)
    with atomic_output(join(config.output_dir, target)) as path:
        counts, examples = write_records_file(source, path, config=config, tokenizer=tokenizer, source_sha256=digest)
        entry = {"file": Path(source).name, "sha256": digest, **dataclasses.asdict(counts)}
        return entry, {"examples": examples, **file_entry(path)}


# === shuffle_examples ===


def _build_shuffled(sources: dict[str, str], manifest: Manifest, config: RecordsConfig) -> None:
    """Make all files in the order of the text, deal their examples out to buckets, and shuffle the buckets."""
    unshuffled, dealt_out = (join(config.output_dir, name) for name in ("unshuffled", "dealt_out"))
    _refuse_other_texts(sources, manifest, config)
    made = sources.keys() <= manifest.sources.keys()
    if not (made and all(manifest.is_whole(target, config.output_dir) for target in sources)):
        parts = _build(dataclasses.replace(config, output_dir=unshuffled, shuffle_examples=False), manifest.made_from)
        manifest.sources.update({target: parts.sources[target] for target in sources})
        manifest.write(config.output_dir)
        _shuffle([join(unshuffled, target) for target in sources], dealt_out, manifest, config)
    for folder in (dealt_out, unshuffled):
        remove(folder)


def _refuse_other_texts(sources: dict[str, str], manifest: Manifest, config: RecordsConfig) -> None:
    """Refuse to add or change a text, as it would change the order of all examples."""
    # With files of given names, each command shuffles its own.
    shuffled = sources.keys() & manifest.sources.keys() if config.output_files else manifest.sources.keys()
    before = {entry["file"]: entry["sha256"] for entry in (manifest.sources[target] for target in shuffled)}
    now = {Path(source).name: sha256(source) for source in sources.values()}
    if before and before != now:
        changed = sorted(name for name in {**before, **now} if before.get(name) != now.get(name))
        raise InputError(
            "The folder holds the shuffled examples of other texts. "
            f"Received: output_dir={config.output_dir!r}, with {', '.join(changed)} new, gone or changed. "
            "Choose another output folder."
        )


def _shuffle(paths: list[str], dealt_out: str, manifest: Manifest, config: RecordsConfig) -> None:
    targets = [Path(path).name for path in paths]
    folders = [join(dealt_out, target) for target in targets]
    each = num_buckets(paths, len(targets))
    run = functools.partial(
        run_tasks, workers=config.workers, scheduler=config.scheduler, input_bytes=sum(map(size, paths))
    )
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
        shares = [
            (folders, number, range(number * each, (number + 1) * each), manifest.only(target), config)
            for number, target in enumerate(targets)
        ]
        run(_make_share, shares, on_result=on_result)


def _make_share(
    folders: list[str], number: int, buckets: range, previous: Manifest, config: RecordsConfig
) -> dict[str, Any]:
    """Make one file of shuffled examples, unless it exists, and return its entry in the manifest."""
    target = Path(folders[number]).name
    if previous.is_whole(target, config.output_dir):
        return previous.files[target]
    with atomic_output(join(config.output_dir, target)) as path:
        examples = gather(folders, path, buckets=buckets, seed=[config.random_seed, number, 1])
        return {"examples": examples, **file_entry(path)}


def _warn_of_unknown(manifest: Manifest) -> None:
    unknown = [entry for entry in manifest.sources.values() if entry.get("unknown_characters")]
    if not unknown:
        return
    most = sum((Counter(entry["unknown_characters"]) for entry in unknown), Counter[str]()).most_common(10)
    _LOG.warning(
        "The tokenizer has no pieces for part of the text: more than 1%% of the tokens of %d files (%s, ...) are "
        "unknown. The characters: %s. Train it on this text, or take another.",
        len(unknown),
        unknown[0]["file"],
        ", ".join(f"{character} (U+{ord(character):04X}) {count}x" for character, count in most),
    )
