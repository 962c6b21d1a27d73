"""Rate, memory and stages of `build_records`, on one core.

    python tests/benchmarks/records.py --input_file='corpus/train_*.txt' --spm_model_file=tokenizer/spiece.model \
        --megabytes 2.7 54 --dupe_factor=4
    python tests/benchmarks/records.py ... --megabytes 200 4000          # does memory grow?

Each size is one text file, made of the input as often as it takes, and is worked on by a process of its own that is
bound to one core. The rate counts everything but the import of the package; the second one leaves out loading the
tokenizer too, once a file and once for the manifest.
"""

import argparse
import glob
import inspect
import itertools
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import yaml


class Stopwatch:
    """Adds up the time of stages; within a stage that calls another only the inner one runs."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.running = ["rest"]
        self.since = time.perf_counter()

    def switch(self) -> None:
        now = time.perf_counter()
        self.seconds[self.running[-1]] += now - self.since
        self.since = now

    def time(self, stage: str, function: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            self.switch()
            self.running.append(stage)
            try:
                result = function(*arguments, **options)
            finally:
                self.switch()
                self.running.pop()
            return self._iterate(stage, result) if inspect.isgenerator(result) else result

        return call

    def _iterate(self, stage: str, generator: Any) -> Any:
        end = object()
        step = self.time(stage, lambda: next(generator, end))
        while (value := step()) is not end:
            yield value


def measure(source: str, output_dir: str, options: dict[str, Any]) -> dict[str, Any]:
    """Build the records of one file on one core, and report."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    from tibert_keras.records import build as records
    from tibert_keras.records import one_file
    from tibert_keras.records import text_reader as sections
    from tibert_keras.records.build import build_records
    from tibert_keras.records.config import RecordsConfig

    watch = Stopwatch()
    stages: list[tuple[str, Any, str]] = [
        ("read", sections.SectionReader, "__iter__"),
        ("tokenize", one_file.SentencePieceEncoder, "encode"),
        ("pack", one_file, "cut_document"),
        ("pack", one_file, "lay_out"),
        ("mask", one_file, "mask_tokens"),
        ("encode", one_file, "serialize_examples"),
        ("write", one_file, "write_records"),
        ("load", one_file, "record_tokenizer"),
        ("load", records, "record_tokenizer"),
    ]
    for stage, owner, name in stages:
        setattr(owner, name, watch.time(stage, getattr(owner, name)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    manifest = build_records(RecordsConfig(input_file=source, output_dir=output_dir, workers=1, **options))
    seconds = time.perf_counter() - began
    watch.switch()
    return {
        "examples": manifest.total("examples"),
        "tokens": manifest.total("tokens"),
        "seconds": seconds,
        "stages": dict(watch.seconds),
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "imports": before / 1024,
    }


def write_text(pattern: str, megabytes: float, path: Path) -> None:
    """Repeat the text files until there are so many megabytes, up to the end of a line."""
    wanted = int(megabytes * 1e6)
    with path.open("wb") as output:
        for name in itertools.cycle(sorted(glob.glob(pattern)) or sys.exit(f"No file matches {pattern!r}.")):
            text = Path(name).read_bytes()
            if output.tell() + len(text) >= wanted:
                end = text.rfind(b"\n", 0, wanted - output.tell()) + 1
                output.write(text[:end])
                return
            output.write(text)


def main() -> None:
    """Print a line for each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input_file", required=True)
    parser.add_argument("--spm_model_file", required=True)
    parser.add_argument("--megabytes", type=float, nargs="+", default=[54.0])
    parser.add_argument("--dupe_factor", type=int, default=4)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--with", dest="options", default=[], nargs="*", help="further options, as sop=True")
    flags = parser.parse_args()
    options = {name: yaml.safe_load(value) for name, value in (option.split("=", 1) for option in flags.options)}
    options |= {"dupe_factor": flags.dupe_factor, "spm_model_file": flags.spm_model_file}
    print(f"{os.cpu_count()} cores, of which one is used; {options}")
    for megabytes, _ in itertools.product(flags.megabytes, range(flags.repeat)):
        with tempfile.TemporaryDirectory() as folder:
            write_text(flags.input_file, megabytes, Path(folder) / "text.txt")
            # A process of its own for each, so that one does not count the other's memory.
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
                found = process.submit(measure, f"{folder}/text.txt", f"{folder}/records", options).result()
        rate, stages = found["examples"] / found["seconds"], found["stages"]
        without_start = found["examples"] / (sum(stages.values()) - stages["load"])
        shares = ", ".join(f"{stage} {seconds / sum(stages.values()):.0%}" for stage, seconds in sorted(stages.items()))
        print(
            f"{megabytes:,} MB of text: {found['examples']:,} sequences in {found['seconds']:.2f} s = {rate:,.0f}/s "
            f"({without_start:,.0f}/s once the tokenizer is loaded), "
            f"{found['tokens'] / found['seconds']:,.0f} tokens/s; "
            f"peak {found['peak']:,.0f} MB, of which imports {found['imports']:,.0f}; {shares}",
            flush=True,
        )


if __name__ == "__main__":
    main()
