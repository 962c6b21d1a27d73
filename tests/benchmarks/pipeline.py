"""Rate of the training input pipelines alone, TensorFlow's and the one in NumPy: TFRecord files to shuffled batches.

    python tests/benchmarks/pipeline.py --input_file='records/*.tf_record'

Nothing is trained: each batch is taken and dropped, so the figures are what the pipelines can feed. The two take turns.
"""

import argparse
import os
import statistics
import time
from collections.abc import Iterator
from itertools import count
from typing import Any

from tibert_keras.records import batches, tensorflow_batches
from tibert_keras.records.pipeline import Records

_READERS: dict[str, Any] = {"tf.data": tensorflow_batches, "NumPy": batches}


def stream(name: str, records: Records, batch_size: int) -> Iterator[Any]:
    options = {"seed": 1, "start_step": 0, "masking": None}
    dataset = _READERS[name].training_batches(records, batch_size, sop=False, **options)
    return (dataset[index] for index in count()) if name == "NumPy" else iter(dataset)


def main() -> None:
    """Print the rates, as the medians of several stretches."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input_file", required=True)
    parser.add_argument("--batch_size", type=int, default=1024)
    parser.add_argument("--batches", type=int, default=100, help="of each stretch")
    parser.add_argument("--stretches", type=int, default=7)
    flags = parser.parse_args()
    records = Records.find(flags.input_file)
    streams = {name: stream(name, records, flags.batch_size) for name in _READERS}
    rates: dict[str, list[float]] = {name: [] for name in _READERS}
    for number in range(-1, flags.stretches):
        for name, each in streams.items():
            began = time.perf_counter()
            for _ in range(flags.batches if number >= 0 else 1):
                next(each)
            seconds = time.perf_counter() - began
            if number >= 0:
                rates[name].append(flags.batches * flags.batch_size / seconds)
            else:
                print(f"{name}: the first batch after {seconds:.1f} s")
    for name, own in rates.items():
        spread = f"median of {len(own)}, {min(own):,.0f} to {max(own):,.0f}"
        print(f"{name}: {statistics.median(own):,.0f} sequences/s ({spread})")
    print(
        f"{os.cpu_count()} cores, {records.num_examples:,} examples of {records.max_seq_length} tokens in "
        f"{len(records.paths)} files, batches of {flags.batch_size}"
    )


if __name__ == "__main__":
    main()
