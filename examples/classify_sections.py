"""Make tables for a classifier of the Kangyur's sections: discipline, the great sutras, tantras, and so on.

    python examples/classify_sections.py 'derge-kangyur/*.txt' FOLDER

Takes less than a minute for the whole canon, and prints the command for the training. The section is the second part
of a file's name (`062_མདོ་སྡེ།_ཚ.txt`). A text is 100 consecutive syllables, rarely more than 128 tokens. Validation
and test have volumes of their own, but a long work continues from one volume to the next. Sections with too few volumes
for three parts are left out. Volumes 62 and 90, which pretraining holds out, are in the test.
"""

import random
import re
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from tibert_keras.corpus.volumes import Volume, find_volumes, read_documents

SYLLABLES = 100
VALIDATION_VOLUMES = {12, 24, 27, 30, 36, 43, 61, 89, 98}
TEST_VOLUMES = {13, 25, 28, 31, 37, 44, 62, 90, 99}
# Drawn evenly from the volumes of each section. More would lengthen the epochs and let three sections dominate them.
TEXTS_OF_SECTION = {"train": 1200, "validation": 200, "test": 300}


def part_of(volume: Volume) -> str:
    """Return the part that a volume belongs to."""
    if volume.number in TEST_VOLUMES:
        return "test"
    return "validation" if volume.number in VALIDATION_VOLUMES else "train"


def stretches(path: str) -> Iterator[str]:
    """Cut the documents of a volume into stretches, without those that are too short."""
    for document in read_documents(path):
        # Each match is the text up to a tsheg.
        syllables = re.findall("[^་]*་|[^་]+$", " ".join(document))
        for start in range(0, len(syllables) - SYLLABLES // 2, SYLLABLES):
            yield "".join(syllables[start : start + SYLLABLES]).strip()


def main() -> None:
    """Write one table per part."""
    pattern, folder = sys.argv[1], Path(sys.argv[2])
    volumes: dict[str, dict[str, list[Volume]]] = {}
    for volume in find_volumes(pattern):
        section = PurePosixPath(volume.path).stem.split("_")[1].rstrip("།")
        volumes.setdefault(section, {}).setdefault(part_of(volume), []).append(volume)
    folder.mkdir(parents=True, exist_ok=True)
    files = {part: (folder / f"{part}.tsv").open("w", encoding="utf-8") for part in TEXTS_OF_SECTION}
    for section, parts in volumes.items():
        if len(parts) < len(files):
            continue
        for part, of_part in parts.items():
            for volume in of_part:
                texts = list(stretches(volume.path))
                count = min(len(texts), TEXTS_OF_SECTION[part] // len(of_part))
                for text in random.Random(volume.number).sample(texts, count):
                    files[part].write(f"{section}\t{text}\n")
    for file in files.values():
        file.close()
    print(f"tibert finetune text --model=run --output_dir=classifier --input_file={folder}/train.tsv", end=" ")
    print(f"--validation_file={folder}/validation.tsv --test_file={folder}/test.tsv --num_seeds=3", end=" ")
    print("--learning_rate=5e-4 --num_epochs=6 --train_batch_size=16 --jit_compile=true")


if __name__ == "__main__":
    main()
