"""Runs a benchmark in turns on this checkout and on another, and prints the medians and their ratio.

    git worktree add ../before COMMIT
    python tests/benchmarks/versus.py ../before tests/benchmarks/evaluate.py --input_file='held_out/*.tf_record'

The benchmark is this checkout's script. It prints a line that begins with `rate:` and a number, and the rest of its
output that should be the same on both sides, such as scores. Both get the same number of threads.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
from pathlib import Path

_RATE = re.compile(r"^rate: ([\d.]+)(.*)\n", re.MULTILINE)


def run(checkout: str, command: list[str], threads: int) -> tuple[float, str, str]:
    """Run the benchmark on a checkout; returns the rate, its unit and the rest of the output."""
    environment = {"PYTHONPATH": os.path.abspath(checkout), "OMP_NUM_THREADS": str(threads)}
    environment |= {"TF_NUM_INTRAOP_THREADS": str(threads), "TF_CPP_MIN_LOG_LEVEL": "3"}
    output = subprocess.run(
        [sys.executable, *command], env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    rate, unit = _RATE.findall(output)[-1]
    return float(rate), unit, _RATE.sub("", output)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    flags = parser.parse_args()
    sides = {"before": flags.before, "now": os.fspath(Path(__file__).parents[2])}
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(flags.rounds):
        for name, checkout in sides.items():
            rate, unit, rest = run(checkout, flags.command, flags.threads)
            rates[name].append(rate)
            print(f"{name}: {rate:.4g}{unit}\n{rest}", end="", flush=True)
    medians = {name: statistics.median(each) for name, each in rates.items()}
    for name, each in rates.items():
        print(f"{name}: {medians[name]:.4g}{unit}, {min(each):.4g} to {max(each):.4g}")
    print(f"{medians['now'] / medians['before']:.2f} times as fast, {flags.threads} threads, {flags.rounds} rounds")


if __name__ == "__main__":
    main()
