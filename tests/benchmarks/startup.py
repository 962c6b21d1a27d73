"""Times commands that should start quickly, in processes of their own, as `commands.py` does.

    python tests/benchmarks/startup.py [--rounds=5]

Measures the `tibert_keras` that `python -m` finds, so with PYTHONPATH=/OTHER another commit. `fill-mask` uses
a preset and a SavedModel with random weights; of more texts than `--batch_size` Keras fills the masks. `import
tensorflow_text`, which imports TensorFlow, is listed to be subtracted.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from commands import compare

TIBERT = [sys.executable, "-m", "tibert_keras.cli"]


def prepare(folder: Path) -> dict[str, str]:
    """Make what the commands need, and list them."""
    from tibert_keras import TibertMaskedLM, TibertMaskedLMPreprocessor, TibertTokenizer
    from tibert_keras.corpus.sample import write_sample

    write_sample(str(folder / "sample"), num_documents=240, num_files=4)
    text = b"".join(path.read_bytes() for path in sorted((folder / "sample").iterdir()))
    (folder / "text.txt").write_bytes((text * (1 + 1_000_000 // len(text)))[:1_000_000].rpartition(b"\n")[0] + b"\n")
    tokenizer = [*TIBERT, "tokenizer", "--input_file=text.txt", "--output_dir=spm", "--vocab_size=1000"]
    subprocess.run(tokenizer, cwd=folder, check=True)
    preprocessor = TibertMaskedLMPreprocessor(TibertTokenizer((folder / "spm/spiece.model").read_bytes()))
    TibertMaskedLM.from_preset("tibert_nano", preprocessor=preprocessor).save_to_preset(str(folder / "preset"))
    subprocess.run([*TIBERT, "export", "--model=preset", "--output_dir=saved_model"], cwd=folder, check=True)
    tibert, text_to_fill = " ".join(TIBERT), "བཀྲ་ཤིས་[GAP:1]་ལེགས།"
    fill_mask = f"{tibert} fill-mask --model={folder}"
    return {
        "tibert --help": f"{tibert} --help",
        "tibert corpus --help": f"{tibert} corpus --help",
        "tibert pretrain --help": f"{tibert} pretrain --help",
        "tibert records, 1 MB": (
            f"{tibert} records --input_file={folder}/text.txt --output_dir=records "
            f"--spm_model_file={folder}/spm/spiece.model"
        ),
        "tibert fill-mask, preset": f"{fill_mask}/preset '{text_to_fill}'",
        "tibert fill-mask, preset in Keras": f"{fill_mask}/preset --batch_size=1 '{text_to_fill}'",
        "tibert fill-mask, SavedModel": f"{fill_mask}/saved_model 'བཀྲ་ཤིས་[MASK]་ལེགས།'",
        "import tensorflow_text": f"{sys.executable} -c 'import tensorflow_text'",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        compare(prepare(Path(folder)), rounds=rounds)


if __name__ == "__main__":
    main()
