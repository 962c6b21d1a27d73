"""How often `fill_gaps` and n-grams of syllables find the syllables that were taken out of held-out text.

    python tests/benchmarks/gap_set.py score --gaps=tests/benchmarks/gap_sets/kangyur.tsv --corpus=corpus --model=run
    python tests/benchmarks/gap_set.py count --gaps=tests/benchmarks/gap_sets/kangyur.tsv --corpus=corpus
    python tests/benchmarks/gap_set.py draw --gaps=gaps.tsv --corpus=corpus
    python tests/benchmarks/gap_set.py time --gaps=tests/benchmarks/gap_sets/kangyur.tsv --corpus=corpus --sample=32

A set is 1,000 gaps of 1 to 3 syllables in the `validation_*.txt` of a corpus, each within a section: its file, its
line, its first and last character, and a checksum of what was there. A gap counts as filled only by the very same
syllables, though others may do as well. `score` asks for the right number of syllables, and shows the model three
sections on either side. `count` counts, in the `train_*.txt`, what stood between the same two syllables or shads on the
left and the same two on the right, and backs off to fewer. `time` searches a sample once the model runs, in Keras or,
with `--numpy`, in plain NumPy, and prints a hash of the candidates.
"""

import argparse
import csv
import itertools
import random
import re
import time
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tibert_keras.errors import InputError
from tibert_keras.records.ngrams import guess_by_ngrams
from tibert_keras.tibetan import PUNCTUATION

_NUM_GAPS, _SEED = 1000, 62
_LENGTHS = (1, 2, 3)
_SECTIONS_AROUND = 3
_SYLLABLE = re.compile(rf"[^{PUNCTUATION}\s]+")
_SYLLABLE_OR_SHAD = re.compile(rf"[^{PUNCTUATION}\s]+|[།༑༔]+")
_BETWEEN_MARKS = re.compile(r"[\u0f40-\u0fbc་]+")


class Gap(NamedTuple):
    """A row of a set: characters `start` to `end` of a line, both counted from 0, lines from 1."""

    file: str
    line: int
    start: int
    end: int
    checksum: str


class Passage(NamedTuple):
    """A gap in its text: what is before it, in it and after it."""

    before: str
    inside: str
    after: str

    @property
    def length(self) -> int:
        return len(_SYLLABLE.findall(self.inside))


def checksum(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"


def read_lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").split("\n")


# === The set ===


def draw_gaps(corpus: Path) -> list[Gap]:
    """Draw gaps, each place in the text equally likely, in the order of the text."""
    rng = random.Random(_SEED)
    files = {path.name: read_lines(path) for path in sorted(corpus.glob("validation_*.txt"))}
    lines = [(name, number) for name, text in files.items() for number in range(len(text))]
    weights = list(itertools.accumulate(len(_SYLLABLE.findall(files[name][number])) for name, number in lines))
    gaps: set[Gap] = set()
    while len(gaps) < _NUM_GAPS:
        ((name, number),) = rng.choices(lines, cum_weights=weights)
        line, length = files[name][number], rng.choice(_LENGTHS)
        syllables = list(_SYLLABLE.finditer(line))
        if len(syllables) <= length:
            continue
        first = rng.randrange(len(syllables) - length + 1)
        start, end = syllables[first].start(), syllables[first + length - 1].end()
        if _BETWEEN_MARKS.fullmatch(line[start:end]):
            gaps.add(Gap(name, number + 1, start, end, checksum(line[start:end])))
    return sorted(gaps)


def write_gaps(path: Path, gaps: Iterable[Gap]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerows([Gap._fields, *gaps])


def read_passages(path: Path, corpus: Path) -> list[Passage]:
    """Read a set, and find its gaps in the corpus, with some sections of the same document around them."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    files = {name: read_lines(corpus / name) for name in {row["file"] for row in rows}}
    passages = []
    for row in rows:
        text, number = files[row["file"]], int(row["line"]) - 1
        line = text[number] if number < len(text) else ""
        start, end = int(row["start"]), int(row["end"])
        if checksum(line[start:end]) != row["checksum"]:
            raise InputError(
                f"The corpus is not the one of the gaps. Received: corpus={str(corpus)!r}, {row['file']} line "
                f"{row['line']}. Hold out the volumes that the name of the set tells of."
            )
        # An empty line ends a document.
        above = itertools.takewhile(bool, reversed(text[max(0, number - _SECTIONS_AROUND) : number]))
        below = itertools.takewhile(bool, text[number + 1 : number + 1 + _SECTIONS_AROUND])
        before, after = " ".join([*reversed(list(above)), line[:start]]), " ".join([line[end:], *below])
        passages.append(Passage(before, line[start:end], after))
    return passages


# === N-grams of syllables ===


def guess_by_counting(passages: list[Passage], paths: Iterable[Path]) -> list[list[str]]:
    """Guess each gap by the syllables that stood between the same neighbours in other texts."""
    # Syllables and shads, and at number 0 the end of a document.
    numbers: dict[str, int] = defaultdict(lambda: len(numbers) + 1)
    texts = [np.fromiter(_numbered(path, numbers), np.int32) for path in paths]
    num_ids = len(numbers) + 1
    spelled = list(numbers)
    guesses: list[list[str]] = [[] for _ in passages]
    for length in _LENGTHS:
        own = [number for number, passage in enumerate(passages) if passage.length == length]
        contexts = np.array([_context(passages[number], numbers) for number in own])
        # Runs of syllables that stood anywhere, as numbers in the base `num_ids`, and these numbered in their turn.
        runs = np.concatenate([_runs(text, length, num_ids) for text in texts])
        different, tokens = np.unique(runs, return_inverse=True)
        ends = np.cumsum([len(text) - length - 3 for text in texts])
        around = (_neighbours(text, length) for text in texts)
        seen = zip(around, np.split(tokens, ends[:-1]), strict=True)
        found = guess_by_ngrams(contexts, seen, num_ids=max(len(different), num_ids + len(numbers)))
        for number, row in zip(own, found, strict=True):
            guesses[number] = [_spell(int(different[each]), length, num_ids, spelled) for each in row if each >= 0]
    return guesses


def _numbered(path: Path, numbers: dict[str, int]) -> Iterator[int]:
    yield from (0, 0)
    for line in read_lines(path):
        yield from [numbers[each] for each in _SYLLABLE_OR_SHAD.findall(line)] if line else (0, 0)
    yield from (0, 0)


def _context(passage: Passage, numbers: dict[str, int]) -> list[int]:
    before = ["", "", *_SYLLABLE_OR_SHAD.findall(passage.before)][-2:]
    after = [*_SYLLABLE_OR_SHAD.findall(passage.after), "", ""][:2]
    return [numbers[each] if each else 0 for each in before + after]


def _runs(text: np.ndarray, length: int, num_ids: int) -> np.ndarray:
    """All N runs of some length in a text that have two syllables on either side, as numbers, int64 `[N]`."""
    count = len(text) - length - 3
    run = np.zeros(count, np.int64)
    for place in range(length):
        run = run * num_ids + text[2 + place :][:count]
    return run


def _neighbours(text: np.ndarray, length: int) -> np.ndarray:
    """The two syllables on either side of each run, int32 `[N, 4]`."""
    count = len(text) - length - 3
    return np.stack([text[shift:][:count] for shift in (0, 1, 2 + length, 3 + length)], axis=-1)


def _spell(run: int, length: int, num_ids: int, spelled: list[str]) -> str:
    places = [run // num_ids**power % num_ids for power in reversed(range(length))]
    return "་".join(spelled[place - 1] if place else "" for place in places)


# === Figures ===


def show(passages: list[Passage], guesses: list[list[str]], seconds: float) -> None:
    print(f"{'syllables':10}{'gaps':>6}{'first':>8}{'in 5':>8}")
    for name, lengths in [*((str(length), (length,)) for length in _LENGTHS), ("all", _LENGTHS)]:
        own = [(p.inside, found[:5]) for p, found in zip(passages, guesses, strict=True) if p.length in lengths]
        first = sum(found[:1] == [inside] for inside, found in own) / len(own)
        in_five = sum(inside in found for inside, found in own) / len(own)
        print(f"{name:10}{len(own):6,}{first:8.1%}{in_five:8.1%}")
    print(f"{1000 * seconds / len(passages):.0f} ms a gap")


def measure(passages: list[Passage], model: str, *, numpy: bool) -> None:
    """Print the rate of the search, by processor time, and what it finds."""
    from tibert_keras.inference.fill import fill_gaps
    from tibert_keras.inference.loading import load_fill_mask

    # Whether a model runs in NumPy depends on the number of missing syllables.
    loaded = load_fill_mask(model, count=1 if numpy else None)
    texts = [f"{passage.before}[GAP:{passage.length}]{passage.after}" for passage in passages]
    fill_gaps(["[GAP:1]"], model=loaded)
    began, used = time.perf_counter(), time.process_time()
    answers = fill_gaps(texts, model=loaded)
    seconds, processor = time.perf_counter() - began, time.process_time() - used
    found = [candidate for (candidates,) in answers for candidate in candidates]
    print(f"{len(found)} candidates, checksum {checksum(' '.join(each.text for each in found))}, ", end="")
    print(f"sum of scores {sum(each.score for each in found):.4f}, {len(texts) / seconds:.2f} gaps/s of wall time")
    print(f"rate: {len(texts) / processor:.3f} gaps per second of processor time")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=["draw", "score", "count", "time"])
    parser.add_argument("--gaps", type=Path, required=True)
    parser.add_argument("--corpus", type=Path, nargs="+", required=True)
    parser.add_argument("--model", default="tibert_small_derge")
    parser.add_argument("--sample", type=int, help="for `time`, the number of gaps")
    parser.add_argument("--numpy", action="store_true", help="for `time`, without Keras")
    flags = parser.parse_args()
    if flags.task == "draw":
        write_gaps(flags.gaps, draw_gaps(flags.corpus[0]))
        return
    passages = read_passages(flags.gaps, flags.corpus[0])
    if flags.task == "time":
        random.Random(1).shuffle(passages)
        measure(passages[: flags.sample], flags.model, numpy=flags.numpy)
        return
    started = time.perf_counter()
    if flags.task == "count":
        paths = [path for corpus in flags.corpus for path in sorted(corpus.glob("train_*.txt"))]
        guesses = guess_by_counting(passages, paths)
    else:
        from tibert_keras.inference.fill import fill_gaps
        from tibert_keras.inference.loading import load_fill_mask

        texts = [f"{passage.before}[GAP:{passage.length}]{passage.after}" for passage in passages]
        answers = fill_gaps(texts, model=load_fill_mask(flags.model))
        guesses = [[candidate.text for candidate in candidates] for (candidates,) in answers]
    show(passages, guesses, time.perf_counter() - started)


if __name__ == "__main__":
    main()
