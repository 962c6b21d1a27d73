"""The preparation of tagged text, held to the counts of the original's."""

from collections import Counter
from collections.abc import Callable

import pytest

from tibert_keras.errors import InputError
from tibert_keras.tagging.preparation import UNIVERSAL_TAGS, prepare_documents
from tibert_keras.tagging.words import Document, TaggedWord, labels_of, syllable_labels


def words(documents: list[Document]) -> list[tuple[str, str]]:
    return [(word.form, word.tag) for document in documents for word in document.words]


def counts(documents: list[Document]) -> Counter[str]:
    return Counter(tag for _, tag in words(documents))


def test_the_original_is_replayed(soas: list[Document]) -> None:
    tags = counts(prepare_documents(soas, universal_tags=True, min_tag_count=1))
    assert tags.total() == 287_311
    expected = {"DET": 6_473, "AUX": 2_840, "PUNCT": 42_353, "VERB": 30_562, "NOUN": 69_042, "UNK": 3_277}
    assert {tag: tags[tag] for tag in expected} == expected


def test_tags_below_100_are_pooled(soas: list[Document], prepared_soas: list[Document]) -> None:
    tags = counts(prepared_soas)
    assert len(tags) == 32
    assert tags["UNK"] == 3_277 + 850
    assert min(tags.values()) >= 100
    assert [document.text for document in prepared_soas] == [document.text for document in soas]
    for document in prepared_soas:
        syllable_labels(document.words)


def test_words_are_joined_within_syllables_only(page: Callable[..., Document]) -> None:
    document = page("དེ|d.dem འི་|case.gen ཕྱིར|n.rel །|punc །|punc བདག|p.pers གོ|x ས་|y མ|z")
    assert words(prepare_documents([document], min_tag_count=1)) == [
        ("དེའི་", "d.dem+case.gen"),
        ("ཕྱིར", "n.rel"),
        ("།", "punc"),
        ("།", "punc"),
        ("བདགགོས་", "p.pers+x+y"),
        ("མ", "z"),
    ]


def test_documents_are_not_joined(page: Callable[..., Document]) -> None:
    documents = [page("དེ|DET", name="a:1"), page("འི་|ADP", name="a:2")]
    assert prepare_documents(documents, min_tag_count=1) == documents


@pytest.mark.parametrize("tag", ["notag", "NOTAG", "dunno", "_"])
def test_words_without_a_tag(page: Callable[..., Document], tag: str) -> None:
    """SOAS's files write it in lower case, those with a word a line in upper case."""
    (document,) = prepare_documents([page(f"ང་|PRON ཀ་|{tag}")], min_tag_count=1)
    assert [word.tag for word in document.words] == ["PRON", "UNK"]


def test_universal_tags(page: Callable[..., Document]) -> None:
    document = page(
        "ང་|n.count~n.prop.E ཀ་|n.v.past.n.v.pres ཁ་|notag ག་|SCONJ ང་|DET+case.gen ཅ་|XYZ ཉ་|cl.quot~quote.E"
    )
    prepared = prepare_documents([document], universal_tags=True, min_tag_count=1)
    assert [tag for _, tag in words(prepared)] == ["UNK", "NOUN", "UNK", "SCONJ", "DET+ADP", "UNK", "UNK"]
    untouched = prepare_documents([document], min_tag_count=1)
    assert [tag for _, tag in words(untouched)] == [tag if tag != "notag" else "UNK" for _, tag in words([document])]


def test_every_soas_tag_but_a_quotative_is_in_the_map(soas: list[Document]) -> None:
    tags = {tag for _, tag in words(soas)}
    unknown = {tag for tag in tags if not _is_mapped(tag)}
    assert unknown == {"cl.quot~quote.E", "notag", "dunno"}


def _is_mapped(tag: str) -> bool:
    pages = [Document("a:1", (TaggedWord("ཀ་", tag), TaggedWord("།", "punc")))]
    return words(prepare_documents(pages, universal_tags=True, min_tag_count=1))[0][1] in UNIVERSAL_TAGS


def test_rare_tags(page: Callable[..., Document]) -> None:
    document = page("ང་|PRON ང་|PRON ཀ|VERB ར་|ADP")
    assert [tag for _, tag in words(prepare_documents([document], min_tag_count=2))] == ["PRON", "PRON", "UNK"]


def test_tags_of_the_training_data_are_kept_however_rare(page: Callable[..., Document]) -> None:
    train = prepare_documents([page("ང་|PRON ང་|PRON ཀ་|VERB ཀ་|VERB")], min_tag_count=2)
    test = prepare_documents([page("ང་|PRON ཁ་|NOUN ཁ་|NOUN ཁ་|NOUN")], min_tag_count=2, keep_tags=labels_of(train))
    assert [tag for _, tag in words(test)] == ["PRON", "UNK", "UNK", "UNK"]


def test_an_unknown_tag_at_evaluation(page: Callable[..., Document]) -> None:
    document = page("ང་|PRON ཁ་|NOUN", name="mila:7")
    with pytest.raises(InputError, match=r"A tag is unknown.* Received: 'NOUN' in 'mila:7'; known are \['PRON'\]"):
        prepare_documents([document], keep_tags=["PRON"])
    with pytest.raises(InputError, match=r"None of the tags is known here. Received: \['NOUN', 'PRON'\]"):
        prepare_documents([document], keep_tags=["n.count", "UNK", "CONT"])


def test_tags_of_another_scheme(page: Callable[..., Document]) -> None:
    with pytest.raises(InputError, match=r"neither SOAS's nor universal. Received: \['N', 'P'\]"):
        prepare_documents([page("ང་|P ཁ་|N")], universal_tags=True)


@pytest.mark.parametrize(
    "soas, universal",
    [
        ("n.v.past", "NOUN"), ("n.prop", "PROPN"), ("p.pers", "PRON"), ("v.invar", "VERB"), ("v.cop", "AUX"),
        ("num.ord", "ADJ"), ("adv.temp", "ADV"), ("case.gen", "ADP"), ("d.dem", "DET"), ("cl.focus", "CCONJ"),
        ("neg", "PART"), ("num.card", "NUM"), ("interj", "INTJ"), ("skt", "X"), ("punc", "PUNCT"),
    ],
)  # fmt: skip
def test_rows_of_the_table(page: Callable[..., Document], soas: str, universal: str) -> None:
    assert words(prepare_documents([page(f"ང་|{soas}")], universal_tags=True, min_tag_count=1)) == [("ང་", universal)]


def test_many_words_that_lose_their_tags(page: Callable[..., Document], caplog: pytest.LogCaptureFixture) -> None:
    """A tagger would learn to say `UNK`."""
    words_of = " ".join(["ང་|n.count"] * 19)
    prepare_documents([page(f"{words_of} ང་|Foo")], universal_tags=True, min_tag_count=1)
    assert not caplog.messages
    prepare_documents([page(f"{words_of} ང་|Foo ང་|Bar ང་|Bar ང་|notag")], universal_tags=True, min_tag_count=1)
    assert caplog.messages == ["13% of the words are UNK, for their tags have no universal one: 'Bar' (2), 'Foo' (1)"]
    with pytest.raises(
        InputError, match=r"67% of the words would be UNK, .* Received: 'N' \(2\). Leave universal_tags"
    ):
        prepare_documents([page("ང་|N ཀ་|N ཁ|NOUN")], universal_tags=True)
    with pytest.raises(
        InputError, match=r"100% of the words would be UNK, .*fewer than 100 words.*Lower min_tag_count"
    ):
        prepare_documents([page("ང་|NOUN ཀ་|VERB")])


def test_joined_tags_of_another_scheme(page: Callable[..., Document]) -> None:
    with pytest.raises(InputError, match=r"neither SOAS's nor universal. Received: \['A', 'B\+C'\]"):
        prepare_documents([page("ཁ|A ས་|B+C")], universal_tags=True)
