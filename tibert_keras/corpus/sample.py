"""Generate a small sample corpus, for the quickstart and for tests.

The documents are grammatical classical Tibetan in the style of a sutra: each has one teacher, audience, place and
topic, lists have their fixed order, particles agree with the spelling and verbs with the rank of the subject. The
prose is formulaic enough for a very small masked language model to learn to fill its gaps in a few minutes. The
sentences and words are in `sample.yaml`.
"""

import functools
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tibert_keras.errors import InputError
from tibert_keras.storage import write_text
from tibert_keras.tibetan import LETTERS, SHAD, SUFFIXES, TSHEG
from tibert_keras.yaml_files import load_yaml

_OPENER = f"\u0f04\u0f05\u0f05{SHAD} {SHAD}"
_MAX_SECTIONS = 60
# The consonant that closes a syllable: it stands last, after a vowel sign, a subjoined letter or another consonant.
_SUFFIX = re.compile(f"(?<=[{LETTERS}])[{SUFFIXES}]$")

_Cast = dict[str, str]


@functools.cache
def _grammar() -> dict[str, Any]:
    return load_yaml(Path(__file__).with_suffix(".yaml").read_bytes())


def sample_documents(*, seed: int = 1, num_documents: int = 400) -> Iterator[list[str]]:
    """Generate documents of 20 to 60 sections. The same seed gives the same documents."""
    rng = random.Random(seed)
    for _ in range(num_documents):
        yield _punctuate(_compose(rng))


def write_sample(output_dir: str, *, seed: int = 1, num_documents: int = 400, num_files: int = 8) -> list[str]:
    """Write generated documents as plain text volumes `001_sample.txt`, ... for `build_corpus`."""
    if not 1 <= num_files <= num_documents:
        raise InputError(
            f"Every file needs a document. Received: num_files={num_files}, num_documents={num_documents}. "
            "Ask for fewer files, at least 1."
        )
    documents = ["\n".join(document) for document in sample_documents(seed=seed, num_documents=num_documents)]
    paths = [f"{output_dir.rstrip('/')}/{number:03}_sample.txt" for number in range(1, num_files + 1)]
    for index, path in enumerate(paths):
        write_text(path, "\n\n".join(documents[index::num_files]) + "\n")
    return paths


def _compose(rng: random.Random) -> list[str]:
    cast, items = _cast(rng)
    sections = [line for name in ("title", "opening", "question", "list_head") for line in _fill(name, cast)]
    for ordinal, item in zip(_ordinals(), items, strict=False):
        sections += _fill("list_item", cast | {"ordinal": ordinal, "item": item})
    sections += _fill("list_end", cast)
    closing = _fill("closing", cast)
    tale = _tale(rng, cast) if rng.random() < 0.5 else []
    frames = _grammar()["templates"]["item_frames"]
    # Apply one frame after the other to the whole list, until the document is long enough.
    for frame in rng.sample(frames, len(frames)):
        for item in items:
            block = _sections(frame, cast | _liken(item))
            if len(sections) + len(block) + len(tale) + len(closing) <= _MAX_SECTIONS:
                sections += block
        if len(sections) > _MAX_SECTIONS // 2:
            break
    return sections + tale + closing


def _cast(rng: random.Random) -> tuple[_Cast, list[str]]:
    words = _grammar()["words"]
    topic, items = rng.choice(list(words["topics"].items()))
    asker, rank = rng.choice(list(words["askers"].items()))
    place, spot = rng.choice(list(words["places"].items()))
    fruit, bane = rng.choice(list(words["fruits"].items()))
    pairs = {"asker": asker, "rank": rank, "place": place, "spot": spot, "fruit": fruit, "bane": bane}
    others = {name: rng.choice(words[f"{name}s"]) for name in ("teacher", "audience", "crowd", "being", "king")}
    return {"topic": topic, "count": words["numerals"][len(items) - 1], **pairs, **others}, items


def _ordinals() -> list[str]:
    return ["དང་པོ", *(f"{numeral}་པ" for numeral in _grammar()["words"]["numerals"][1:])]


def _liken(item: str) -> _Cast:
    words = _grammar()["words"]
    # The same item always has the same simile, whatever the seed.
    known = sorted({each for items in words["topics"].values() for each in items})
    simile, target, act = words["similes"][known.index(item) % len(words["similes"])]
    return {"item": item, "simile": simile, "object": target, "act": act}


def _tale(rng: random.Random, cast: _Cast) -> list[str]:
    words = _grammar()["words"]
    sections = _fill("tale_head", cast)
    gift = rng.choice(words["gifts"])
    for ordinal, son in zip(_ordinals(), rng.sample(words["sons"], 3), strict=False):
        sections += _fill("tale_son", cast | {"ordinal": ordinal, "son": son, "gift": gift})
    return sections + _fill("tale_end", cast | {"gift": gift})


def _fill(name: str, cast: _Cast) -> list[str]:
    return _sections(_grammar()["templates"][name], cast)


def _sections(template: str, cast: _Cast) -> list[str]:
    """Fill a template, and return its sections with tshegs but no other punctuation."""
    sections = []
    for line in template.splitlines():
        section = ""
        for token in line.split():
            if token.startswith("+"):
                section = add_particle(section.rstrip(TSHEG), token[1:])
            else:
                section += TSHEG * bool(section and not section.endswith(TSHEG)) + token.format_map(cast)
        sections.append(section)
    return sections


def _punctuate(sections: list[str]) -> list[str]:
    """Add shads: a sentence ends with the double shad `། །`, whose second half starts the next section."""
    document, opener = [], _OPENER
    for section in sections:
        # A tsheg separates ང or ངོ from a shad, as with it they look like another letter.
        document.append(f"{opener}{section}{TSHEG * section.endswith(('ང', 'ངོ'))}{SHAD}")
        opener = SHAD if section.endswith("\u0f7c") else ""
    return document


def add_particle(word: str, particle: str) -> str:
    """Append a particle, such as "genitive", to a word without a tsheg at its end.

    Example:
        >>> add_particle("རྒྱལ་པོ", "genitive"), add_particle("མིག", "genitive"), add_particle("དགའ", "final")
        ('རྒྱལ་པོའི', 'མིག་གི', 'དགའོ')
    """
    match = _SUFFIX.search(word.rpartition(TSHEG)[2])
    last_letter = match[0] if match else "འ"
    spellings = _grammar()["particles"][particle]
    spelling = next(spelling for letters, spelling in spellings.items() if last_letter in letters)
    if spelling.startswith("-"):
        return word.removesuffix("འ") + spelling[1:]
    return f"{word}{TSHEG}{spelling}"
