"""Latency and throughput of `tibert serve` beside transformers' fill-mask pipeline, on the same weights in one run.

    PYTHONPATH=. python tests/benchmarks/serving.py --spm_model_file=spiece.model --input_file='corpus/*.txt'
    PYTHONPATH=. python tests/benchmarks/serving.py ... --clients 1 --requests 20 --memory_requests 200    # a trial

The model is a preset with random weights: its speed does not depend on them. `tibert export` writes it as a SavedModel
and `formats/hugging_face.py` for transformers. Texts are sections of the corpus of mixed lengths with one mask each,
the same for both. Each client sends one text at a time and waits for the answer.

`server` is a process of its own and is asked over HTTP. `pipeline` has no server, and is called as one would in one: by
the threads of the clients, one at a time (`locked`, torch's own threads being enough for the cores) or all together
(`threads`); it pays for no HTTP. Turn by turn each of the three serves a share of the requests, A B C A B C, so that
what else the machine does falls on all alike. At last the server alone gets `--memory_requests` more, and its memory is
taken ten times on the way.
"""

import argparse
import contextlib
import datetime
import multiprocessing
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import requests

MASK = "[MASK]"


def make_models(preset: str, spm_model_file: str, folder: Path, precision: Any) -> None:
    """Write one model as a SavedModel, `tibert/1`, and for transformers, `hf`."""
    from tibert_keras import TibertMaskedLM, TibertMaskedLMPreprocessor, TibertTokenizer
    from tibert_keras.formats.convert import ConvertConfig, convert
    from tibert_keras.saved_model.export import export_saved_model

    tokenizer = TibertTokenizer(spm_model_file)
    preprocessor = TibertMaskedLMPreprocessor(tokenizer, sequence_length=128)
    model = TibertMaskedLM.from_preset(preset, vocabulary_size=tokenizer.vocabulary_size(), preprocessor=preprocessor)
    model.save_to_preset(str(folder / "preset"))
    export_saved_model(model, folder / "tibert" / "1", precision=precision)
    convert(ConvertConfig(from_="keras", to="huggingface", input=str(folder / "preset"), output=str(folder / "hf")))


def make_texts(pattern: str, tokenizer: Callable[[str], int], *, count: int) -> list[str]:
    """Sections of 8 to 120 tokens, as mixed as they come, with a mask for one syllable."""
    from tibert_keras.storage import expand_glob, read_lines

    draw = random.Random(0)
    lines = [line for path in expand_glob(pattern) for line in read_lines(path) if line.count("་") > 3]
    texts: list[str] = []
    while len(texts) < count:
        # One section to several, so that lengths spread.
        start = draw.randrange(len(lines))
        syllables = " ".join(lines[start : start + draw.choice([1, 1, 2, 4])]).split("་")
        syllables[draw.randrange(1, len(syllables) - 1)] = MASK
        text = "་".join(syllables)
        if 8 <= tokenizer(text) <= 120:
            texts.append(text)
    return texts


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[tuple[str, int]]:
    """Run `tibert serve`; gives its address and process."""
    command = [sys.executable, "-m", "tibert_keras.cli", "serve", f"{folder}/tibert", "--port=0"]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            if not url:
                sys.exit("The server did not start.")
            yield url, process.pid
        finally:
            process.terminate()


def resident_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def load(answer: Callable[[str], Any], texts: list[str], clients: int) -> tuple[list[float], float]:
    """Have texts answered by so many clients at a time; the seconds of each, and of all."""

    def timed(text: str) -> float:
        started = time.perf_counter()
        answer(text)
        return time.perf_counter() - started

    started = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        seconds = list(pool.map(timed, texts))
    return seconds, time.perf_counter() - started


def make_answers(url: str, folder: Path) -> dict[str, Callable[[str], Any]]:
    """What is compared, by name."""
    import transformers

    pipeline = transformers.pipeline("fill-mask", model=str(folder / "hf"), top_k=5, device="cpu")
    sessions, lock = threading.local(), threading.Lock()

    def server(text: str) -> object:
        if not hasattr(sessions, "session"):
            sessions.session = requests.Session()
        response = sessions.session.post(f"{url}/v1/models/tibert:predict", json={"instances": [text]}, timeout=600)
        response.raise_for_status()
        return response.json()["predictions"][0]["probabilities"][0]

    def locked(text: str) -> object:
        with lock:
            return pipeline(text)

    return {"server": server, "pipeline, locked": locked, "pipeline, threads": pipeline}


def bare_forward(folder: Path) -> float:
    """Seconds of transformers' model for a text of 60 tokens, without its tokenizer and pipeline."""
    import torch
    import transformers

    model = transformers.AutoModelForMaskedLM.from_pretrained(str(folder / "hf")).eval()
    ids = torch.randint(10, 1000, (1, 60))
    seconds = []
    with torch.inference_mode():
        for _ in range(25):
            started = time.perf_counter()
            model(ids)
            seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[5:])


def check_same(answers: dict[str, Callable[[str], Any]], texts: list[str]) -> float:
    """The largest difference between both sides' probabilities of the first texts."""
    largest = 0.0
    for text in texts:
        theirs = [guess["score"] for guess in answers["pipeline, locked"](text)]
        ours = answers["server"](text)
        largest = max(largest, *(abs(a - b) for a, b in zip(ours, theirs, strict=True)))
    return largest


def table(answers: dict[str, Callable[[str], Any]], texts: list[str], flags: argparse.Namespace) -> None:
    print("| clients | | p50, ms | p99, ms | texts/s |\n|---|---|---|---|---|")
    for clients in flags.clients:
        seconds: dict[str, list[float]] = {name: [] for name in answers}
        rates: dict[str, list[float]] = {name: [] for name in answers}
        share = max(clients, flags.requests // flags.repeats)
        for repeat in range(flags.repeats):
            part = [texts[(repeat * share + index) % len(texts)] for index in range(share)]
            for name, answer in answers.items():
                taken, whole = load(answer, part, clients)
                seconds[name] += taken
                rates[name].append(share / whole)
        for name, taken in seconds.items():
            centiles = statistics.quantiles(taken, n=100, method="inclusive")
            rate = statistics.median(rates[name])
            print(
                f"| {clients} | {name} | {1e3 * centiles[49]:.0f} | {1e3 * centiles[98]:.0f} | {rate:.1f} |", flush=True
            )


def main() -> None:
    """Print the table, and the memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="tibert_base")
    parser.add_argument("--spm_model_file", required=True)
    parser.add_argument("--input_file", required=True, help="text files, a section a line")
    parser.add_argument("--precision", default="float32", help="of the SavedModel, as in `tibert export`")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--requests", type=int, default=384, help="of each, for each number of clients")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--memory_requests", type=int, default=10_000)
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # In a process of its own, so that TensorFlow's threads are none of those that torch is timed with.
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            pool.submit(make_models, flags.preset, flags.spm_model_file, folder, flags.precision).result()
        import torch
        import transformers

        tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder / "hf"))
        texts = make_texts(flags.input_file, lambda text: len(tokenizer(text)["input_ids"]), count=512)
        tokens = [len(tokenizer(text)["input_ids"]) for text in texts]
        print(
            f"{datetime.date.today()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; "
            f"{flags.preset}, {flags.precision}; "
            f"texts of {min(tokens)} to {max(tokens)} tokens, {statistics.mean(tokens):.0f} on average; "
            f"torch {torch.__version__} with {torch.get_num_threads()} threads, transformers {transformers.__version__}"
        )
        with serving(folder) as (url, pid):
            answers = make_answers(url, folder)
            print(f"torch's model alone, 60 tokens: {1e3 * bare_forward(folder):.0f} ms (median of 20)")
            print(f"largest difference of a probability, 20 texts: {check_same(answers, texts[:20]):.1e}\n")
            table(answers, texts, flags)
            print(f"\nMemory of the server over {flags.memory_requests:,} requests of 8 clients, MB:", end="")
            for _ in range(10):
                tenth = [texts[index % len(texts)] for index in range(flags.memory_requests // 10)]
                load(answers["server"], tenth, 8)
                print(f" {resident_mb(pid):.0f}", end="", flush=True)
            print(f"; load afterwards {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
