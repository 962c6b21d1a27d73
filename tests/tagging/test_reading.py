"""Readers of tagged text."""

import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tibert_keras.errors import InputError
from tibert_keras.tagging.preparation import UNIVERSAL_TAGS
from tibert_keras.tagging.reading import read_split, read_tagged, split_documents
from tibert_keras.tagging.words import Document, TaggedWord


def read(tmp_path: Path, content: str, *, name: str = "text.txt") -> dict[str, list[tuple[str, str]]]:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8", newline="")
    documents = read_tagged(str(path))
    return {document.name: [(word.form, word.tag) for word in document.words] for document in documents}


def conllu(*words: str) -> str:
    """Lines of CoNLL-U of `id form tag`."""
    rows = (word.split(" ") for word in words)
    return "".join("\t".join([number, form, "_", tag, *"______"]) + "\n" for number, form, tag in rows)


def test_horizontal(tmp_path: Path) -> None:
    documents = read(
        tmp_path, "\ufeffང་|p.pers\tནི|cl.focus  །|punc \r\n\nཀ|ཁ་|n.count~n.prop.E\n", name="mila-horizontal.txt"
    )
    assert documents == {
        "mila-horizontal:1": [("ང་", "p.pers"), ("ནི", "cl.focus"), ("།", "punc")],
        "mila-horizontal:3": [("ཀ|ཁ་", "n.count~n.prop.E")],
    }


def test_columns_with_empty_lines_between_documents(tmp_path: Path) -> None:
    documents = read(tmp_path, "\nང་\tPRON\n#\tPUNCT\n\n\nནི\tPART\tCase=Foc\n\n", name="a.tsv")
    assert documents == {"a:2": [("ང་", "PRON"), ("#", "PUNCT")], "a:6": [("ནི", "PART")]}


def test_columns_with_named_documents(tmp_path: Path) -> None:
    content = "# doc = marpa/001a\nང་\tPRON\n\nནི\tPART\n\n\n# doc = marpa/001b\n# a note\nང་\tPRON\n"
    assert read(tmp_path, content) == {
        "marpa/001a": [("ང་", "PRON"), ("ནི", "PART")],
        "marpa/001b": [("ང་", "PRON")],
    }


def test_conllu_sentences(tmp_path: Path) -> None:
    one = conllu("1 ང་ PRON", "2 ནི PART")
    content = f"# sent_id = s1\n# text = ང་ནི | ང\n{one}\n{one}\n# sent_id = s3\n{conllu('1 ཀ NOUN')}"
    sentence = [("ང་", "PRON"), ("ནི", "PART")]
    assert read(tmp_path, content, name="a.conllu") == {"a:s1": sentence, "a:6": sentence, "a:s3": [("ཀ", "NOUN")]}


def test_conllu_in_several_files(tmp_path: Path) -> None:
    """Whose sentences have the same numbers."""
    for name in "ab":
        (tmp_path / f"{name}.conllu").write_text("# sent_id = 1\n" + conllu("1 ང་ PRON"), encoding="utf-8")
    assert [document.name for document in read_tagged(f"{tmp_path}/*.conllu")] == ["a:1", "b:1"]


def test_conllu_with_tags_of_its_own(tmp_path: Path) -> None:
    rows = conllu("1 ང་ X", "2 ནི PART", "3 ཀ X").replace("X\t_", "X\tp.pers", 1).replace("PART\t_", "PART\tcl.focus")
    words = [("ང་", "p.pers"), ("ནི", "PART"), ("ཀ", "X")]
    assert read(tmp_path, rows, name="a.conllu") == {"a:1": words}
    assert read(tmp_path, rows.replace("X\tp.pers", "_\tp.pers"), name="a.conllu") == {"a:1": words}


def test_conllu_comments(tmp_path: Path) -> None:
    content = (
        "#newdoc id = d1\n#text=ང་\n# a note | of a / reader\n"
        + conllu("1 ང་ PRON")
        + "\n# newpar\n"
        + conllu("1 ནི PART")
    )
    assert read(tmp_path, content) == {"d1": [("ང་", "PRON"), ("ནི", "PART")]}


def test_conllu_documents_and_forms_of_several_words(tmp_path: Path) -> None:
    one = conllu("1-2 དེའི་ _", "1 དེ DET", "2 འི་ ADP", "2.1 ཀ NOUN", "3 ཕྱིར NOUN")
    content = f"# newdoc id = d1\n# sent_id = s1\n{one}\n# sent_id = s2\n{one}\n# newdoc\n{one}"
    sentence = [("དེའི་", "DET+ADP"), ("ཕྱིར", "NOUN")]
    # Told by its lines, whatever the file is called.
    assert read(tmp_path, content) == {"d1": 2 * sentence, "text:16": sentence}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "ལོ|v །|punc །|punc ངས་|p སོ|v །|punc ངས་|p །|punc"),
        ("a.txt", "ལོ/v །/punc །/punc ངས་/p <utt> སོ//v །/punc ངས་/p །/punc"),
        ("a.tsv", "# doc = a\nལོ\tv\n།\tpunc\n\n།\tpunc\nངས་\tp\nསོ\tv\n།\tpunc\nངས་\tp\n།\tpunc\n"),
        ("a.conllu", conllu("1 ལོ v", "2 ། punc", "3 ། punc", "4 ངས་ p", "5 སོ v", "6 ། punc", "7 ངས་ p", "8 ། punc")),
    ],
)
def test_spaces_are_put_back_behind_shads(tmp_path: Path, name: str, content: str) -> None:
    """Between two, and between a single one and a letter; the documented tagger was trained without any."""
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    (document,) = read_tagged(str(path))
    assert document.text == "ལོ། །ངས་སོ། ངས་།"
    assert [word.tag for word in document.words] == ["v", "punc", "punc", "p", "v", "punc", "p", "punc"]
    assert read_tagged(str(path), shad_spaces=False)[0].text == "ལོ།།ངས་སོ།ངས་།"


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        (r"།\s\s ། ང", "།  །ང"),  # as it stands in the file
        ("། ༎ ང", "། ༎ང"),
        ("།། ང", "།།ང"),
        ("༔ ང", "༔ ང"),
        ("། ༄༅ ང", "། ༄༅ང"),
        ("། ) ང", "།)ང"),
    ],
)
def test_spaces_of_other_marks(tmp_path: Path, tokens: str, text: str) -> None:
    (words,) = read(tmp_path, " ".join(f"{token}|X" for token in tokens.split())).values()
    assert "".join(form for form, _ in words) == text


def test_the_spaces_of_conllu(tmp_path: Path) -> None:
    def document(*rows: tuple[str, str], above: str = "") -> str:
        lines = ["\t".join([str(n), form, "_", "X", *"_____", misc]) for n, (form, misc) in enumerate(rows, 1)]
        path = tmp_path / "a.conllu"
        path.write_text("\n".join([above, *lines, ""]).lstrip(), encoding="utf-8")
        return read_tagged(str(path))[0].text

    no = "SpaceAfter=No"
    # By the format's rule a word without a mark has a space after it, but the last of a document.
    assert document(("ལོ", no), ("།", "_"), ("།", no), ("ངས", "Gloss=I"), ("།", "_")) == "ལོ། །ངས །"
    assert document(("ལོ", no), ("།", r"SpacesAfter=\s\s"), ("ངས", r"SpacesAfter=\t"), ("།", no)) == "ལོ།  ངས\t།"
    assert document(("ལོ", r"SpacesBefore=\s|SpaceAfter=No"), ("།", no), ("ང", no)) == " ལོ།ང"
    # A line break is none of the text's; where editions have a space, it stands for one.
    assert (
        document(("ལོ་", r"SpacesAfter=\n"), ("ལོ", no), ("།", r"SpacesAfter=\r\n"), ("ང", r"SpacesAfter=\n")) == "ལོ་ལོ། ང"
    )
    # Without any of them, the text of the sentence has the spaces, unless it only parts the words.
    rows = (("ལོ", "_"), ("།", "_"), ("།", "_"), ("ང", "_"))
    assert document(*rows, above="# text = ལོ།  །ང") == "ལོ།  །ང"
    assert document(*rows, above="# text = ལོ།།ང") == "ལོ།།ང"
    assert document(*rows, above="# text = ལོ ། ། ང") == document(*rows, above="# text = xyz") == "ལོ། །ང"


def test_vertical_layout(tmp_path: Path) -> None:
    """As the corpus is published: the tag, a space and the lemma or a dash; pages within sentences."""
    content = "ང་\tp.pers -\n།\tpunc -\n\nསུ་\tcase.term སུ་\n# page_id = 13a\nབོར\tv.past འབོར་\n།\tpunc -\n\n"
    assert read(tmp_path, content, name="mila.txt") == {
        "mila:1": [("ང་", "p.pers"), ("། ", "punc"), ("སུ་", "case.term")],
        "mila:13a": [("བོར", "v.past"), ("།", "punc")],
    }


def test_no_form_has_a_byte_order_mark_or_a_line_end(tmp_path: Path) -> None:
    for name, content in (
        ("a.txt", "\ufeffང་|PRON \ufeffནི\\r|PART \r\n"),
        ("a.tsv", "\ufeffང་\tPRON\r\n\ufeffནི\\r\tPART\r\n"),
        ("a.conllu", "\ufeff" + conllu("1 ང་ PRON", "2 \ufeffནི\\r PART").replace("\n", "\r\n")),
    ):
        assert list(read(tmp_path, content, name=name).values()) == [[("ང་", "PRON"), ("ནི", "PART")]]


def test_lines_of_white_space_are_no_words(tmp_path: Path) -> None:
    """`tibert tag` writes them, so that nothing of the text is lost."""
    assert read(tmp_path, "\\s\\s|UNK\n\\s|X ང་|PRON \\s|X ནི|PART\n") == {"text:2": [(" ང་ ", "PRON"), ("ནི", "PART")]}


def test_real_files(shared: Path, soas: list[Document]) -> None:
    assert len(soas) == 991
    assert sum(len(document.words) for document in soas) == 318_219
    assert soas[0].name == "buston-horizontal:1"
    fixtures = read_tagged(f"{shared}/data/fixtures/soas-tibetan/Texts/m*-horizontal.txt")
    assert sum(len(document.words) for document in fixtures) == 1_329
    # Genuine lines of two texts. The corpus was rebuilt from another layout, in which pages end elsewhere.
    for text in ("marpa", "mdzangsblun"):
        genuine, rebuilt = (
            [word.form.strip() for document in documents if document.name.startswith(text) for word in document.words]
            for documents in (fixtures, soas)
        )
        assert rebuilt[: len(genuine)] == genuine


def test_real_columns(shared: Path, tmp_path: Path) -> None:
    """The same four texts in universal tags, a word a line, and one that a machine tagged."""
    with tarfile.open(shared / "data" / "pos" / "classical-tibetan-upos-tsv.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    counts = {}
    for path in sorted(tmp_path.glob("classical-tsv/*.tsv")):
        documents = read_tagged(str(path))
        words = [word for document in documents for word in document.words]
        assert {word.tag for word in words} <= UNIVERSAL_TAGS | {"NOTAG"}
        counts[path.stem] = len(documents), len(words)
    assert counts == {
        "bu_ston": (309, 90_199), "marpa": (180, 47_807), "mdzangs_blun": (310, 119_676), "mila": (192, 60_537),
        "taranatha": (227, 79_132),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "ང་|PRON ནི\n", "A word is missing. Received: 'ནི', line 1"),
        ("a.txt", "ང་|PRON\nནི| \n", "A tag is missing. Received: 'ནི|', line 2"),
        ("a.txt", "ང་|PRON\nནི \nཀ|\n", r"has 2 slips. .* line 2, 'ནི': A word is missing; line 3, 'ཀ\|': A tag is"),
        ("a.txt", "ཀ|[n.count][v.past]\n", "a list of candidates for a tag. Received: .*line 1"),
        ("a.txt", "ང་ ནི\n", "has no tag. Received: 'ང་ ནི'"),
        ("a.txt", "a|X\n", "no Tibetan in the file"),
        ("a.txt", "", "The file is empty"),
        ("a.tsv", "ང་\tPRON\nནི\n", "A tag is missing. Received: 'ནི', line 2"),
        ("a.tsv", "ང་\tPRON\n\tPART\n", r"A word is missing. Received: '\\tPART', line 2"),
        ("a.tsv", "# doc = a\n\n# doc = b\nང་\tPRON\n", "A sentence is empty. Received: line 1"),
        ("a.tsv", "# doc = a\nང་\tPRON\n# doc = a\nང་\tPRON\n", "the same name. Received: 'a'"),
        ("a.conllu", "# sent_id = s1\n\n" + conllu("1 ང་ PRON"), "A sentence is empty. Received: line 1"),
        ("a.conllu", "1\tང་\t_\tPRON\n", "10 columns and begins with a number. Received: .* with 4, line 1"),
        ("a.conllu", conllu("x ང་ PRON"), "begins with a number. Received: .* with 10, line 1"),
        ("a.conllu", conllu("1-2 ང་ _", "1 ང PRON", "3 ཀ NOUN"), "lacks one of them. Received: .*line 1 of"),
        ("a.conllu", conllu("1-3 ང་ _", "1 ང PRON", "2-3 ཀ _"), "lacks one of them"),
        ("a.conllu", conllu("1 ཀ X", "2-3 ང་ _", "2 ང PRON"), "lacks one of them. Received: .*line 2 of"),
        ("a.conllu", "# newdoc\n" + conllu("1-2 ང་ _", "1 ང PRON", "1 ཀ X", "2 ཁ X"), "lacks one of them"),
        ("a.conllu", conllu("1 ང་ ").replace("_\t\t_", "_\t \t_"), "A tag is missing"),
    ],
)
def test_bad_files(tmp_path: Path, name: str, content: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read(tmp_path, content, name=name)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_are_no_text(tmp_path: Path) -> None:
    """What Excel saves as Unicode text, for example."""
    (tmp_path / "a.tsv").write_bytes("ང་\tPRON\r\n".encode("utf-16"))
    with pytest.raises(InputError, match="Not a UTF-8 file: it is in UTF-16"):
        read_tagged(f"{tmp_path}/a.tsv")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No file matches"):
        read_tagged(f"{tmp_path}/*.txt")


def test_names_are_told_apart_over_files(tmp_path: Path) -> None:
    for folder in "ab":
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.txt").write_text("ང་|PRON\n", encoding="utf-8")
    with pytest.raises(InputError, match="same name. Received: 'x:1'"):
        read_tagged(f"{tmp_path}/*/x.txt")
    assert read_tagged(f"{tmp_path}/a/x.txt") == [Document("x:1", (TaggedWord("ང་", "PRON"),))]


COMMITTED = Path(__file__).resolve().parents[2] / "examples" / "splits" / "soas.tsv"


@pytest.fixture
def pages(page: Callable[..., Document]) -> list[Document]:
    return [page("ང་|PRON", name=f"mila:{number}") for number in range(1, 31)]


@pytest.fixture
def split() -> dict[str, str]:
    return {
        f"mila:{number}": "test" if number > 27 else "train" if number % 3 else "validation" for number in range(1, 31)
    }


def test_the_committed_split(soas: list[Document]) -> None:
    split = read_split(COMMITTED)
    assert {part: len(documents) for part, documents in split_documents(soas, split).items()} == {
        "train": 793,
        "validation": 99,
        "test": 99,
    }
    # None of the four texts is in training only.
    assert len({name.split(":")[0] for name, part in split.items() if part == "test"}) == 4


def test_documents_go_to_the_parts_of_a_split(pages: list[Document], split: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "split.tsv").write_text("".join(f"{name}\t{part}\n" for name, part in split.items()), "utf-8")
    assert list(read_split(tmp_path / "split.tsv").items()) == list(split.items())
    parts = split_documents(pages, split)
    assert sorted(document.name for part in parts.values() for document in part) == sorted(split)
    assert all(split[document.name] == part for part, documents in parts.items() for document in documents)


@pytest.mark.parametrize("line", ["mila:2", "mila:2 test", "mila:2\tdev", "mila:1\ttest", ""])
def test_bad_lines(tmp_path: Path, line: str) -> None:
    path = tmp_path / "split.tsv"
    path.write_text(f"mila:1\ttrain\n{line}\n", encoding="utf-8")
    with pytest.raises(InputError, match="line 2 of"):
        read_split(path)


def test_all_bad_lines_at_once(tmp_path: Path) -> None:
    (tmp_path / "split.tsv").write_text("a\ttrain\nb\n\na\ttest\nc\ttest\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"has 3 slips.*line 2, 'b': .*line 3, '': .*line 4, 'a\\ttest': "):
        read_split(tmp_path / "split.tsv")


def test_names_have_to_agree(pages: list[Document], split: dict[str, str]) -> None:
    with pytest.raises(InputError, match="1 names that the documents lack, such as 'mila:1'"):
        split_documents(pages[1:], split)
    del split["mila:7"]
    with pytest.raises(InputError, match="1 names that the split lack, such as 'mila:7'"):
        split_documents(pages, split)
