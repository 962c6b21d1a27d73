"""Scores of words and tags, the confusion matrix and the baseline."""

import itertools
import math
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import precision_recall_fscore_support

from tibert_keras.errors import InputError
from tibert_keras.tagging.metrics import ConfusionMatrix, MostFrequentTag, mean_f1, score_tagging
from tibert_keras.tagging.preparation import prepare_documents
from tibert_keras.tagging.words import Document, TaggedWord, known_words, labels_of

TRUE = "ཀ་ཁ་|NOUN ག་|VERB ང་|NOUN ཅ|ADP །|PUNCT"
FOUND = "ཀ་|NOUN ཁ་|ADP ག་|NOUN ང་ཅ|NOUN །|PUNCT"


@pytest.fixture
def figures(page: Callable[..., Document]) -> dict[str, float]:
    return score_tagging([page(TRUE)], [page(FOUND).words], known={"ག་", "ང", "།", "ཀ"}).values


def test_a_perfect_tagger(page: Callable[..., Document]) -> None:
    figures = score_tagging([page(TRUE)] * 2, [page(TRUE).words] * 2, known={"ག"}).values
    assert {figures.pop("words"), figures.pop("syllables")} == {10, 12}
    assert set(figures.values()) == {1.0}


def test_boundaries_and_words(figures: dict[str, float]) -> None:
    assert (figures["words"], figures["syllables"]) == (5, 6)
    # True ends inside the text: 2, 3, 4, 5 syllables from its start; found: 1, 2, 3, 5.
    assert [figures[f"boundary_{name}"] for name in ("precision", "recall", "f1")] == [0.75] * 3
    # ག་ and །, and of these only the latter with its tag.
    assert [figures[f"word_{name}"] for name in ("precision", "recall", "f1")] == [0.4] * 3
    assert [figures[f"joint_{name}"] for name in ("precision", "recall", "f1")] == [0.2] * 3


def test_words_as_scikit_learn_counts_them() -> None:
    """The micro average over the spans that are a word in either; `none` where they are none in the other."""
    rng = random.Random(0)
    documents, spans = {"true": [], "found": []}, {"true": {}, "found": {}}
    for index in range(40):
        syllables = [f"{rng.choice('ཀཁགང')}་" for _ in range(rng.randint(1, 12))]
        for name in documents:
            ends = sorted({*rng.sample(range(1, len(syllables) + 1), rng.randint(1, len(syllables))), len(syllables)})
            bounds = list(itertools.pairwise([0, *ends]))
            tags = [rng.choice(["NOUN", "VERB", "ADP"]) for _ in bounds]
            words = tuple(
                TaggedWord("".join(syllables[first:last]), tag) for (first, last), tag in zip(bounds, tags, strict=True)
            )
            documents[name].append(Document(f"a:{index}", words))
            spans[name] |= {(index, *bound): tag for bound, tag in zip(bounds, tags, strict=True)}
    figures = score_tagging(documents["true"], [document.words for document in documents["found"]], known=()).values
    either = list(spans["true"] | spans["found"])
    true, found = ([spans[name].get(span, "none") for span in either] for name in ("true", "found"))
    for kind, labels in (("joint", ["NOUN", "VERB", "ADP"]), ("word", ["word"])):
        if kind == "word":
            true, found = ([tag if tag == "none" else "word" for tag in tags] for tags in (true, found))
        expected = precision_recall_fscore_support(true, found, labels=labels, average="micro")[:3]
        assert 0.02 < expected[2] < 0.9 and expected[0] != expected[1]
        assert [figures[f"{kind}_{name}"] for name in ("precision", "recall", "f1")] == pytest.approx(expected)


def test_words_seen_and_unseen(figures: dict[str, float]) -> None:
    # True seen words: ག་, ང་, །; found: ཀ་, ག་, །.
    assert figures["seen_word_precision"] == figures["seen_word_recall"] == pytest.approx(2 / 3)
    assert figures["seen_joint_f1"] == pytest.approx(1 / 3)
    # True: ཀ་ཁ་, ཅ; found: ཁ་, ང་ཅ.
    assert figures["unseen_word_f1"] == figures["unseen_joint_f1"] == 0


def test_labels_with_and_without_continuation(figures: dict[str, float]) -> None:
    # True:  NOUN CONT VERB NOUN ADP  PUNCT
    # Found: NOUN ADP  NOUN NOUN CONT PUNCT
    assert figures["label_accuracy"] == pytest.approx(3 / 6)
    # F1: NOUN 2*2/(2+3), PUNCT 1, the others 0.
    assert figures["label_macro_f1"] == pytest.approx((0.8 + 1) / 5)
    assert figures["label_weighted_f1"] == pytest.approx((2 * 0.8 + 1) / 6)
    # The first syllables alone: NOUN VERB NOUN ADP PUNCT, found NOUN NOUN NOUN CONT PUNCT.
    assert figures["tag_accuracy"] == pytest.approx(3 / 5)
    assert figures["tag_macro_f1"] == pytest.approx((0.8 + 1) / 4)
    assert figures["tag_weighted_f1"] == pytest.approx((2 * 0.8 + 1) / 5)


def test_labels_of_words_seen_and_unseen(figures: dict[str, float]) -> None:
    # Seen: VERB NOUN PUNCT, found NOUN NOUN PUNCT.
    assert figures["seen_tag_accuracy"] == figures["seen_label_accuracy"] == pytest.approx(2 / 3)
    assert figures["seen_tag_macro_f1"] == pytest.approx((2 / 3 + 1) / 3)
    # Unseen: NOUN CONT ADP, found NOUN ADP CONT.
    assert figures["unseen_label_accuracy"] == pytest.approx(1 / 3)
    assert figures["unseen_tag_accuracy"] == pytest.approx(1 / 2)
    assert figures["unseen_tag_weighted_f1"] == pytest.approx(1 / 2)


def test_what_there_is_nothing_to_count_for(page: Callable[..., Document]) -> None:
    figures = score_tagging([page(TRUE)], [page(FOUND).words], known=[word.form for word in page(TRUE).words]).values
    # Unseen words were found, but none is true.
    assert figures["unseen_word_precision"] == 0
    assert math.isnan(figures["unseen_word_recall"])
    assert math.isnan(figures["unseen_tag_weighted_f1"])


def test_confusion(page: Callable[..., Document]) -> None:
    confusion = score_tagging([page(TRUE)], [page(FOUND).words], known=()).confusion
    assert confusion.labels == ["NOUN", "ADP", "PUNCT", "VERB", "CONT"]
    assert confusion.counts.tolist() == [
        [2, 0, 0, 0, 0],
        [0, 0, 0, 0, 1],
        [0, 0, 1, 0, 0],
        [1, 0, 0, 0, 0],
        [0, 0, 0, 0, 0],
    ]


def test_scikit_learn_means() -> None:
    assert mean_f1(["a", "a", "b"], ["a", "c", "b"], average="macro") == pytest.approx((2 / 3 + 1) / 2)
    assert math.isnan(mean_f1([], [], average="weighted"))


@pytest.mark.parametrize("count", [0, 1, 3])
def test_predictions_of_another_number(page: Callable[..., Document], count: int) -> None:
    with pytest.raises(InputError, match=f"Received: 2 documents and {count} predictions"):
        score_tagging([page(TRUE)] * 2, [page(TRUE).words] * count, known=())


def test_nothing_to_score() -> None:
    with pytest.raises(InputError, match="Received: 0 documents and 0 predictions"):
        score_tagging([], [], known=())


def test_predictions_of_another_text(page: Callable[..., Document]) -> None:
    with pytest.raises(InputError, match="of 'page:1'. Received: 'ཉ' instead of 'ང་ཅ།', 6 characters"):
        score_tagging([page(TRUE)], [page("ཀ་ཁ་|NOUN ག་|VERB ཉ|NOUN").words], known=())


def test_words_that_were_not_prepared(page: Callable[..., Document]) -> None:
    document = page("དེ|DET འི་|ADP")
    with pytest.raises(InputError, match="in the middle of a syllable"):
        score_tagging([document], [page("དེའི་|DET+ADP").words], known=())


def test_counts() -> None:
    matrix = ConfusionMatrix.of(["a", "b", "b", "b"], ["b", "b", "c", "b"])
    assert matrix.labels == ["b", "a", "c"]
    assert matrix.counts.tolist() == [[2, 0, 1], [1, 0, 0], [0, 0, 0]]


def test_the_picture_shows_the_counts(tmp_path: Path) -> None:
    from matplotlib.image import imread

    pictures = []
    for name, found in (("right", ["a", "b", "b"]), ("wrong", ["b", "b", "a"])):
        ConfusionMatrix.of(["a", "b", "b"], found).plot(tmp_path / f"{name}.png")
        pictures.append(imread(tmp_path / f"{name}.png"))
    assert pictures[0].shape == pictures[1].shape
    assert np.abs(pictures[0] - pictures[1]).mean() > 0.01


def test_other_endings(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Pictures are PNG files"):
        ConfusionMatrix.of(["a", "b"], ["a", "b"]).plot(tmp_path / "a.pdf")


@pytest.mark.parametrize(("true", "found"), [(["a", "b"], ["a"]), ([], []), ([], ["a"])])
def test_labels_of_the_wrong_length(true: list[str], found: list[str]) -> None:
    with pytest.raises(InputError, match=f"Received: {len(true)} true labels and {len(found)} found"):
        ConfusionMatrix.of(true, found)


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
    train = prepare_documents(soas[::10], universal_tags=True, min_tag_count=20)
    test = prepare_documents(soas[5::50], universal_tags=True, keep_tags=labels_of(train))
    tagger = MostFrequentTag().fit(train)
    figures = score_tagging(test, [tagger.tag(document.text) for document in test], known=known_words(train)).values
    assert 0.75 < figures["joint_f1"] < 0.9
    assert figures["seen_tag_weighted_f1"] > 0.9 > 0.5 > figures["unseen_tag_weighted_f1"] > 0.1
