"""Tagged words, documents of them, and the labels of their syllables."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tibert_keras import tibetan
from tibert_keras.errors import InputError
from tibert_keras.transcription import plain_marks

# The tag of words without a tag, or with one too rare to learn.
UNKNOWN_TAG = "UNK"
# The label of every syllable of a word but the first.
CONTINUATION = "CONT"
# Joins the tags of words that are written as one, as in `NOUN+ADP`.
TAG_SEPARATOR = "+"
# The tags that words of marks alone may have: the universal ones, and SOAS's.
MARK_TAGS = ("PUNCT", "SYM", "punc")

_SYLLABLE, _FOREIGN = re.compile(tibetan.SYLLABLE_PATTERN), re.compile(tibetan.FOREIGN_PATTERN)
_LONE_TSHEG = re.compile(tibetan.LONE_TSHEG_PATTERN)
_MARK = re.compile(f"{tibetan.MARK_PATTERN}|{tibetan.LONE_TSHEG_PATTERN}")
# The kinds of units: a word has units of one kind, and a foreign one is a word of its own.
OF_SYLLABLES, OF_MARKS, FOREIGN = range(3)


@dataclass(frozen=True)
class TaggedWord:
    """A word as written in the text, with its final tsheg if there is one, and its part of speech."""

    form: str
    tag: str


@dataclass(frozen=True)
class Document:
    """A named stretch of tagged text, which goes to training or to testing as a whole."""

    name: str
    words: tuple[TaggedWord, ...]

    def __post_init__(self) -> None:
        if not self.words:
            raise InputError(f"A sentence is empty. Received: {self.name!r} with no words. Take it out of the file.")

    @property
    def text(self) -> str:
        """The forms of the words, joined."""
        return "".join(word.form for word in self.words)


def split_syllables(text: str) -> list[str]:
    """Cut a text into syllables and marks, without losing a character.

    A syllable includes the tsheg after it. Every other mark of the script is a unit of its own, so that no word has
    both syllables and shads. So is a gap, in the notations of `find_gaps`, with the tsheg after it. Spaces, and the
    markers of folios and lines (`[2a.1]`), belong to the unit before them, those at the start of the text to the first
    one.

    Example:
        >>> split_syllables("བཀྲ་ཤིས། །དེ་ནས")
        ['བཀྲ་', 'ཤིས', '། ', '།', 'དེ་', 'ནས']
    """
    return [match[0] for match in _SYLLABLE.finditer(text)]


def kind_of(unit: str) -> int:
    """Return the kind of a unit of `split_syllables`: `OF_SYLLABLES`, `OF_MARKS`, or `FOREIGN`."""
    if _MARK.fullmatch(unit):
        return OF_MARKS
    return FOREIGN if _FOREIGN.fullmatch(unit) else OF_SYLLABLES


def is_lone_tsheg(unit: str) -> bool:
    """Whether a unit of `split_syllables` is a tsheg without a syllable before it, as after a gap or another tsheg."""
    return _LONE_TSHEG.fullmatch(unit) is not None


def word_key(form: str) -> str:
    """Strip the spaces around a word and its final tsheg, which depend on what comes next; all shads are one word."""
    return plain_marks(form.strip(tibetan.SYLLABLE_SPACES).rstrip(tibetan.TSHEGS)) or form


def known_words(documents: Iterable[Document]) -> set[str]:
    """Collect the `word_key` of each word in the documents."""
    return {word_key(word.form) for document in documents for word in document.words}


def labels_of(documents: Iterable[Document]) -> list[str]:
    """List the labels for a tagger of the documents: their tags, sorted, then `UNK` and `CONT`."""
    tags = {word.tag for document in documents for word in document.words}
    return [*sorted(tags - {UNKNOWN_TAG, CONTINUATION}), UNKNOWN_TAG, CONTINUATION]


def syllable_labels(words: Sequence[TaggedWord]) -> list[str]:
    """Label each syllable of a text: the first of a word with the tag, the others with `CONT`."""
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
                "Join it with the next one: `prepare_documents` does so."
            )
    return labels
