"""The time of well-behaved clients of `tibert serve`, alone and beside each kind of hostile client.

    PYTHONPATH=. python tests/benchmarks/hostile_clients.py --model=tibert_quickstart/run/saved_model
    PYTHONPATH=. python tests/benchmarks/hostile_clients.py ... --only 'idle' --seconds 2    # a trial

Two well-behaved clients each send a short text with a mask, wait for the answer, and pause for 20 ms. The hostile
client has 600 connections of which nothing comes, and each second opens those anew that were closed; or it sends one
request after another whose body costs much. It runs on the same machine and takes a part of its processor time, as do
the well-behaved ones.

The server may open 512 files. `--tree` serves the code of another checkout, to compare with.
"""

import argparse
import datetime
import multiprocessing
import os
import re
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import requests

from tests.support.hostile_clients import REQUESTS, WAITING, Crowd, send, waiting_crowd

_CONNECTIONS = 600
_BODY = {"instances": ["བཅོམ་ལྡན་[MASK]་ལ་ཕྱག་འཚལ་ལོ།"]}


def well_behaved(address: str, seconds: float) -> list[float]:
    """The seconds that each request of a client took; infinite for one that was not answered."""
    taken = []
    end = time.monotonic() + seconds
    with requests.Session() as session:
        while time.monotonic() < end:
            started = time.monotonic()
            try:
                ok = session.post(address, json=_BODY, timeout=90).ok
            except requests.RequestException:
                ok = False
            taken.append(time.monotonic() - started if ok else float("inf"))
            time.sleep(0.02)
    return taken


def crowd(hostile: list[Callable[[], object]], seconds: float, count: Any) -> None:
    """Be hostile clients."""
    with Crowd(hostile) as clients:
        time.sleep(seconds)
    count.value = clients.count


def measure(address: str, hostile: list[Callable[[], object]], seconds: float) -> tuple[list[float], int]:
    """The times of two well-behaved clients beside hostile ones, and how often those came."""
    # In a process of their own, so that they take none of the time of Python's lock from the well-behaved ones.
    context = multiprocessing.get_context("fork")
    count = context.Value("i", 0)
    process = context.Process(target=crowd, args=(hostile, seconds + 0.5, count))
    process.start()
    time.sleep(0.5)
    with ThreadPoolExecutor(2) as pool:
        asking = [pool.submit(well_behaved, address, seconds) for _ in range(2)]
        taken = [each for client in asking for each in client.result()]
    process.join(5)
    process.kill()
    return taken, count.value


def few_files() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, 512))


def show(name: str, taken: list[float], count: int) -> None:
    answered = [each for each in taken if each < float("inf")]
    failed = len(taken) - len(answered)
    if len(answered) < 2:
        print(f"| {name} | {len(answered)} | {failed} | | | {count} |", flush=True)
        return
    centiles = statistics.quantiles(answered, n=100, method="inclusive")
    print(
        f"| {name} | {len(answered)} | {failed} | {1e3 * centiles[49]:.0f} | {1e3 * centiles[98]:.0f} | {count} |",
        flush=True,
    )


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a SavedModel that fills masks, or its versions")
    parser.add_argument("--seconds", type=float, default=10, help="for each pattern")
    parser.add_argument("--only", default="", help="a regular expression of the patterns' names")
    parser.add_argument("--tree", default=".", help="the checkout whose server runs")
    flags = parser.parse_args()
    command = [sys.executable, "-m", "tibert_keras.cli", "serve", f"m={os.path.abspath(flags.model)}", "--port=0"]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": os.path.abspath(flags.tree)}
    path = "/v1/models/m:predict"
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
        cwd=flags.tree,
        preexec_fn=few_files,
    ) as server:
        try:
            assert server.stdout is not None
            url = server.stdout.readline().strip()
            if not url:
                sys.exit("The server did not start.")
            patterns: dict[str, list[Callable[[], object]]] = {"none": []}
            patterns |= {
                f"{_CONNECTIONS} x {name}": [waiting_crowd(url, *case, count=_CONNECTIONS)]
                for name, case in WAITING.items()
            }
            patterns |= {name: [partial(send, url, path, body)] for name, body in REQUESTS.items()}
            print(f"{datetime.date.today()}, {os.cpu_count()} cores, {flags.seconds:g} s for each pattern\n")
            print("| hostile client | answers | failures | p50, ms | p99, ms | hostile requests |")
            print("|---|---|---|---|---|---|")
            measure(f"{url}{path}", [], 1)
            for name, hostile in patterns.items():
                if re.search(flags.only, name):
                    show(name, *measure(f"{url}{path}", hostile, flags.seconds))
        finally:
            server.kill()


if __name__ == "__main__":
    main()
