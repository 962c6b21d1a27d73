"""Rate of the training input pipeline alone: TFRecord files to batches, on all cores.

    python tests/benchmarks/pipeline.py --input_file='records/*.tf_record'

Nothing is trained: each batch is taken and dropped, so the figure is what the pipeline can feed.
"""

import argparse
import os
import statistics
import time

from tibert_keras.records.pipeline import Records


def main() -> None:
    """Print the rate, as the median of several stretches."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input_file", required=True)
    parser.add_argument("--batch_size", type=int, default=1024)
    parser.add_argument("--batches", type=int, default=100, help="of each stretch")
    parser.add_argument("--stretches", type=int, default=7)
    flags = parser.parse_args()
    records = Records.find(flags.input_file)
    batches = iter(records.training_batches(flags.batch_size, seed=1))
    began = time.perf_counter()
    next(batches)
    first, rates = time.perf_counter() - began, []
    for _ in range(flags.stretches):
        began = time.perf_counter()
        for _ in range(flags.batches):
            next(batches)
        rates.append(flags.batches * flags.batch_size / (time.perf_counter() - began))
    print(
        f"{os.cpu_count()} cores: {statistics.median(rates):,.0f} sequences/s of {records.max_seq_length} tokens "
        f"(median of {len(rates)}, {min(rates):,.0f} to {max(rates):,.0f}), {records.num_examples:,} examples in "
        f"{len(records.paths)} files, batches of {flags.batch_size}; the first batch after {first:.1f} s"
    )


if __name__ == "__main__":
    main()
