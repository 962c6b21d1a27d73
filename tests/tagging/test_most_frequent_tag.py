"""The baseline."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tibert_keras.errors import InputError
from tibert_keras.tagging.metrics import score
from tibert_keras.tagging.most_frequent_tag import MostFrequentTag
from tibert_keras.tagging.preparation import prepare
from tibert_keras.tagging.words import Document, known_words, labels_of

TRAIN = "བཀྲ་|ADJ བཀྲ་ཤིས་|NOUN བཀྲ་ཤིས་བདེ་ལེགས|INTJ །|PUNCT ཤོག་|NOUN ཤོག་|VERB ཤོག|VERB །|PUNCT"


def tag(tagger: MostFrequentTag, text: str) -> list[tuple[str, str]]:
    return [(word.form, word.tag) for word in tagger.tag(text)]


def test_longest_match_and_most_frequent_tag(page: Callable[..., Document]) -> None:
    tagger = MostFrequentTag().fit([page(TRAIN)])
    assert tag(tagger, "བཀྲ་ཤིས་བདེ་ལེགས་བཀྲ་ཤིས་བདེ་ཤོག། །བཀྲ") == [
        ("བཀྲ་ཤིས་བདེ་ལེགས་", "INTJ"),
        ("བཀྲ་ཤིས་", "NOUN"),
        # Never seen: as words seen once, ADJ, INTJ and NOUN, the first of these.
        ("བདེ་", "ADJ"),
        ("ཤོག", "VERB"),
        ("། ", "PUNCT"),
        ("།", "PUNCT"),
        ("བཀྲ", "ADJ"),
    ]


def test_nothing_of_the_text_is_lost(page: Callable[..., Document]) -> None:
    tagger = MostFrequentTag().fit([page(TRAIN)])
    for text in ("", "  ", " ཤོག་ \n abc ཀ།།", "\n"):
        assert "".join(form for form, _ in tag(tagger, text)) == text


def test_without_training(page: Callable[..., Document]) -> None:
    with pytest.raises(InputError, match="nothing to learn from"):
        MostFrequentTag().fit([])
    with pytest.raises(InputError, match="Call `fit` first"):
        MostFrequentTag().tag("ཀ")


def test_real_text(soas: list[Document]) -> None:
    # A tenth of the pages for testing, another tenth for training: the whole takes longer and is in the experiments.
    train = prepare(soas[::10], universal_tags=True, min_tag_count=20)
    test = prepare(soas[5::50], universal_tags=True, keep_tags=labels_of(train))
    tagger = MostFrequentTag().fit(train)
    figures = score(test, [tagger.tag(document.text) for document in test], known=known_words(train)).as_dict()
    assert 0.75 < figures["joint_f1"] < 0.9
    assert figures["seen_tag_weighted_f1"] > 0.9 > 0.5 > figures["unseen_tag_weighted_f1"] > 0.1
