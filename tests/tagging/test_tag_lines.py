"""Tagging through windows: the text is all there, and a window changes nothing that it need not."""

from __future__ import annotations

import random
from itertools import chain
from types import SimpleNamespace

import numpy as np
import pytest

from tibert_keras import TibertTokenClassifierPreprocessor, TibertTokenizer
from tibert_keras.tagging.tag_lines import tag_lines
from tibert_keras.tagging.words import TaggedWord, split_syllables

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
