"""Sequences a second of masks filled from file to file, beside transformers' fill-mask pipeline on the same weights.

    python tests/benchmarks/fill_mask.py --input_file='corpus/validation_*.txt' --spm_model_file=tokenizer/spiece.model

The weights are random: the time does not depend on them. Each text is a few sections of the input, of mixed lengths,
with one piece masked. Both sides read the same file and write the guesses to another, in this process one after the
other and then once more; loading and a first batch are not counted. The pipeline is timed at each of its batch sizes.
"""

import argparse
import json
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tibert_keras import TibertMaskedLM, TibertMaskedLMPreprocessor, TibertTokenizer
from tibert_keras.formats.convert import ConvertConfig, convert
from tibert_keras.inference.fill import fill_texts, read_texts, write_filled
from tibert_keras.inference.loading import load_fill_mask
from tibert_keras.saved_model.export import export_saved_model
from tibert_keras.storage import expand_glob, read_lines


def make_texts(pattern: str, tokenizer: TibertTokenizer, count: int, max_tokens: int) -> list[str]:
    """Texts of 1 to 8 sections, no longer than `max_tokens`, each with a mask in place of one piece."""
    rng = random.Random(1)
    sections = [line for path in expand_glob(pattern) for line in read_lines(path) if line]
    texts: list[str] = []
    while len(texts) < count:
        start = rng.randrange(len(sections))
        pieces = tokenizer.encode([" ".join(sections[start : start + rng.randint(1, 8)])])[0]
        if 4 < len(pieces) <= max_tokens:
            vocabulary = [tokenizer.id_to_token(piece) for piece in pieces]
            vocabulary[rng.randrange(len(pieces))] = "[MASK]"
            text = "".join(vocabulary).replace("▁", " ").strip()
            texts += [text] if text.count("[MASK]") == 1 else []
    return texts


def ours(model: Path, source: Path, target: Path, batch_size: int) -> Callable[[], float]:
    loaded = load_fill_mask(model)

    def run() -> float:
        started = time.perf_counter()
        write_filled(fill_texts(read_texts(source), model=loaded, unit="pieces", batch_size=batch_size), target)
        return time.perf_counter() - started

    return run


def pipeline(model: Path, source: Path, target: Path, batch_size: int) -> Callable[[], float]:
    import transformers

    fill = transformers.pipeline("fill-mask", model=str(model), top_k=5)

    def run() -> float:
        started = time.perf_counter()
        texts = source.read_text(encoding="utf-8").splitlines()
        with target.open("w", encoding="utf-8") as file:
            for guesses in fill(texts, batch_size=batch_size):
                file.write(
                    json.dumps([[each["token_str"], each["score"]] for each in guesses], ensure_ascii=False) + "\n"
                )
        return time.perf_counter() - started

    return run


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--input_file", required=True)
    parser.add_argument("--spm_model_file", required=True)
    parser.add_argument("--preset", default="tibert_base")
    parser.add_argument("--texts", type=int, default=256)
    parser.add_argument("--max_tokens", type=int, default=126)
    parser.add_argument("--batch_size", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--pipeline_batch_size", type=int, nargs="+", default=[1, 8, 32])
    flags = parser.parse_args()
    tokenizer = TibertTokenizer(flags.spm_model_file)
    preprocessor = TibertMaskedLMPreprocessor(tokenizer, sequence_length=flags.max_tokens + 2)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model = TibertMaskedLM.from_preset(flags.preset, preprocessor=preprocessor)
        model.save_to_preset(folder / "preset")
        export_saved_model(model, folder / "saved_model/1")
        convert(ConvertConfig(from_="keras", input=f"{folder}/preset", to="huggingface", output=f"{folder}/hugging"))
        texts = make_texts(flags.input_file, tokenizer, flags.texts, flags.max_tokens)
        lengths = [len(ids) + 2 for ids in tokenizer.encode(texts)]
        print(
            f"{len(texts)} texts of {min(lengths)} to {max(lengths)} tokens, {sum(lengths) / len(texts):.1f} on average"
        )
        (folder / "texts.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
        (folder / "few.txt").write_text("\n".join(texts[:8]) + "\n", encoding="utf-8")
        runs = {f"tibert fill-mask, batch {size}": (ours, folder / "saved_model", size) for size in flags.batch_size}
        for size in flags.pipeline_batch_size:
            runs[f"transformers' pipeline, batch {size}"] = (pipeline, folder / "hugging", size)
        print(f"{'':34}{'sequences/s':>12}{'again':>8}")
        for name, (side, path, size) in runs.items():
            side(path, folder / "few.txt", folder / "few.jsonl", size)()
            run = side(path, folder / "texts.txt", folder / "out.jsonl", size)
            print(f"{name:34}{len(texts) / run():12.1f}{len(texts) / run():8.1f}", flush=True)


if __name__ == "__main__":
    main()
