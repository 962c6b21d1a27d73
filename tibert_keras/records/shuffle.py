"""Put the examples of many record files into one random order, in bounded memory."""

import io
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from tibert_keras.records.serialization import read_records, write_records
from tibert_keras.storage import atomic_output, join, open_binary, read_bytes, size

# A worker holds this many bytes of examples at a time.
_BUCKET_BYTES = 1 << 25
_READ_TOGETHER = 1024
_EXAMPLES_FILE, _INDEX_FILE = "examples", "index.npy"


def num_buckets(paths: Sequence[str], num_targets: int) -> int:
    """Compute how many buckets make up each new file, so that a bucket fits into memory with room to spare."""
    return -(-sum(map(size, paths)) // (num_targets * _BUCKET_BYTES))


def scatter(path: str, folder: str, buckets: int, seed: Sequence[int]) -> None:
    """Deal the examples of a record file out to buckets, each to any with equal probability.

    Dealing out all files and then shuffling each bucket gives every order of all examples with equal probability
    (Rao 1961, Sandelius 1962). As a file for each bucket would make thousands, one file in `folder` holds the examples
    of all buckets, stretch by stretch of the record file, with an index beside it.
    """
    rng, index = np.random.default_rng(seed), []
    with atomic_output(folder) as local:
        local.mkdir()
        with (local / _EXAMPLES_FILE).open("wb") as file:
            for examples in _stretches(path):
                dealt = rng.integers(buckets, size=len(examples))
                order = np.argsort(dealt, kind="stable")
                shares = np.split(order, np.searchsorted(dealt[order], np.arange(1, buckets)))
                begins = [file.tell()]
                for share in shares:
                    chosen = [examples[number] for number in share.tolist()]
                    # Their number and their lengths come first.
                    file.write(np.array([len(chosen), *map(len, chosen)]).tobytes())
                    file.writelines(chosen)
                    begins.append(file.tell())
                index.append(begins)
        np.save(local / _INDEX_FILE, np.array(index))


def _stretches(path: str) -> Iterator[list[bytes]]:
    """Read a record file in stretches of about the size of a bucket."""
    records, held = read_records(path), 0
    examples: list[bytes] = []
    while batch := list(itertools.islice(records, _READ_TOGETHER)):
        examples += batch
        held += sum(map(len, batch))
        if held >= _BUCKET_BYTES:
            yield examples
            examples, held = [], 0
    if examples:
        yield examples


def _read_bucket(folder: str, bucket: int) -> Iterator[bytes]:
    index = np.load(io.BytesIO(read_bytes(join(folder, _INDEX_FILE))))
    with open_binary(join(folder, _EXAMPLES_FILE)) as file:
        for begin, end in index[:, bucket : bucket + 2].tolist():
            file.seek(begin)
            share = file.read(end - begin)
            count = int(np.frombuffer(share, np.int64, 1)[0])
            ends = 8 * (count + 1) + np.frombuffer(share, np.int64, count + 1).cumsum() - count
            yield from (share[first:past] for first, past in itertools.pairwise(ends.tolist()))


def gather(folders: Sequence[str], target: Path, *, buckets: Sequence[int], seed: Sequence[int]) -> int:
    """Write a record file of whole buckets, each in random order, and return the number of examples."""
    rng, count = np.random.default_rng(seed), 0
    with target.open("wb") as file:
        for bucket in buckets:
            examples = [example for folder in folders for example in _read_bucket(folder, bucket)]
            count += write_records(file, (examples[number] for number in rng.permutation(len(examples)).tolist()))
    return count
