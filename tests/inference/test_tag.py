"""`tibert tag`: four formats that lose nothing, files and standard input, and what is refused."""

from __future__ import annotations

import io
import json
import re
import sys

import pytest

from tibert_keras.cli.main import main
from tibert_keras.errors import InputError
from tibert_keras.inference.tag import TagConfig, TaggedLine, read_text, split_lines, tag_text, with_tibetan
from tibert_keras.models.tibert_token_classifier import TibertTokenClassifier
from tibert_keras.tagging.reading import read_tagged
from tibert_keras.tagging.words import TaggedWord
from tibert_keras.tagging.writing import FORMATS

TEXTS = [
    "སངས་རྒྱས་ཡིས་རྒྱལ་པོ་ལ་ཆོས་བསྟན།\n",
    "\n\n  སངས་རྒྱས་ ཡིས་རྒྱལ་པོ་ལ། །ཆོས་ཐོབ།  \n\n\tགོས་ཕུལ།",
    "ཀ་|\\s་x\\y་\r\nཁ་\u00a0\n   \nབསྟན",
]


def undo(text: str) -> str:
    meanings = {"\\": "\\", "t": "\t", "r": "\r", "n": "\n", "s": " ", "p": "|"}
    return re.sub(r"\\(.)", lambda match: meanings[match[1]], text)


def from_plain(out: str) -> str:
    def line(written: str) -> str:
        words = "".join(undo(token.rpartition("|")[0]) for token in written.split(" ") if token)
        return words + "\r" * written.endswith("\r")

    return "\n".join(map(line, out.split("\n")))


def from_tsv(out: str) -> str:
    rows = out.split("\n")[:-1]
    return "".join(undo(row.split("\t")[0]) if row.strip() else f"{row}\n" for row in rows)


def from_json(out: str) -> str:
    lines = [json.loads(line) for line in out.splitlines()]
    return "".join("".join(word["form"] for word in line["words"]) + line["end"] for line in lines)


def from_conllu(out: str) -> str:
    text, last = "", 0
    for row in out.splitlines():
        columns = row.split("\t")
        if row.startswith("# sent_id"):
            last = 0
        if len(columns) != 10:
            continue
        first, _, until = columns[0].partition("-")
        if int(first) <= last:
            # A part of a form that was there already.
            continue
        last = int(until or first)
        misc = dict(item.split("=", 1) for item in columns[9].split("|"))
        form = "" if columns[1] == "_" else undo(columns[1])
        text += undo(misc.get("SpacesBefore", "")) + form + undo(misc.get("SpacesAfter", ""))
    return text


BACK = {"plain": from_plain, "tsv": from_tsv, "conllu": from_conllu, "json": from_json}


@pytest.fixture(scope="module")
def tagger(tagger_run):
    return TibertTokenClassifier.from_preset(str(tagger_run / "champion"))


@pytest.mark.parametrize("name", BACK)
class TestFormats:
    @pytest.mark.parametrize("text", TEXTS)
    def test_a_file(self, tagger, tagger_run, tmp_path, capsys, monkeypatch, name, text):
        monkeypatch.setattr(TibertTokenClassifier, "from_preset", lambda preset: tagger)  # once is enough
        (tmp_path / "text.txt").write_bytes(text.encode())
        given = ["tag", f"--model={tagger_run}", f"--format={name}", f"--input_file={tmp_path}/text.txt"]
        assert main(given) == 0
        out = capsys.readouterr().out
        assert BACK[name](out) == text
        assert main([*given, f"--output_file={tmp_path}/out"]) == 0
        assert (tmp_path / "out").read_bytes().decode() == out and capsys.readouterr().out == ""

    def test_joined_tags(self, name):
        words = [TaggedWord("དེའི་ ", "DET+ADP"), TaggedWord("ཆོས", "n.count"), TaggedWord("།", "PUNCT")]
        out = "".join(FORMATS[name]([TaggedLine(1, words, "\n"), TaggedLine(2, [], "\n"), TaggedLine(3, words, "")]))
        assert BACK[name](out) == "དེའི་ ཆོས།\n\nདེའི་ ཆོས།"


class TestReadBack:
    """What is written is read as tagged text, with the same tags."""

    WORDS = (TaggedWord("དེའི་", "DET+ADP"), TaggedWord("ཆོས", "NOUN"), TaggedWord("།", "PUNCT"))

    @pytest.mark.parametrize("name, ending", [("plain", "txt"), ("tsv", "tsv"), ("conllu", "conllu")])
    def test_read_tagged(self, tmp_path, name, ending):
        path = tmp_path / f"a.{ending}"
        lines = [TaggedLine(number, list(self.WORDS), "\n", document=number) for number in (1, 2)]
        out = "".join(FORMATS[name](lines))
        path.write_text(out, encoding="utf-8")
        assert [document.words for document in read_tagged(str(path))] == [self.WORDS, self.WORDS]

    @pytest.mark.parametrize("name, ending", [("plain", "txt"), ("tsv", "tsv"), ("conllu", "conllu")])
    def test_escapes_and_empty_lines(self, tmp_path, name, ending):
        forms = ["། ", "ཀ\t", "ཁ|\\", "\\s\\", "ག\u00a0ང\u3000"]
        words = tuple(TaggedWord(form, "X") for form in forms)
        lines = [TaggedLine(1, list(words), "\n"), TaggedLine(2, [], "\n"), TaggedLine(3, list(words), "\n", 2)]
        (tmp_path / f"a.{ending}").write_text("".join(FORMATS[name](lines)), encoding="utf-8")
        assert [document.words for document in read_tagged(f"{tmp_path}/a.{ending}")] == [words, words]

    @pytest.mark.parametrize(
        "name, written",
        [("tsv", "། །\tPUNCT\t/_/\n"), ("conllu", "|Translit=\\p\n"), ("json", '"tag": "DET+ADP", "wylie": "de\'i"}')],
    )
    def test_wylie(self, tmp_path, name, written):
        words = (*self.WORDS, TaggedWord("། །", "PUNCT"), TaggedWord("༑ [2a]", "PUNCT"))
        config = TagConfig(text=["ཀ"], model="m", format=name, show_wylie=True)
        out = "".join(config.write([TaggedLine(1, list(words), "\n")]))
        assert written in out
        if name != "json":
            (tmp_path / f"a.{name}").write_text(out, encoding="utf-8")
            assert read_tagged(f"{tmp_path}/a.{name}")[0].words == words

    def test_tags_that_are_not_universal(self, tmp_path):
        words = (TaggedWord("དེའི་", "d.dem+case.gen"), TaggedWord("ཆོས", "UNK"))
        (tmp_path / "a.conllu").write_text("".join(FORMATS["conllu"]([TaggedLine(1, list(words), "\n")])))
        assert read_tagged(f"{tmp_path}/a.conllu")[0].words == words


def pretend(monkeypatch, folder) -> None:
    """Make a folder a model, which is another test's: its words are what stands before a space or shad."""
    (folder / "task.json").touch()
    monkeypatch.setattr(TibertTokenClassifier, "from_preset", lambda preset: None)
    monkeypatch.setattr(
        # The package has a function of the module's name.
        sys.modules["tibert_keras.inference.tag"],
        "tag_lines",
        lambda _, lines, **__: (
            [TaggedWord(form, "NOUN+ADP") for form in re.findall(r"།\s*|[^།\s]+\s*|\s+", line)] for line in lines
        ),
    )


class TestSeveralFiles:
    @pytest.fixture
    def tag(self, monkeypatch, tmp_path, capsys):
        (tmp_path / "model").mkdir()
        pretend(monkeypatch, tmp_path / "model")
        (tmp_path / "texts/deeper").mkdir(parents=True)
        # Its last line has no end.
        (tmp_path / "texts/a.txt").write_bytes("\ufeffཀ་ཁ། །ག\r\n\r\nང།".encode())
        (tmp_path / "texts/deeper/b.txt").write_text("  ཅ\n")

        def tag(*words: str, status: int = 0) -> str:
            assert main(["tag", f"--model={tmp_path}/model", *words]) == status
            out, err = capsys.readouterr()
            return err if status else out.replace(str(tmp_path), "")

        return tag

    def test_results_lie_beside_the_texts(self, tag, tmp_path):
        written = "/texts/a.words.txt\n/texts/deeper/b.words.txt\n"
        for pattern in (
            f"{tmp_path}/texts",
            f"{tmp_path}/texts/a.txt,{tmp_path}/texts/deeper",
            f"{tmp_path}/texts/**/*.txt",
        ):
            # Results of the call before are no texts.
            assert tag(f"--input_file={pattern}", "--format=words") == written
        assert (tmp_path / "texts/a.words.txt").read_bytes().decode() == "ཀ་ཁ ། ། ག\r\n\r\nང །"
        assert (tmp_path / "texts/deeper/b.words.txt").read_text() == "ཅ\n"
        assert tag(f"--input_file={tmp_path}/texts/deeper", "--format=json") == "/texts/deeper/b.tagged.jsonl\n"

    def test_words_have_no_markers(self):
        words = [TaggedWord(form, "X") for form in ("[2a.1] ཀ་", "ཁ་(12)ག ", "{D12}", "།")]
        assert "".join(FORMATS["words"]([TaggedLine(1, words, "\n")])) == "ཀ་ ཁ་ག །\n"

    def test_one_result_for_all(self, tag, tmp_path):
        assert tag(f"--input_file={tmp_path}/texts/", "--format=conllu", f"--output_file={tmp_path}/all.conllu") == ""
        titles = [row for row in (tmp_path / "all.conllu").read_text().splitlines() if row.startswith(("# n", "# s"))]
        assert titles == ["# newdoc", "# sent_id = 1", "# newdoc", "# sent_id = 3", "# newdoc", "# sent_id = 4"]
        for _ in range(2):  # the result of the call before is no text
            assert tag(f"--input_file={tmp_path}/texts/", f"--output_file={tmp_path}/texts/all.txt") == ""
            assert [each.text for each in read_tagged(f"{tmp_path}/texts/all.txt")] == ["ཀ་ཁ། །ག", "ང།", "  ཅ"]

    @pytest.mark.parametrize("name", ["plain", "tsv", "conllu"])
    def test_fine_tuning_reads_what_is_written(self, tag, tmp_path, name):
        """The forms are the text, without byte-order mark and line ends."""
        tag(f"--input_file={tmp_path}/texts", f"--format={name}")
        documents = read_tagged(f"{tmp_path}/texts/**/*.tagged.*")
        assert [document.text for document in documents] == ["ཀ་ཁ། །ག", "ང།", "  ཅ"]
        assert {word.tag for document in documents for word in document.words} == {"NOUN+ADP"}

    def test_tei_and_wylie(self, tag, tmp_path):
        (tmp_path / "texts/c.xml").write_text("<TEI><text><p>bkra shis<lb/>bde/<note>x</note></p></text></TEI>")
        (tmp_path / "texts/d.txt").write_text("bkra shis\r\nworld\n")
        given = [f"--input_file={tmp_path}/texts/c.xml,{tmp_path}/texts/d.txt", f"--output_file={tmp_path}/out"]
        assert tag(*given, "--transliteration=ewts", "--format=words") == ""
        assert (tmp_path / "out").read_bytes().decode() == "བཀྲ་ཤིས་\nབདེ །\nབཀྲ་ཤིས་\r\nཝོརལད་\n"
        assert "looks like Wylie (EWTS)" in tag(*given, status=1)
        assert tag("bkra shis/", "--transliteration=ewts", "--format=words") == "བཀྲ་ཤིས །\n"
        assert "looks like ACIP" in tag("RGYA GAR SKAD DU,", status=1)

    def test_what_cannot_be_tagged_is_named(self, tag, tmp_path):
        (tmp_path / "a.docx").write_bytes(b"PK\x03\x04\x14\x00word/document.xml")
        assert "a Word file" in tag(f"--input_file={tmp_path}/a.docx", status=1)
        for name in ("e.txt", "e.xml"):
            (tmp_path / "texts" / name).write_text("<TEI><text>ཀ</text></TEI>", encoding="utf-8")
        assert "the same file for their words" in tag(f"--input_file={tmp_path}/texts", status=1)

    def test_a_text_without_tibetan_is_refused_before_the_others_are_tagged(self, tag, tmp_path):
        (tmp_path / "texts/z.txt").write_text("Only English.\n")
        assert "z.txt" in tag(f"--input_file={tmp_path}/texts", status=1)
        assert not list((tmp_path / "texts").rglob("*.tagged.txt"))


def test_arguments_of_several_lines(monkeypatch, tmp_path):
    """Are cut into lines, as files are, so that no format gets a form with a line break."""
    texts = ["ཀ་\nཁ་\n\nག", "ང\n", "ཅ"]
    lines = [("ཀ་", "\n"), ("ཁ་", "\n"), ("", "\n"), ("ག", ""), ("", ""), ("ང", "\n"), ("", ""), ("ཅ", ""), ("", "")]
    assert list(TagConfig(text=texts, model="x").lines()) == lines
    pretend(monkeypatch, tmp_path)
    for name, back in BACK.items():
        out = "".join(tag_text(TagConfig(text=texts, model=str(tmp_path), format=name)))
        assert back(out) == "ཀ་\nཁ་\n\nག\nང\nཅ\n"


def test_other_characters_are_told_at_the_end(caplog):
    lines = TagConfig(text=["<p>ཀ་ཁ\nཀ"], model="x").lines()
    assert next(lines) == ("<p>ཀ་ཁ", "\n") and not caplog.messages
    assert list(lines) == [("ཀ", ""), ("", "")]
    assert caplog.messages[0].startswith("the text: 43% of the characters are not Tibetan: `<`, `p`, `>`. If this is")


class TestSources:
    def test_texts(self, tagger_run, capsys):
        assert main(["tag", "སངས་རྒྱས་ཡིས་རྒྱལ་པོ་ལ་ཆོས་བསྟན།", "གོས་ཕུལ།", f"--model={tagger_run}"]) == 0
        first, second = capsys.readouterr().out.splitlines()
        # བསྟན is a verb here, after the noun.
        assert first == "སངས་རྒྱས་|PROPN ཡིས་|ADP རྒྱལ་པོ་|NOUN ལ་|ADP ཆོས་|NOUN བསྟན|VERB །|PUNCT"
        assert from_plain(second) == "གོས་ཕུལ།"

    def test_standard_input(self, tagger_run, capsys, monkeypatch):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(TEXTS[1].encode())))
        assert main(["tag", f"--model={tagger_run}", "--format=tsv"]) == 0
        assert from_tsv(capsys.readouterr().out) == TEXTS[1]

    def test_lines_are_read_when_they_are_needed(self):
        def lines():
            yield "a", "\n"
            yield "ཀ", "\n"
            raise AssertionError("read too far")

        found = with_tibetan(lines())
        assert [next(iter(found)), next(iter(found))] == [("a", "\n"), ("ཀ", "\n")]

    def test_every_line_end(self):
        """A `\r` alone ends a line as well, and a byte-order mark is no text."""
        lines = [("ཀ", "\r\n"), ("", "\n"), ("ཁ", "\n"), ("ག ", "\n"), ("ང", "")]
        assert list(read_text(io.BytesIO("\ufeffཀ\r\n\n\ufeffཁ\rག \nང".encode()), "x")) == lines
        assert list(split_lines("\ufeffཀ\r\n\nཁ\rག \nང")) == lines


class TestBadInput:
    @pytest.fixture
    def refuse(self, capsys, tagger_run):
        def check(message: str, *given: str, model: str = f"--model={tagger_run}") -> None:
            assert main(["tag", *given, model]) == 1
            out, err = capsys.readouterr()
            complaint = err.splitlines()[-1]
            assert out == "" and re.match(f"tibert tag: .*{message}.*Received: ", complaint), err

        return check

    def test_texts(self, refuse, tmp_path, monkeypatch):
        path = tmp_path / "text.txt"
        refuse("Texts come from the command line or from a file", "ཀ", f"--input_file={path}")
        refuse("Cannot read the file", f"--input_file={path}")
        path.write_bytes(b"\xe0\xbd\x80\xff")
        refuse("Not a UTF-8 file: .* at byte 3", f"--input_file={path}", f"--output_file={tmp_path}/out")
        path.write_text("No Tibetan.\n")
        refuse("no Tibetan letter in the text", f"--input_file={path}", f"--output_file={tmp_path}/out")
        path.write_text("")
        refuse("no Tibetan letter in the text", f"--input_file={path}")
        refuse("no Tibetan letter in the text", "No Tibetan.")
        refuse("batch_size must be positive", "ཀ", "--batch_size=0")
        refuse("output_file is a folder", "ཀ", f"--output_file={tmp_path}")
        refuse("One file would replace another", f"--input_file={path}", f"--output_file={path}")
        assert not (tmp_path / "out").exists()

    def test_models(self, refuse, small_preset, tmp_path):
        refuse("Neither a preset nor a run", "ཀ", model=f"--model={tmp_path}")
        message = "The model is a masked language model, and a tagger is needed"
        refuse(message, "ཀ", model=f"--model={small_preset}")


def test_an_unfinished_line_is_refused():
    with pytest.raises(InputError, match="at byte 4"):
        list(read_text(io.BytesIO(b"\xe0\xbd\x80\n\xff"), "x"))
