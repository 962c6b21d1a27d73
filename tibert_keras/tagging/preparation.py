"""Prepares tagged text for a tagger: universal tags, words of whole syllables, no rare tags."""

import logging
from collections import Counter
from collections.abc import Collection, Iterator

from tibert_keras.errors import InputError
from tibert_keras.tagging.words import TAG_SEPARATOR, UNKNOWN_TAG, Document, TaggedWord, split_syllables

# The tags of Universal Dependencies: https://universaldependencies.org/u/pos/
UNIVERSAL_TAGS = frozenset(
    "ADJ ADP ADV AUX CCONJ DET INTJ NOUN NUM PART PRON PROPN PUNCT SCONJ SYM VERB X".split()  # noqa: SIM905
)

# Esukhia's map from SOAS's tags to the universal ones (Corpora, POS/regex-SOAS-to-UD-BOD.txt). It lacks the tag of the
# quotatives ཅེས་ and ཞེས་, `cl.quot~quote.E`, so these words are unknown in the original, too.
_SOAS_TAGS = {
    "NOUN": """n.count n.mass n.rel n.v.aux n.v.cop n.v.fut n.v.fut.n.v.past n.v.fut.n.v.pres n.v.imp n.v.invar n.v.neg
        n.v.past n.v.past.n.v.pres n.v.pres""",
    "PROPN": "n.prop",
    "PRON": "p.indef p.pers p.refl",
    "VERB": "v.fut v.fut.v.past v.fut.v.pres v.imp v.invar v.past v.past.v.pres v.pres",
    "AUX": "v.aux v.cop v.cop.neg v.neg",
    "ADJ": "adj num.ord",
    "ADV": "adv.dir adv.intense adv.mim adv.proclausal adv.temp",
    "ADP": """case.abl case.agn case.all case.ela case.gen case.loc cv.abl cv.agn cv.all cv.cont cv.ela cv.gen cv.loc
        cv.term""",
    "DET": "d.dem",
    "CCONJ": "case.ass cl.focus",
    "PART": """case.comp case.nare case.term cl.quot cv.are cv.ass cv.fin cv.imp cv.impf cv.odd cv.ques cv.rung cv.sem
        d.det d.emph d.indef d.plural d.tsam neg p.interrog""",
    "NUM": "num.card numeral",
    "INTJ": "interj",
    "X": "skt",
    "PUNCT": "punc",
}
_UNIVERSAL_TAG = {soas: tag for tag, tags in _SOAS_TAGS.items() for soas in tags.split()}
_UNIVERSAL_TAG.update((tag, tag) for tag in UNIVERSAL_TAGS)

# How corpora mark a word without a tag, in any case.
_NO_TAG = {"_", "dunno", "notag", "unk"}
# The share of words that may lose their tags without a warning, and the share that may do so at all.
_MANY_UNKNOWN, _TOO_MANY_UNKNOWN = 0.05, 0.5

_LOG = logging.getLogger(__name__)


def prepare_documents(
    documents: Collection[Document],
    *,
    universal_tags: bool = False,
    min_tag_count: int = 100,
    keep_tags: Collection[str] | None = None,
) -> list[Document]:
    """Prepare documents as the original did: words of whole syllables, frequent tags only.

    Joins a word that ends in the middle of a syllable, such as དེ in དེའི་, with the next one, and their tags:
    `DET+ADP`. A word before a shad ends with its syllable and stays as it is.

    Logs a warning if more than 5% of the words lose their tags to `UNK`, with these tags.

    Args:
        documents: Documents with the tags of their corpus.
        universal_tags: First turn SOAS's tags into universal ones; universal tags stay, all others become `UNK`.
        min_tag_count: Tags of fewer words than this in the documents become `UNK`.
        keep_tags: Tags of a tagger, or of its training data. If given, keep these, and replace all others by `UNK`,
            however frequent they are.

    Example:
        >>> word = TaggedWord
        >>> page = Document("a:1", (word("དེ", "d.dem"), word("འི་", "case.gen"), word("ཕྱིར", "n.rel"), word("།", "punc")))
        >>> [word.tag for word in prepare_documents([page], universal_tags=True, min_tag_count=1)[0].words]
        ['DET+ADP', 'NOUN', 'PUNCT']
    """
    joined = [_join(document, universal=universal_tags) for document in documents]
    counts = Counter(word.tag for document in joined for word in document.words)
    if universal_tags:
        _check_mapping(documents, counts)
    if keep_tags is None:
        kept = {tag for tag, count in counts.items() if count >= min_tag_count}
        rare = Counter({tag: count for tag, count in counts.items() if tag not in kept and not _is_unknown(tag)})
        _check_lost(rare, counts.total(), f"their tags are on fewer than {min_tag_count} words", "Lower min_tag_count.")
    else:
        kept = set(keep_tags)
        _check_tags(counts, kept, joined)
    return [
        Document(
            each.name, tuple(word if word.tag in kept else TaggedWord(word.form, UNKNOWN_TAG) for word in each.words)
        )
        for each in joined
    ]


def _renamed(tag: str, *, universal: bool) -> str:
    """Rename each part of a tag: a form that stands for several words has several."""

    def rename(part: str) -> str:
        if part.lower() in _NO_TAG:
            return UNKNOWN_TAG
        return _UNIVERSAL_TAG.get(part, UNKNOWN_TAG) if universal else part

    return TAG_SEPARATOR.join(map(rename, tag.split(TAG_SEPARATOR)))


def _is_unknown(tag: str) -> bool:
    """Whether no part of a tag is known: `UNK`, `UNK+UNK`."""
    return set(tag.split(TAG_SEPARATOR)) == {UNKNOWN_TAG}


def _check_mapping(documents: Collection[Document], counts: Counter[str]) -> None:
    given = Counter(word.tag for document in documents for word in document.words)
    if all(map(_is_unknown, counts)):
        raise InputError(
            f"The tags are neither SOAS's nor universal. Received: {sorted(given)[:10]} with universal_tags=True. "
            "Leave universal_tags out."
        )
    # Others had no tag to lose.
    tagged = {tag: count for tag, count in given.items() if not _is_unknown(_renamed(tag, universal=False))}
    lost = Counter({tag: count for tag, count in tagged.items() if _is_unknown(_renamed(tag, universal=True))})
    _check_lost(lost, given.total(), "their tags have no universal one", "Leave universal_tags out.")


def _check_lost(lost: Counter[str], total: int, reason: str, advice: str) -> None:
    """Warn of many words that become `UNK`, and refuse too many."""
    share = lost.total() / total
    if share <= _MANY_UNKNOWN:
        return
    names = ", ".join(f"{tag!r} ({count:,})" for tag, count in lost.most_common(10)) + ", ..." * (len(lost) > 10)
    if share > _TOO_MANY_UNKNOWN:
        raise InputError(f"{share:.0%} of the words would be {UNKNOWN_TAG}, for {reason}. Received: {names}. {advice}")
    _LOG.warning("%.0f%% of the words are %s, for %s: %s", 100 * share, UNKNOWN_TAG, reason, names)


def _join(document: Document, *, universal: bool) -> Document:
    """Rename the tags, and join words until they end where a syllable of the text does."""

    def joined() -> Iterator[TaggedWord]:
        form, end = "", 0
        tags: list[str] = []
        syllables = iter(split_syllables(document.text))
        for word in document.words:
            form, tags = form + word.form, [*tags, _renamed(word.tag, universal=universal)]
            while end < len(form):
                end += len(next(syllables))
            if end == len(form):
                yield TaggedWord(form, TAG_SEPARATOR.join(tags))
                form, tags, end = "", [], 0

    return Document(document.name, tuple(joined()))


def _check_tags(counts: Counter[str], kept: set[str], documents: Collection[Document]) -> None:
    unknown = counts.keys() - kept
    if unknown and UNKNOWN_TAG not in kept:
        tag = min(unknown)
        name = next(document.name for document in documents if tag in {word.tag for word in document.words})
        raise InputError(
            f"A tag is unknown here, and there is no {UNKNOWN_TAG} for it. Received: {tag!r} in {name!r}; "
            f"known are {sorted(kept)}. Prepare the text as the training data was prepared."
        )
    if not counts.keys() & kept - {UNKNOWN_TAG}:
        raise InputError(
            f"None of the tags is known here. Received: {sorted(unknown)[:10]}; known are {sorted(kept)}. "
            "Prepare the text as the training data was prepared, with or without universal_tags."
        )
