"""The baseline to beat: the longest words known, each with its most frequent tag."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from tibert_keras.errors import InputError
from tibert_keras.tagging.words import Document, TaggedWord, split_syllables, word_key


class MostFrequentTag:
    """A tagger without a model: longest match for the words, the most frequent tag for each.

    From left to right, the longest run of syllables that was a word in training is a word; where none begins, a
    syllable is one, with the tag that was most frequent among words seen once in training, which new words resemble
    most.

    Example:
        >>> page = Document("a:1", (TaggedWord("བཀྲ་ཤིས་", "NOUN"), TaggedWord("ཤོག", "VERB")))
        >>> MostFrequentTag().fit([page]).tag("ཤོག་བཀྲ་ཤིས")
        [TaggedWord(form='ཤོག་', tag='VERB'), TaggedWord(form='བཀྲ་ཤིས', tag='NOUN')]
    """

    def __init__(self) -> None:
        self._tags: dict[str, str] = {}
        self._new_tag = ""
        # By the first syllable of words: the most syllables that one of them has.
        self._longest: dict[str, int] = {}

    def fit(self, documents: Collection[Document]) -> MostFrequentTag:
        """Learn the words of prepared documents.

        Args:
            documents: The documents, at least one.

        Returns:
            This tagger.

        Raises:
            InputError: If there are no documents.
        """
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
        """Cut a text into words and tag them.

        Args:
            text: Any text.

        Returns:
            The words, which joined give the text; none for an empty one.

        Raises:
            InputError: If nothing was learned yet.
        """
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
