"""Processor time of commands that should start quickly, in processes of their own: medians of five runs.

    python tests/benchmarks/startup.py [--runs=5]

Measures the `tibert_keras` that `python -m` finds, so with PYTHONPATH=OTHER_CHECKOUT another commit. Processor time is
that of the process and its children, user and system. Commands take turns, so that a slow minute hits all of them.
`fill-mask` uses a preset and a SavedModel with random weights; of more texts than `--batch_size` Keras fills the masks.
`import tensorflow_text`, which imports TensorFlow, is listed to be subtracted.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

TIBERT = [sys.executable, "-m", "tibert_keras.cli"]


def processor_time(command: list[str], folder: Path) -> float:
    before = os.times()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    after = os.times()
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed: {done.stderr[-500:]}")
    return sum(after[2:4]) - sum(before[2:4])


def prepare(folder: Path) -> dict[str, list[str]]:
    """Make what the commands need, and list them."""
    from tibert_keras import TibertMaskedLM, TibertMaskedLMPreprocessor, TibertTokenizer

    make_text = (
        "from tibert_keras.corpus.sample import write_sample; write_sample('sample', num_documents=240, num_files=4)"
    )
    subprocess.run([sys.executable, "-c", make_text], cwd=folder, check=True)
    text = b"".join(path.read_bytes() for path in sorted((folder / "sample").iterdir()))
    (folder / "text.txt").write_bytes((text * (1 + 1_000_000 // len(text)))[:1_000_000].rpartition(b"\n")[0] + b"\n")
    processor_time([*TIBERT, "tokenizer", "--input_file=text.txt", "--output_dir=spm", "--vocab_size=1000"], folder)
    preprocessor = TibertMaskedLMPreprocessor(TibertTokenizer((folder / "spm/spiece.model").read_bytes()))
    TibertMaskedLM.from_preset("tibert_nano", preprocessor=preprocessor).save_to_preset(str(folder / "preset"))
    processor_time([*TIBERT, "export", "--model=preset", "--output_dir=saved_model"], folder)
    return {
        "tibert --help": [*TIBERT, "--help"],
        "tibert corpus --help": [*TIBERT, "corpus", "--help"],
        "tibert pretrain --help": [*TIBERT, "pretrain", "--help"],
        "tibert records, 1 MB": [
            *TIBERT, "records", "--input_file=text.txt", "--output_dir=OUTPUT", "--spm_model_file=spm/spiece.model",
        ],
        "tibert fill-mask, preset": [*TIBERT, "fill-mask", "--model=preset", "བཀྲ་ཤིས་[GAP:1]་ལེགས།"],
        "tibert fill-mask, preset in Keras": [
            *TIBERT, "fill-mask", "--model=preset", "--batch_size=1", "བཀྲ་ཤིས་[GAP:1]་ལེགས།",
        ],
        "tibert fill-mask, SavedModel": [*TIBERT, "fill-mask", "--model=saved_model", "བཀྲ་ཤིས་[MASK]་ལེགས།"],
        "import tensorflow_text": [sys.executable, "-c", "import tensorflow_text"],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        commands = prepare(folder)
        times: dict[str, list[float]] = {name: [] for name in commands}
        for run in range(runs + 1):
            for name, command in commands.items():
                words = [word.replace("OUTPUT", f"records{run}") for word in command]
                seconds = processor_time(words, folder)
                if run:  # the first one only fills the file cache
                    times[name].append(seconds)
    print("| command | processor time (s): median | lowest | highest |\n|---|---|---|---|")
    for name, taken in times.items():
        print(f"| `{name}` | {statistics.median(taken):.2f} | {min(taken):.2f} | {max(taken):.2f} |")


if __name__ == "__main__":
    main()
