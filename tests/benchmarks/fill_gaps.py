"""How often the syllables that were taken out of made-up text come back as candidates, and how long that takes.

    tibert quickstart && python tests/benchmarks/fill_gaps.py --model=tibert_quickstart/run

From documents that the quickstart's model has not seen, three sections at a time, 1 to 3 adjacent syllables are taken
out.
They count as found only if the very same ones are among the candidates; others may do as well.
"""

import argparse
import random
import re
import time

from tibert_keras.corpus.sample import sample_documents
from tibert_keras.inference.fill import fill_gaps
from tibert_keras.inference.loading import load_fill_mask


def make_gaps(documents: int) -> list[tuple[str, str, str, int]]:
    """What is before a gap, in it and after it, and its syllables; no gap reaches over a shad."""
    rng = random.Random(1)
    gaps = []
    for document in sample_documents(seed=77, num_documents=documents):
        for start in range(2, min(len(document) - 3, 20), 9):
            line = " ".join(document[start : start + 3])
            syllables = list(re.finditer(r"[^་།༄༅\s]+", line))
            count = rng.choice([1, 2, 3])
            first = rng.randrange(2, len(syllables) - count - 1)
            begin, end = syllables[first].start(), syllables[first + count - 1].end()
            if not re.search(r"[།\s]", line[begin:end]):
                gaps.append((line[:begin], line[begin:end], line[end:], count))
    return gaps


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--documents", type=int, default=40)
    flags = parser.parse_args()
    model, gaps = load_fill_mask(flags.model), make_gaps(flags.documents)
    fill_gaps(["[GAP:1]"], model=model)
    print(f"{len(gaps)} gaps{'':20}{'first':>8}{'in 5':>8}{'ms a gap':>10}")
    for name, around in (("number of syllables known", 0), ("one more or less", 1)):
        texts = [f"{before}[GAP:{max(1, n - around)}-{n + around}]{after}" for before, _, after, n in gaps]
        started = time.perf_counter()
        found = [[candidate.text for candidate in answer[0]] for answer in fill_gaps(texts, model=model)]
        elapsed = time.perf_counter() - started
        missing = [inside for _, inside, _, _ in gaps]
        first = sum(texts[:1] == [inside] for texts, inside in zip(found, missing, strict=True))
        in_five = sum(inside in texts for texts, inside in zip(found, missing, strict=True))
        print(f"{name:27}{first / len(gaps):8.0%}{in_five / len(gaps):8.0%}{1000 * elapsed / len(gaps):10.0f}")


if __name__ == "__main__":
    main()
