"""How well a text was cut into words and tagged, in the figures of the field."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Sequence, Set
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from tibert_keras.errors import InputError
from tibert_keras.tagging.confusion import ConfusionMatrix
from tibert_keras.tagging.words import CONTINUATION, Document, TaggedWord, syllable_labels, word_key

Average = Literal["weighted", "macro"]
AVERAGES: tuple[Average, ...] = ("weighted", "macro")


@dataclass(frozen=True, kw_only=True)
class TaggingScores:
    """Scores of a tagger, as `score` gives them.

    Attributes:
        values: The figures by name; see `score`.
        confusion: How often each tag was taken for each other one, over the first syllables of the words.
    """

    values: dict[str, float]
    confusion: ConfusionMatrix

    def as_dict(self) -> dict[str, float]:
        """The figures by name; one that there was nothing to count for is not a number (NaN)."""
        return dict(self.values)


def score(
    true: Sequence[Document], predicted: Sequence[Sequence[TaggedWord]], *, known: Collection[str]
) -> TaggingScores:
    """Compare the words that a tagger found with those of prepared documents.

    - `boundary_precision`, `boundary_recall`, `boundary_f1`: the ends of words inside a document, its last word's not
      counted.
    - `word_...`: words, right if they begin and end where a true word does.
    - `joint_...`: words that have the right tag, too.
    - `label_accuracy`, `label_weighted_f1`, `label_macro_f1`: the labels of all syllables, which are the units of
      `split_syllables`. The first of a word has its tag, the others `CONT`, so that cutting and tagging both count.
    - `tag_accuracy`, `tag_weighted_f1`, `tag_macro_f1`: the labels of the first syllables of true words alone, so
      without `CONT`. A first syllable that was taken for the middle of a word is wrong; that a word was cut in two
      shows above only.
    - `words` and `syllables`: how many there are.

    A mean of F1 goes over the labels in the truth, weighted by their number there or macro: all alike.

    All but the boundaries stand also for words `seen_` and `unseen_` in training. For labels and tags these are the
    syllables of such true words; for words and joint, a predicted word is seen or unseen by its own form. A boundary
    lies between two words, of which one may be seen and the other not: it is neither.

    Args:
        true: Prepared documents.
        predicted: The words found in each of them, which joined give its text.
        known: The words that occur in the training data; the tsheg at their end does not matter.

    Returns:
        The figures, between 0 and 1, and a confusion matrix.

    Raises:
        InputError: If there are no documents or not as many predictions, if the text of one is another, or if a word
            ends in the middle of a syllable.
    """
    if not true or len(true) != len(predicted):
        raise InputError(
            f"Each document needs its prediction. Received: {len(true)} documents and {len(predicted)} predictions. "
            "Give one for each."
        )
    for document, words in zip(true, predicted, strict=True):
        _check_text(document, "".join(word.form for word in words))
    keys = {word_key(form) for form in known}
    true_words = [document.words for document in true]
    labels, found = (
        np.array([label for words in texts for label in syllable_labels(words)]) for texts in (true_words, predicted)
    )
    first = labels != CONTINUATION
    # Of each syllable: whether the true word that it belongs to is known.
    is_known = np.array([word_key(word.form) in keys for words in true_words for word in words])[np.cumsum(first) - 1]
    spans = _Spans(true_words, keys), _Spans(predicted, keys)
    values: dict[str, float] = {"words": len(spans[0].tags), "syllables": len(labels)}
    values |= _ratios("boundary", spans[0].boundaries, spans[1].boundaries)
    for prefix, seen, chosen in (
        ("", {True, False}, np.ones_like(is_known)),
        ("seen_", {True}, is_known),
        ("unseen_", {False}, ~is_known),
    ):
        figures = _word_figures(*(one.only(seen) for one in spans)) | _label_figures(labels[chosen], found[chosen])
        values |= {prefix + name: value for name, value in figures.items()}
    return TaggingScores(values=values, confusion=ConfusionMatrix.of(labels[first], found[first]))


def _check_text(document: Document, found: str) -> None:
    text = document.text
    if text != found:
        same = os.path.commonprefix([text, found])
        raise InputError(
            f"The words found do not make the text of {document.name!r}. Received: {found[len(same) :][:20]!r} instead "
            f"of {text[len(same) :][:20]!r}, {len(same)} characters from its start. Tag this text."
        )


class _Spans:
    """Words of texts by where they are: text, first character, and the one after the last."""

    def __init__(self, texts: Sequence[Sequence[TaggedWord]], keys: set[str]) -> None:
        self.tags: dict[tuple[int, int, int], str] = {}
        self.known: dict[tuple[int, int, int], bool] = {}
        self.boundaries: set[tuple[int, int]] = set()
        for index, words in enumerate(texts):
            start = 0
            for word in words:
                span = index, start, start + len(word.form)
                self.tags[span], self.known[span] = word.tag, word_key(word.form) in keys
                # None at the start of a text, nor at its end, where there is nothing to find.
                if start:
                    self.boundaries.add((index, start))
                start = span[2]

    def only(self, seen: set[bool]) -> dict[tuple[int, int, int], str]:
        return {span: tag for span, tag in self.tags.items() if self.known[span] in seen}


def _word_figures(true: dict[tuple[int, int, int], str], found: dict[tuple[int, int, int], str]) -> dict[str, float]:
    return _ratios("word", true.keys(), found.keys()) | _ratios("joint", true.items(), found.items())


def _ratios(name: str, true: Set[Any], found: Set[Any]) -> dict[str, float]:
    """Precision, recall and F1 of what was found.

    seqeval counts entities in one row of labels, and needs them in `B-` and `I-`; it has no count of boundaries, nor of
    words seen and unseen, where each side has its own; and its last release, 1.2.2, did not build with pip on
    2026-11-26. `tests/tagging/test_metrics.py` holds these to scikit-learn's micro average over the words of both.
    """
    right = len(true & found)
    names_and_totals = {"precision": len(found), "recall": len(true), "f1": (len(true) + len(found)) / 2}
    return {f"{name}_{kind}": right / total if total else math.nan for kind, total in names_and_totals.items()}


def _label_figures(true: np.ndarray, found: np.ndarray) -> dict[str, float]:
    """Figures of labels, with `CONT` and without."""
    figures = {}
    for name, chosen in (("label", np.ones(len(true), bool)), ("tag", true != CONTINUATION)):
        figures[f"{name}_accuracy"] = float(np.mean(true[chosen] == found[chosen])) if chosen.any() else math.nan
        for average in AVERAGES:
            figures[f"{name}_{average}_f1"] = mean_f1(true[chosen], found[chosen], average=average)
    return figures


def mean_f1(true: Sequence[str] | np.ndarray, found: Sequence[str] | np.ndarray, *, average: Average) -> float:
    """The mean of the F1 of the true labels, by scikit-learn.

    Args:
        true: The true labels.
        found: The labels found, as many.
        average: "weighted" by how often each is true, or "macro": all alike.

    Returns:
        The mean, or NaN if there are no labels. The F1 of a label that was never found is 0.
    """
    # Loading it takes a second, which whoever measures nothing is spared.
    from sklearn.metrics import f1_score

    if not len(true):
        return math.nan
    return float(f1_score(true, found, labels=np.unique(true), average=average, zero_division=0.0))
