"""Measures how well a text was cut into words and tagged: scores, a confusion matrix and a baseline."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Collection, Sequence, Set
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal

import numpy as np

from tibert_keras.errors import InputError
from tibert_keras.pictures import write_picture
from tibert_keras.tagging.words import CONTINUATION, Document, TaggedWord, split_syllables, syllable_labels, word_key

Average = Literal["weighted", "macro"]
AVERAGES: tuple[Average, ...] = ("weighted", "macro")


@dataclass(frozen=True, kw_only=True)
class ConfusionMatrix:
    """How often each label was mistaken for another: `counts`, int `[true labels, labels found]`, frequent first."""

    labels: list[str]
    counts: np.ndarray

    @classmethod
    def of(cls, true: Sequence[str] | np.ndarray, found: Sequence[str] | np.ndarray) -> ConfusionMatrix:
        """Count pairs of labels."""
        # Imported here because it takes a second.
        from sklearn.metrics import confusion_matrix

        if not len(true) or len(true) != len(found):
            raise InputError(
                f"Each true label needs a found one. Received: {len(true)} true labels and {len(found)} found. "
                "Give one for each."
            )
        names, counts = np.unique(np.asarray(true), return_counts=True)
        labels = [str(name) for name in names[np.argsort(-counts, kind="stable")]]
        labels += sorted({str(label) for label in found} - set(labels))
        return cls(labels=labels, counts=confusion_matrix(true, found, labels=labels))

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draw the matrix, with a row for each true label, in percent of that row, to a `.png` file."""
        from matplotlib.figure import Figure

        totals = self.counts.sum(axis=1, keepdims=True)
        # A label that is never true has an empty row.
        shares = self.counts / np.maximum(totals, 1)
        size = 3 + 0.35 * len(self.labels)
        figure = Figure(figsize=(size + 1, size), layout="constrained")
        panel = figure.subplots()
        # The square root makes a confusion of a few percent visible.
        image = panel.imshow(np.sqrt(shares), cmap="Blues", vmin=0, vmax=1)
        ticks = range(len(self.labels))
        panel.set_xticks(ticks, self.labels, rotation=90)
        names = [f"{label} ({total:,})" for label, total in zip(self.labels, totals[:, 0], strict=True)]
        panel.set_yticks(ticks, names)
        panel.set(title="Share of each true label, in percent", xlabel="label found", ylabel="true label")
        for row, column in np.argwhere(shares >= 0.005):
            share = shares[row, column]
            colour = "white" if share > 0.4 else "black"
            panel.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=7, color=colour)
        bar = figure.colorbar(image, ax=panel, shrink=0.7, ticks=np.sqrt([0, 0.01, 0.1, 0.25, 0.5, 1]))
        bar.ax.set_yticklabels(["0", "1", "10", "25", "50", "100"])
        write_picture(figure, path)


@dataclass(frozen=True, kw_only=True)
class TaggingScores:
    """Scores of a tagger, from `score_tagging`, by name: NaN where there was nothing to count."""

    values: dict[str, float]
    confusion: ConfusionMatrix


def score_tagging(
    true: Sequence[Document], predicted: Sequence[Sequence[TaggedWord]], *, known: Collection[str]
) -> TaggingScores:
    """Compare the words that a tagger found with those of prepared documents.

    - `boundary_precision`, `boundary_recall`, `boundary_f1`: the ends of words, except the end of a document.
    - `word_...`: words, right if they begin and end where a true word does.
    - `joint_...`: words that have the right tag, too.
    - `label_accuracy`, `label_weighted_f1`, `label_macro_f1`: the labels of all syllables, which are the units of
      `split_syllables`. The first syllable of a word has its tag, the others `CONT`, so that both cutting and tagging
      count.
    - `tag_accuracy`, `tag_weighted_f1`, `tag_macro_f1`: the labels of the first syllables of true words alone, so
      without `CONT`. A first syllable labelled `CONT` is wrong; a word that was cut in two counts above only.
    - `words` and `syllables`: how many there are.

    A mean F1 is taken over the true labels, weighted by their frequency or macro: all alike.

    All scores but the boundaries also come for words `seen_` and `unseen_` in training. For labels and tags these are
    the syllables of such true words; for words and joint, a predicted word is seen or unseen by its own form. A
    boundary lies between two words, one of which may be seen and the other not, so it is neither.

    Args:
        true: Prepared documents.
        predicted: The words found in each of them, which joined give its text.
        known: The words that occur in the training data, with or without a final tsheg.
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
    # For each syllable: whether its true word is known.
    is_known = np.array([word_key(word.form) in keys for words in true_words for word in words])[np.cumsum(first) - 1]
    spans = _spans(true_words, keys), _spans(predicted, keys)
    values: dict[str, float] = {"words": len(spans[0]), "syllables": len(labels)}
    # The start and the end of a text are no boundaries: there is nothing to find.
    values |= _ratios("boundary", *({(text, start) for text, start, _ in each if start} for each in spans))
    for prefix, seen, chosen in (
        ("", {True, False}, np.ones_like(is_known)),
        ("seen_", {True}, is_known),
        ("unseen_", {False}, ~is_known),
    ):
        of_true, of_found = ({span: tag for span, (tag, is_seen) in each.items() if is_seen in seen} for each in spans)
        figures = _ratios("word", of_true.keys(), of_found.keys()) | _ratios("joint", of_true.items(), of_found.items())
        figures |= _label_scores(labels[chosen], found[chosen])
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


def _spans(texts: Sequence[Sequence[TaggedWord]], keys: set[str]) -> dict[tuple[int, int, int], tuple[str, bool]]:
    """Give each word's tag, and whether it is known, by its place: text, first character, the one after the last."""
    spans = {}
    for index, words in enumerate(texts):
        ends = list(accumulate(len(word.form) for word in words))
        for word, start, end in zip(words, [0, *ends], ends, strict=False):
            spans[index, start, end] = word.tag, word_key(word.form) in keys
    return spans


def _ratios(name: str, true: Set[Any], found: Set[Any]) -> dict[str, float]:
    """Precision, recall and F1 of two sets.

    Not by seqeval, which counts entities in one row of labels with `B-` and `I-`, and knows neither boundaries nor
    words seen and unseen, where each side has its own. `tests/tagging/test_metrics.py` compares these to
    scikit-learn's micro average over the words of both.
    """
    right = len(true & found)
    names_and_totals = {"precision": len(found), "recall": len(true), "f1": (len(true) + len(found)) / 2}
    return {f"{name}_{kind}": right / total if total else math.nan for kind, total in names_and_totals.items()}


def _label_scores(true: np.ndarray, found: np.ndarray) -> dict[str, float]:
    values = {}
    for name, chosen in (("label", np.ones(len(true), bool)), ("tag", true != CONTINUATION)):
        values[f"{name}_accuracy"] = float(np.mean(true[chosen] == found[chosen])) if chosen.any() else math.nan
        for average in AVERAGES:
            values[f"{name}_{average}_f1"] = mean_f1(true[chosen], found[chosen], average=average)
    return values


def mean_f1(true: Sequence[str] | np.ndarray, found: Sequence[str] | np.ndarray, *, average: Average) -> float:
    """Average the F1 of the true labels, with scikit-learn."""
    # Imported here because it takes a second.
    from sklearn.metrics import f1_score

    if not len(true):
        return math.nan
    return float(f1_score(true, found, labels=np.unique(true), average=average, zero_division=0.0))


class MostFrequentTag:
    """The baseline to beat: a tagger without a model, by longest match and most frequent tag.

    From left to right, takes the longest run of syllables that was a word in training. A syllable where none begins is
    a word of its own, with the most frequent tag of the words seen once in training: those resemble new words most.

    Example:
        >>> page = Document("a:1", (TaggedWord("བཀྲ་ཤིས་", "NOUN"), TaggedWord("ཤོག", "VERB")))
        >>> MostFrequentTag().fit([page]).tag("ཤོག་བཀྲ་ཤིས")
        [TaggedWord(form='ཤོག་', tag='VERB'), TaggedWord(form='བཀྲ་ཤིས', tag='NOUN')]
    """

    def __init__(self) -> None:
        self._tags: dict[str, str] = {}
        self._new_tag = ""
        # By first syllable: the number of syllables of the longest word.
        self._longest: dict[str, int] = {}

    def fit(self, documents: Collection[Document]) -> MostFrequentTag:
        """Learn the words of prepared documents."""
        if not documents:
            raise InputError(f"There is nothing to learn from. Received: documents={documents!r}. Give some.")
        counts: dict[str, Counter[str]] = {}
        for document in documents:
            for word in document.words:
                counts.setdefault(word_key(word.form), Counter())[word.tag] += 1
        self._tags = {key: _most_frequent(tags) for key, tags in counts.items()}
        once = Counter(self._tags[key] for key, tags in counts.items() if tags.total() == 1)
        self._new_tag = _most_frequent(once or Counter(self._tags.values()))
        for syllables in map(split_syllables, counts):
            first = word_key(syllables[0])
            self._longest[first] = max(len(syllables), self._longest.get(first, 1))
        return self

    def tag(self, text: str) -> list[TaggedWord]:
        """Cut a text into words and tag them."""
        if not self._tags:
            raise InputError(f"The baseline knows no words yet. Received: text={text[:40]!r}. Call `fit` first.")
        syllables = split_syllables(text)
        words, start = [], 0
        while start < len(syllables):
            longest = self._longest.get(word_key(syllables[start]), 1)
            ends = range(min(start + longest, len(syllables)), start, -1)
            end = next((end for end in ends if word_key("".join(syllables[start:end])) in self._tags), start + 1)
            form = "".join(syllables[start:end])
            words.append(TaggedWord(form, self._tags.get(word_key(form), self._new_tag)))
            start = end
        return words


def _most_frequent(tags: Counter[str]) -> str:
    # The first in the alphabet of several, so that the order of the documents does not matter.
    return min(tags, key=lambda tag: (-tags[tag], tag))
