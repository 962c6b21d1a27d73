"""Words with their tags, the documents they make, and the syllables that a tagger labels."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tibert_keras.errors import InputError
from tibert_keras.tibetan import SYLLABLE_PATTERN, SYLLABLE_SPACES, TSHEGS

# The tag of words that have none, or one too rare to be learned.
UNKNOWN_TAG = "UNK"
# The label of a syllable that is not the first of its word.
CONTINUATION = "CONT"
# Between the tags of words that were joined, as in `NOUN+ADP`.
TAG_SEPARATOR = "+"

_SYLLABLE = re.compile(SYLLABLE_PATTERN)


@dataclass(frozen=True)
class TaggedWord:
    """A word of a text, and its tag.

    Attributes:
        form: The word as it stands in the text, with the tsheg at its end if there is one.
        tag: Its part of speech.
    """

    form: str
    tag: str


@dataclass(frozen=True)
class Document:
    """A named stretch of tagged text: what goes to training or testing as a whole.

    Attributes:
        name: Its name, by which a list of a split knows it.
        words: Its words, at least one. Their forms, one after the other, are the text.

    Raises:
        InputError: If there are no words.
    """

    name: str
    words: tuple[TaggedWord, ...]

    def __post_init__(self) -> None:
        if not self.words:
            raise InputError(f"A sentence is empty. Received: {self.name!r} with no words. Take it out of the file.")

    @property
    def text(self) -> str:
        """The text that the words make."""
        return "".join(word.form for word in self.words)


def split_syllables(text: str) -> list[str]:
    """Cut a text into syllables and marks, without losing a character.

    A syllable takes the tsheg behind it along. Every other mark is a unit of its own, so that the shad behind a word
    is none of its letters: the units are those of `tsheg_pretokenization`, cut before a shad too. Spaces go with the
    unit before them, and at the start of the text with the first.

    Args:
        text: Any text.

    Returns:
        The units, which joined give the text.

    Example:
        >>> split_syllables("བཀྲ་ཤིས། །དེ་ནས")
        ['བཀྲ་', 'ཤིས', '། ', '།', 'དེ་', 'ནས']
    """
    return _SYLLABLE.findall(text)


def word_key(form: str) -> str:
    """A word without spaces around it and tshegs at its end, which depend on what comes next."""
    return form.strip(SYLLABLE_SPACES).rstrip(TSHEGS) or form


def known_words(documents: Iterable[Document]) -> set[str]:
    """The keys, by `word_key`, of all words in some documents."""
    return {word_key(word.form) for document in documents for word in document.words}


def labels_of(documents: Iterable[Document]) -> list[str]:
    """The labels of a tagger for some documents: their tags, sorted, then `UNK` and `CONT`."""
    tags = {word.tag for document in documents for word in document.words}
    return [*sorted(tags - {UNKNOWN_TAG, CONTINUATION}), UNKNOWN_TAG, CONTINUATION]


def syllable_labels(words: Sequence[TaggedWord]) -> list[str]:
    """The label of each syllable of a text: the tag of a word for its first, `CONT` for the others.

    Args:
        words: The words of the whole text, each of whole syllables.

    Returns:
        A label for each unit of `split_syllables`.

    Raises:
        InputError: If a word ends in the middle of a syllable.
    """
    syllables = iter(split_syllables("".join(word.form for word in words)))
    labels = []
    for word in words:
        labels.append(word.tag)
        length = len(next(syllables))
        while length < len(word.form):
            labels.append(CONTINUATION)
            length += len(next(syllables))
        if length > len(word.form):
            raise InputError(
                f"A word ends in the middle of a syllable. Received: {word.form!r}. "
                "Join it with the next one: `prepare` does so."
            )
    return labels
