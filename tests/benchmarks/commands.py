"""Times shell commands in turns, and prints the medians of their processor and wall time.

    python tests/benchmarks/commands.py 'now=tibert --help' 'before=$OLDPWD/before/bin/tibert --help'

Processor time is that of the command and its children, user and system. The first round fills the file cache and is not
counted. Ratios are to the first command. Each command runs in an empty folder; `$OLDPWD` is where this was started.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping


def measure(command: str) -> tuple[float, float]:
    """Run a command in a folder of its own; returns seconds of processor time and of wall time."""
    with tempfile.TemporaryDirectory() as folder:
        before, began = os.times(), time.perf_counter()
        done = subprocess.run(["bash", "-c", f"cd {folder} && {command}"], capture_output=True, text=True, check=False)
        seconds, after = time.perf_counter() - began, os.times()
    if done.returncode:
        sys.exit(f"{command} failed: {done.stderr[-500:]}")
    return sum(after[2:4]) - sum(before[2:4]), seconds


def compare(commands: Mapping[str, str], *, rounds: int) -> None:
    """Run commands, by name, in turns, so that a slow minute hits all of them, and print the table."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for round_ in range(rounds + 1):
        for name, command in commands.items():
            seconds = measure(command)
            if round_:
                taken[name].append(seconds)
    print("| command | processor time, s (lowest-highest) | ratio | wall time, s | ratio |\n|---|---|---|---|---|")
    first: list[float] = []
    for name, runs in taken.items():
        processor, wall = zip(*runs, strict=True)
        medians = [statistics.median(processor), statistics.median(wall)]
        first = first or medians
        print(
            f"| {name} | {medians[0]:.2f} ({min(processor):.2f}-{max(processor):.2f}) | {medians[0] / first[0]:.2f} "
            f"| {medians[1]:.2f} ({min(wall):.2f}-{max(wall):.2f}) | {medians[1] / first[1]:.2f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("commands", nargs="+", metavar="NAME=COMMAND")
    flags = parser.parse_args()
    compare(dict(each.split("=", 1) for each in flags.commands), rounds=flags.rounds)


if __name__ == "__main__":
    main()
