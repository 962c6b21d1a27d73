"""SentencePiece, the tokenizer in the graph, and the exported one in transformers: the same ids on real text."""

import lzma
import random
import re
import tarfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
import tensorflow as tf

from tibert_keras import TibertTokenizer
from tibert_keras.formats.hugging_face_tokenizer import write_tokenizer
from tibert_keras.tokenizers.training import TokenizerConfig, train_tokenizer

NUM_SECTIONS = 8_000
# Members of each archive, the first ones: the whole would take minutes to unpack.
MEMBERS = 6


def contents(data: Path) -> Iterator[str]:
    """The text of a few files of each source, as they are, with markup and all."""
    for path in sorted(file for file in data.rglob("*") if file.is_file()):
        if path.name.endswith(".tar.xz"):
            with tarfile.open(path) as archive:
                files = (member for member in archive if member.name.endswith((".txt", ".tsv")))
                for member in islice(files, MEMBERS):
                    yield archive.extractfile(member).read().decode("utf-8")
        elif path.suffix == ".xz":
            yield lzma.decompress(path.read_bytes()).decode("utf-8")
        else:
            yield path.read_text(encoding="utf-8")


def sections(data: Path) -> list[str]:
    """Sections from all of the sources, as many of one as of another."""
    rng = random.Random(0)
    # A space ends a section if it follows a shad; some files are not cut, so as to have spaces in theirs.
    cut = [[s for s in re.split("(?<=[།༔]) " if rng.random() < 0.8 else "\n", text) if s] for text in contents(data)]
    each = sorted(cut, key=len)
    chosen: list[str] = []
    for number, source in enumerate(each):
        share = (NUM_SECTIONS - len(chosen)) // (len(each) - number)
        chosen += rng.sample(source, min(share, len(source)))
    return [section[:400] for section in chosen]


def masked(section: str, rng: random.Random) -> str:
    """The section with a mask or two: mid-word, beside a tsheg, with and without spaces, at the start or the end."""
    tsheg = [match.end() for match in re.finditer("་", section)]
    for place in (rng.randrange(len(section) + 1), rng.choice([0, len(section), *tsheg])):
        mask = rng.choice(["[MASK]", " [MASK]", "[MASK] ", "  [MASK]  ", "[MASK][MASK]", "\n[MASK]"])
        section = section[:place] + mask + section[place + rng.randrange(2) :]
    return section


def variants(section: str, rng: random.Random) -> str:
    """The section with white space, letters and digits where they are rare."""
    place = rng.randrange(len(section) + 1)
    foreign = rng.choice(["  ", "\n", "\t", "\u3000", "\u00a0", "\r\n", " Tib. ", "108", "(ka)", "ā", "e\u0301", "☺"])
    return rng.choice(["", " ", "   "]) + section[:place] + foreign + section[place:] + rng.choice(["", " ", "\n"])


@pytest.fixture(scope="module")
def texts(shared: Path) -> dict[str, list[str]]:
    rng = random.Random(1)
    plain = sections(shared / "data")
    assert len(plain) == NUM_SECTIONS
    return {
        "plain": plain,
        "masked": [masked(section, rng) for section in plain[::4]],
        "variants": [variants(section, rng) for section in plain[1::4]],
    }


@pytest.fixture(scope="module")
def models(texts: dict[str, list[str]], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Models of both kinds, with pieces of several syllables and some for Latin letters and digits."""
    folder = tmp_path_factory.mktemp("identity")
    (folder / "text.txt").write_text("\n".join(texts["plain"]), encoding="utf-8")
    for recipe, kind in (("olive", "bpe"), ("albert", "unigram")):
        train_tokenizer(
            TokenizerConfig(
                input_file=f"{folder}/text.txt", output_dir=f"{folder}/{kind}", recipe=recipe, vocab_size=3000,
                input_sentence_size=4000,
            )
        )  # fmt: skip
    return {kind: f"{folder}/{kind}/spiece.model" for kind in ("bpe", "unigram")}


def check(tokenizer: TibertTokenizer, texts: list[str], folder: Path) -> None:
    from transformers import AutoTokenizer

    write_tokenizer(tokenizer, folder, max_length=128)
    expected = tokenizer.encode(texts)
    assert tf.function(tokenizer)(tf.constant(texts)).to_list() == expected
    there = AutoTokenizer.from_pretrained(folder)(texts, add_special_tokens=False)["input_ids"]
    assert [trio for trio in zip(texts, expected, there, strict=True) if trio[1] != trio[2]] == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bpe", "unigram"])
class TestIdentity:
    @pytest.fixture(autouse=True)
    def libraries(self) -> None:
        pytest.importorskip("transformers", reason="transformers is the other side of this comparison")

    def test_same_ids(self, kind, texts, models, tmp_path):
        check(TibertTokenizer(models[kind]), [text for sort in texts.values() for text in sort], tmp_path)

    @pytest.mark.parametrize("tsheg, underline", [(True, True), (True, False), (False, False)])
    def test_options(self, kind, tsheg, underline, texts, models, tmp_path):
        tokenizer = TibertTokenizer(models[kind], tsheg_pretokenization=tsheg, underline_between_sections=underline)
        some = [text for sort in texts.values() for text in sort[::10]]
        check(tokenizer, some, tmp_path)
