"""Windows over texts: nothing lost, nothing twice, none too long, and context where it can be."""

import random
import re
from itertools import chain
from types import SimpleNamespace

import numpy as np
import pytest

from tibert_keras import TibertTokenClassifierPreprocessor, TibertTokenizer
from tibert_keras.tagging.windows import consecutive_windows, overlapping_windows, tag_lines
from tibert_keras.tagging.words import TaggedWord, split_syllables
from tibert_keras.tibetan import MARKER, SHADS, TSHEGS


@pytest.mark.parametrize("seed", range(30))
def test_overlapping_windows_decide_each_syllable_once(seed):
    rng = random.Random(seed)
    size, overlap = rng.randint(4, 40), rng.randint(0, 3)
    counts = [rng.choice([0, 1, 1, 2, 3, 60 if rng.random() < 0.05 else 1]) for _ in range(rng.randint(0, 200))]
    text = [(str(index), count) for index, count in enumerate(counts)]
    windows = list(overlapping_windows(iter(text), size=size, overlap=overlap))
    assert [syllable for window in windows for syllable in window.syllables[window.first : window.last]] == [
        syllable for syllable, _ in text
    ]
    for window in windows:
        pieces = sum(counts[int(syllable)] for syllable in window.syllables)
        assert pieces <= size or sum(counts[int(syllable)] > 0 for syllable in window.syllables) == 1


def test_each_is_decided_where_it_is_farther_from_the_edge():
    windows = list(overlapping_windows(((str(index), 1) for index in range(100)), size=20, overlap=8))
    assert [len(window.syllables) for window in windows[:-1]] == [20] * (len(windows) - 1)
    for before, after in zip(windows, windows[1:], strict=False):
        # Of the eight that two windows share, four are decided by each.
        assert before.syllables[-8:] == after.syllables[:8]
        assert (len(before.syllables) - before.last, after.first) == (4, 4)


def test_no_more_of_a_text_is_read_than_is_needed():
    read = 0

    def endless():
        nonlocal read
        while True:
            read += 1
            yield "ཀ", 1

    next(overlapping_windows(endless(), size=20, overlap=8))
    assert read == 21


@pytest.mark.parametrize("head", [0, 1, 7, 500])
@pytest.mark.parametrize("seed", range(10))
def test_consecutive_windows(seed, head):
    rng = random.Random(seed)
    lengths = [rng.choice([0, 1, 2, 3, 50 if rng.random() < 0.05 else 1]) for _ in range(rng.randint(0, 120))]
    firsts = [length + rng.randint(0, 3) for length in lengths]
    windows = list(consecutive_windows(lengths, firsts, size=12, head=head))
    assert [length for window in windows for length in lengths[window]] == lengths
    for window in windows:
        assert firsts[window.start] + sum(lengths[window][1:]) <= 12 or sum(n > 0 for n in lengths[window][1:]) == 0
    if 0 < head < len(lengths) and firsts[0] + sum(lengths[1:head]) <= 12:
        assert windows[0] == slice(0, head)


LABELS = ["A", "B", "CONT"]


def tagger_by_piece(preset: str, sequence_length: int, *, reach: int = 0):
    """A stand-in for a model, whose logits at a piece depend on it and on `reach` pieces on each side."""
    tokenizer = TibertTokenizer.from_preset(preset)
    table = np.random.default_rng(0).normal(size=(tokenizer.vocabulary_size(), len(LABELS)))
    table[tokenizer.pad_token_id] = 0
    preprocessor = TibertTokenClassifierPreprocessor(tokenizer, LABELS, sequence_length=sequence_length)
    batches: list[int] = []

    def predict_on_batch(inputs):
        batches.append(len(inputs["token_ids"]))
        logits = np.pad(table[inputs["token_ids"]], ((0, 0), (reach, reach), (0, 0)))
        size = logits.shape[1] - 2 * reach
        return sum((offset + 1) * logits[:, offset : offset + size] for offset in range(2 * reach + 1))

    return SimpleNamespace(preprocessor=preprocessor, predict_on_batch=predict_on_batch, batches=batches)


def random_line(rng: random.Random) -> str:
    # No shad right before a line: a space before a syllable is a piece of its own.
    return "".join(
        rng.choice(["ཀ་", "བཀྲ་ཤིས་", "ལེགས", "།", "། །", "  ", "་", "x", "ཨོཾ་", "༄༅"]) for _ in range(rng.randint(0, 60))
    )


@pytest.mark.parametrize("seed", range(12))
def test_the_words_of_a_line_are_the_line(small_preset, seed):
    rng = random.Random(seed)
    lines = [random_line(rng) for _ in range(rng.randint(1, 12))] + [
        " ",
        "",
        "ཀ\tཁ་",
        "\u3000",
        "ལ" * 300,
        "\ufeffཀ་\r",
    ]
    rng.shuffle(lines)
    found = list(tag_lines(tagger_by_piece(small_preset, 24), lines, batch_size=4))
    assert ["".join(word.form for word in words) for words in found] == lines
    assert all(word.form for words in found for word in words)


@pytest.mark.parametrize("seed", range(4))
def test_no_word_has_syllables_and_shads(small_preset, seed):
    rng = random.Random(seed)
    lines = [
        "".join(rng.choices(["ཀ་", "ལེགས", "ང༌", "x", "༠༡", *SHADS, "༄༅", "༼", " ", " [2a.1] "], k=40)) for _ in range(4)
    ]
    for words in tag_lines(tagger_by_piece(small_preset, 24), lines):
        for word in words:
            form = re.sub(rf"{MARKER}|\s", "", word.form)
            assert not (re.search(f"[{SHADS}]", form) and re.search(r"\w", form)), word


def test_shads_and_tshegs_are_alike(small_preset):
    """A text with any of them in place of the usual ones has the same words and tags."""
    model, text = tagger_by_piece(small_preset, 24), "བཀྲ་ཤིས་ལེགས། །རྒྱལ་པོ་ལ། ཀ"
    (expected,) = tag_lines(model, [text])
    for mark in SHADS + TSHEGS:
        other = str.maketrans({("་" if mark in TSHEGS else "།"): mark})
        (words,) = tag_lines(model, [text.translate(other)])
        assert words == [TaggedWord(word.form.translate(other), word.tag) for word in expected]


def test_markers_and_breaks_inside_sentences_are_not_seen(small_preset):
    model = tagger_by_piece(small_preset, 24, reach=2)
    text, broken = "བཀྲ་ཤིས་ལེགས། །རྒྱལ་པོ་ལ།", ["[1a] བཀྲ་ [1b]", "ཤིས་(2)ལེགས། {D3} །རྒྱལ་", "[4]", "པོ་ལ།"]
    (expected,) = tag_lines(model, [text])
    found = list(tag_lines(model, broken))
    assert ["".join(word.form for word in words) for words in found] == broken
    assert found[2] == [TaggedWord("[4]", "UNK")]
    tags = {}
    for line in (expected, [word for words in found for word in words]):
        place = 0
        for word in line:
            if form := re.sub(rf"{MARKER}|\s", "", word.form):
                tags.setdefault(place, []).append(word.tag)
            place += len(form)
    # A word that goes on in the next line has a tag of its own there.
    assert all(len(set(each)) == 1 for each in tags.values()) and sum(len(each) == 2 for each in tags.values()) > 3


@pytest.mark.parametrize("reach", [0, 2])
def test_windows_change_nothing(small_preset, reach):
    rng = random.Random(1)
    syllables = ["ཀ་", "བཀྲ་", "ཤིས་", "ལེགས་", "།", "རྒྱལ་", "པོ་"]
    text = "".join(rng.choice(syllables) for _ in range(150))
    model = tagger_by_piece(small_preset, 24, reach=reach)
    # The text in one piece, longer than a model takes.
    tokenizer, syllables = model.preprocessor.tokenizer, split_syllables(text)
    (pieces,) = tokenizer.encode_syllables([syllables])
    ids = [tokenizer.cls_token_id, *chain.from_iterable(pieces), tokenizer.sep_token_id]
    (logits,) = model.predict_on_batch({"token_ids": np.array([ids])})
    starts = np.cumsum([1, *map(len, pieces)])[:-1]
    expected = model.preprocessor.join(syllables, logits[starts])
    # A window begins with the space piece of a text, so that its first syllable may have others: never one it decides.
    assert list(tag_lines(model, [text, "", text], batch_size=3)) == [expected, [], expected]


def test_batches_have_one_shape(small_preset):
    model = tagger_by_piece(small_preset, 24)
    assert list(tag_lines(model, ["ཀ་" * 200], batch_size=8))
    assert set(model.batches) == {8}
    model = tagger_by_piece(small_preset, 24)
    assert list(tag_lines(model, ["ཀ་"], batch_size=8)) and model.batches == [1]


@pytest.mark.parametrize("between, windows", [("", 2), ("\r", 2), (" ", 2), ("ཀ", 1)])
def test_what_parts_documents(small_preset, between, windows):
    model = tagger_by_piece(small_preset, 24)
    assert len(list(tag_lines(model, ["ཀ་", between, "ཀ་"]))) == 3 and model.batches == [windows]


def test_it_reads_no_further_than_it_has_to(small_preset):
    read = 0

    def endless():
        nonlocal read
        while True:
            read += 1
            yield "བཀྲ་ཤིས་"

    found = tag_lines(tagger_by_piece(small_preset, 24), endless(), batch_size=2)
    for _ in range(50):
        next(found)
    assert read < 100


def test_nothing_but_space(small_preset):
    found = list(tag_lines(tagger_by_piece(small_preset, 24), [" ", "", "\t"]))
    assert found == [[TaggedWord(" ", "UNK")], [], [TaggedWord("\t", "UNK")]]
