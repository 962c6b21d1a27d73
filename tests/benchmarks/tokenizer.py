"""Rate of `train_tokenizer` with byte pairs that cross no mark between syllables.

python tests/benchmarks/tokenizer.py --input_file='corpus/train_*.txt' --vocab_size=8000
"""

import argparse
import os
import tempfile
import time

from tibert_keras.storage import expand_glob
from tibert_keras.tokenizers.training import TokenizerConfig, train_tokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input_file", required=True)
    parser.add_argument("--vocab_size", type=int, default=8000)
    parser.add_argument("--input_sentence_size", type=int, default=3_000_000)
    flags = parser.parse_args()
    megabytes = sum(map(os.path.getsize, expand_glob(flags.input_file))) / 1e6
    with tempfile.TemporaryDirectory() as folder:
        began, used = time.perf_counter(), time.process_time()
        config = TokenizerConfig(output_dir=f"{folder}/tokenizer", tsheg_pretokenization=True, **vars(flags))
        manifest = train_tokenizer(config)
        seconds, processor = time.perf_counter() - began, time.process_time() - used
    print(f"{megabytes:.0f} MB in {seconds:.1f} s, {processor:.1f} s of processor time: {manifest['sha256'][:16]}")
    print(f"rate: {megabytes / processor:.2f} MB per second of processor time")


if __name__ == "__main__":
    main()
