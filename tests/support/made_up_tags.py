"""Made-up tagged text whose words a very small tagger learns, but not by heart: their order tells the tags."""

import random
from pathlib import Path

WHO = {"སངས་རྒྱས་": "PROPN", "ཀུན་དགའ་བོ་": "PROPN", "རྒྱལ་པོ་": "NOUN", "དགེ་སློང་": "NOUN"}
# The same forms as things and as what is done with them.
WHAT = ("ཆོས་", "མེ་ཏོག་", "གོས་", "བསྟན་")
DONE = ("ཕུལ", "ཐོབ", "བསྟན", "མཐོང")


def sentence(rng: random.Random) -> list[tuple[str, str]]:
    return [
        rng.choice(list(WHO.items())), ("ཡིས་", "ADP"), rng.choice(list(WHO.items())), ("ལ་", "ADP"),
        (rng.choice(WHAT), "NOUN"), (rng.choice(DONE), "VERB"), ("།", "PUNCT"),
    ]  # fmt: skip


def write_horizontal(path: Path, *, seed: int, num_documents: int, sentences: int = 3) -> str:
    """Write documents in SOAS's horizontal layout, one a line, and return the path."""
    rng = random.Random(seed)
    lines = [
        " ".join(f"{form}|{tag}" for _ in range(sentences) for form, tag in sentence(rng)) for _ in range(num_documents)
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
    return str(path)


def write_texts(path: Path, *, seed: int, count: int) -> str:
    """Write texts that end in a verb or in a noun, with which of the two as their labels, and return the path."""
    rng = random.Random(seed)
    lines = []
    for _ in range(count):
        words = sentence(rng)
        label = rng.choice(["whole", "cut"])
        text = "".join(form for form, _ in (words if label == "whole" else words[:4]))
        lines.append(f"{label}\t{text}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
    return str(path)
