"""Wylie and ACIP: converted, and told from other texts."""

from pathlib import Path

import pytest

from tibert_keras.corpus.report import ReadingReport
from tibert_keras.corpus.transliteration import (
    ForeignCounter,
    TibetanConverter,
    Transliteration,
    recognize_transliteration,
    texts_in_tibetan,
    to_wylie,
)
from tibert_keras.corpus.volumes import read_documents
from tibert_keras.errors import InputError


@pytest.mark.parametrize(
    ("latin", "tibetan"),
    [
        ("bcom ldan 'das  la phyag 'tshal lo/ /", "བཅོམ་ལྡན་འདས་ལ་ཕྱག་འཚལ་ལོ། །"),
        ("oM ma Ni pad+me hU~M/ /", "ཨོཾ་མ་ཎི་པདྨེ་ཧཱུྃ། །"),
        ("bkra shis [GAP:1-2] legs [MASK] /", "བཀྲ་ཤིས་[GAP:1-2]་ལེགས་[MASK]།"),
        ("bkra[GAP:1]shis", "བཀྲ[GAP:1]ཤིས"),
        ("[2a.1]@#/ /rgya gar skad du/", "[2a.1]༄༅། །རྒྱ་གར་སྐད་དུ།"),
        ("dag / dang / nga / kho /", "དག ། དང་། ང་། ཁོ།"),
        ('bcom ldan\n\'das /\n tho[?] <gap unit="syllable"/>', 'བཅོམ་ལྡན་\nའདས།\nཐོ[?]་<gap unit="syllable"/>'),
        ("བཀྲ་ཤིས།", "བཀྲ་ཤིས།"),
    ],
)
def test_wylie(latin: str, tibetan: str) -> None:
    converter = TibetanConverter("ewts")
    assert converter.convert(latin) == tibetan
    assert converter.note() == ""


def test_acip() -> None:
    text = "RGYA GAR SKAD DU, BYANG CHUB [MASK] SEMS DPA'I SPYOD PA, ,SANGS RGYAS"
    assert TibetanConverter("acip").convert(text) == "རྒྱ་གར་སྐད་དུ། བྱང་ཆུབ་[MASK]་སེམས་དཔའི་སྤྱོད་པ། །སངས་རྒྱས"


@pytest.mark.parametrize("latin", ["ldan 'das", "pad+me", "hU~M/", "lo/_/de nas"])
def test_there_and_back(latin: str) -> None:
    assert to_wylie(TibetanConverter("ewts").convert(latin)) == latin


def test_sides_of_folios_stay() -> None:
    for convert in (TibetanConverter("ewts").convert, TibetanConverter("acip").convert):
        for marker in ("/12b/", "(12)", "{D12a}"):
            assert convert(f"shis {marker}bde/").replace(marker, "[12b]") == convert("shis [12b]bde/")


def test_what_is_no_word_takes_no_time() -> None:
    converter = TibetanConverter("ewts")
    assert converter.convert("bkra " + "k" * 100_000 + "\nshis") == "bkra " + "k" * 100_000 + "\nཤིས"
    assert converter.unknown == {"k" * 20 + "...": 1}


def test_what_cannot_be_converted_is_named() -> None:
    converter = TibetanConverter("ewts")
    converter.convert("bkra shis world/")
    assert converter.note() == '2 syllables or signs are no Wylie (EWTS): "world"'


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("bcom ldan 'das la phyag 'tshal lo//", "ewts"),
        ("[2a] RGYA GAR SKAD DU, BYANG CHUB SEMS DPA'I SPYOD PA", "acip"),
        ("Only English here: the three jewels and their praise.", None),
        ("The three jewels and their praise.", None),
        ("Buddha in the language of India", None),
        ("oM ma Ni pad+me hU~M/", "ewts"),
        ("Das Buch ist gut und der Mann geht.", None),
        ("Le roi était très content de ses fils.", None),
        ("12 34", None),
        ("", None),
    ],
)
def test_it_is_told_from_other_languages(text: str, kind: Transliteration | None) -> None:
    assert recognize_transliteration(text) == kind


def test_a_corpus_of_wylie(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("bcom ldan \n'das la\nphyag 'tshal lo/ /de nas/\n\nbkra shis world/\n", encoding="utf-8")
    report = ReadingReport()
    documents = list(read_documents(str(path), transliteration="ewts", report=report))
    assert documents[0] == ["བཅོམ་ལྡན་འདས་ལ་ཕྱག་འཚལ་ལོ།", "།དེ་ནས།"] and len(documents) == 2
    assert report.notes == [f'{path}: 2 syllables or signs are no Wylie (EWTS): "world"']
    with pytest.raises(InputError, match=r"looks like Wylie \(EWTS\). Received: .*a.txt.*Give --transliteration=ewts"):
        list(read_documents(str(path)))


def test_transliterated_tei_and_tables(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text("<TEI><text><p>bkra<lb/>shis/</p><p>bde</p></text></TEI>")
    (tmp_path / "b.csv").write_text("id,text\n1,bkra shis/\n")
    pattern = f"{tmp_path}/a.xml"
    assert list(read_documents(pattern, transliteration="ewts")) == [["བཀྲ་ཤིས།", "བདེ"]]
    table = f"{tmp_path}/b.csv"
    assert list(read_documents(table, transliteration="ewts", column="text")) == [["བཀྲ་ཤིས།"]]


def test_texts_with_gaps(caplog: pytest.LogCaptureFixture) -> None:
    """As `tibert fill-mask` takes them."""
    texts = [(3, "bkra [GAP:1] legs/"), (5, "[MASK]"), (7, "བཀྲ་[MASK]world")]
    assert list(texts_in_tibetan(texts, "ewts"))[0] == (3, "བཀྲ་[GAP:1]་ལེགས།")
    assert list(texts_in_tibetan(texts[1:], None)) == texts[1:]
    with pytest.raises(InputError, match=r"Text 3: .*Wylie \(EWTS\).*Give --transliteration=ewts"):
        list(texts_in_tibetan(texts, None))
    with pytest.raises(InputError, match="Text 1: There is no Tibetan letter in the text. Received: 'Only"):
        list(texts_in_tibetan([(1, "Only [MASK] English")], None))
    with pytest.raises(InputError, match="Text 1: There is no Tibetan letter in the text. Received: '12"):
        list(texts_in_tibetan([(1, "12 [GAP:1] ༣")], None))
    digits = [(1, "བཀྲ་[GAP:1]་"), (2, "༡༢༳")]
    assert list(texts_in_tibetan(digits, None)) == digits
    list(texts_in_tibetan([(1, "world [MASK]")], "ewts"))
    assert '"world"' in caplog.text
    caplog.clear()
    list(texts_in_tibetan([(1, "[2a.1]བཀྲ་[GAP:1-2]་ལེགས།"), (2, "(12)ཀ{D3}")], None))
    assert not caplog.text
    list(texts_in_tibetan([(1, "<p>བཀྲ་[MASK]</p>")], None))
    assert "the texts: 41% of the characters are not Tibetan: `<`" in caplog.text


# === Other characters than Tibetan ===


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("བཀྲ་ཤིས་བདེ་ལེགས། " * 10, ""),
        ("བཀྲ་ཤིས་[GAP:1-2]་[MASK]་[GAP]། [?]ས།", ""),
        ("བཀྲ་ཤིས་བདེ་ལེགས། " * 10 + "ab", ""),
        ("བཀྲ་ཤི<p>", "33% of the characters are not Tibetan: `<`, `p`, `>`."),
        ("ཀཁ" + "aabbbcdefghi", "86% of the characters are not Tibetan: `b`, `a`, `c`, `d`, `e`, `f`, `g`, `h`, ...."),
    ],
)
def test_note(text: str, note: str) -> None:
    counter = ForeignCounter()
    counter.add(text)
    assert counter.note() == note
