"""Filled masks and gaps: the same from a preset, a run and a SavedModel, from strings and from file to file."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import keras
import pytest
import tensorflow as tf

import tibert_keras
from tibert_keras import TibertMaskedLM
from tibert_keras.cli.main import main
from tibert_keras.errors import InputError
from tibert_keras.inference.fill import (
    FilledMask,
    FilledText,
    FillMaskConfig,
    fill_file,
    fill_gaps,
    fill_mask,
    fill_texts,
    read_texts,
    write_filled,
)
from tibert_keras.inference.loading import load_fill_mask
from tibert_keras.saved_model.fill_mask import FillMask

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="its model is a TensorFlow module")

TEXTS = ["སངས་རྒྱས་[MASK]བཅོམ་[MASK]འདས།", "[MASK]", "བཀྲ་ཤིས་[MASK]"]


@pytest.fixture(scope="module")
def filled(finished_run) -> list[FilledMask]:
    return fill_mask(TEXTS, model=finished_run, top_k=3)


class TestFillMask:
    def test_one_item_a_mask_in_order(self, filled):
        assert [(mask.text, mask.mask) for mask in filled] == [(0, 0), (0, 1), (1, 0), (2, 0)]
        assert all(len(mask.pieces) == len(mask.probabilities) == 3 for mask in filled)
        assert all(mask.probabilities == sorted(mask.probabilities, reverse=True) for mask in filled)

    def test_filled_text(self, filled):
        first, second = (mask.pieces[0].replace("▁", " ") for mask in filled[:2])
        assert filled[0].filled == filled[1].filled == f"སངས་རྒྱས་{first}བཅོམ་{second}འདས།"
        assert filled[2].filled == filled[2].pieces[0].replace("▁", " ").strip()

    @pytest.mark.parametrize("batch_size", [1, 2])
    def test_batches(self, filled, finished_run, batch_size):
        assert_same(fill_mask(TEXTS, model=finished_run, top_k=3, batch_size=batch_size), filled)

    def test_top_k(self, filled, finished_run):
        for one, three in zip(fill_mask(TEXTS, model=finished_run, top_k=1), filled, strict=True):
            assert (one.pieces, one.filled) == (three.pieces[:1], three.filled)

    def test_a_model_in_memory(self, filled, finished_run):
        """Its methods and the functions say the same, and see what changes in the model."""
        model = TibertMaskedLM.from_preset(str(finished_run / "champion"))
        assert_same(model.fill_mask(TEXTS, top_k=3), filled)
        assert_same(tibert_keras.fill_mask(TEXTS[2], model=model, top_k=3), [filled[-1]._replace(text=0)])
        gaps = model.fill_gaps("བཅོམ་[GAP:1]་འདས།", top_k=2)
        assert gaps == tibert_keras.fill_gaps(["བཅོམ་[GAP:1]་འདས།"], model=model, top_k=2)
        logits = model.predict(TEXTS[2:], verbose=0)
        assert model.preprocessor.tokenizer.id_to_token(int(logits[0, 0].argmax())) == filled[-1].pieces[0]
        model.masked_lm_head.set_weights([0 * weight for weight in model.masked_lm_head.get_weights()])
        assert model.fill_mask(TEXTS[2], top_k=1)[0].probabilities[0] == pytest.approx(1 / 400, abs=1e-6)
        model.backbone.enable_lora(2)
        assert model.fill_mask(TEXTS[2], top_k=1)[0].probabilities[0] == pytest.approx(1 / 400, abs=1e-6)

    def test_from_a_preset_and_a_saved_model(self, filled, finished_run, exported):
        for model in (finished_run / "champion", exported):
            assert_same(fill_mask(TEXTS, model=model, top_k=3), filled)
        assert len(fill_mask(TEXTS[1:2], model=exported, top_k=10)[0].pieces) == 3

    @pytest.mark.parametrize("text", ["ཀ་[GAP:1-2]་ཁ", "ཀ་[GAP:1-2]་[MASK]", "[MASK]་[GAP:"])
    def test_a_gap_of_syllables_is_for_fill_gaps(self, text):
        with pytest.raises(InputError, match="There is a gap of syllables.*Give it to fill_gaps"):
            fill_mask([text], model="")

    def test_a_filling_that_looks_like_a_mask(self, monkeypatch):
        """An untrained model guesses anything, a mask too."""
        answer = {
            "pieces": tf.constant([[["[MASK]"], ["▁ཀ"]]]),
            "probabilities": tf.constant([[[0.5], [0.5]]]),
            "mask_count": tf.constant([2]),
        }
        loaded = SimpleNamespace(fill_mask=lambda text: answer)
        monkeypatch.setattr(sys.modules[fill_mask.__module__], "load_fill_mask", lambda *_, **__: loaded)
        first, second = fill_mask([" ག[MASK]ང[MASK]ཅ\t"], model="")
        assert first.filled == second.filled == " ག[MASK]ང ཀཅ\t"


class TestRefused:
    @pytest.mark.parametrize("texts", [None, 7, [7], [None], [b"[MASK]"], {"[MASK]": 1}, [["[MASK]"]]])
    def test_no_texts(self, texts):
        for fill in (fill_mask, fill_gaps):
            with pytest.raises(InputError, match="(come in a list|is not a string). Received: "):
                fill(texts)

    def test_no_mask(self, finished_run):
        with pytest.raises(InputError, match=r"Received: 'བཀྲ་ཤིས'. Write \[MASK\]"):
            fill_mask(["[MASK]", "བཀྲ་ཤིས"], model=finished_run)
        with pytest.raises(InputError, match=r"Received: 'ཀ{100}…'\. Write \[MASK\]"):
            fill_mask(["ཀ" * 300_000], model=finished_run)

    def test_a_text_that_is_too_long(self, finished_run):
        texts = ["[MASK]", "[MASK]ཀ", "[MASK]" * 31]
        with pytest.raises(InputError) as caught:
            fill_mask(texts, model=finished_run)
        shown = f"{texts[2][:100]}…"
        assert str(caught.value) == f"A text is longer than 32 tokens. Received: {shown!r}. Give a shorter text."

    @pytest.mark.parametrize("options", [{"top_k": 0}, {"top_k": "2"}, {"top_k": None}, {"batch_size": 1.5}])
    def test_numbers(self, finished_run, options):
        with pytest.raises(InputError, match="must be positive"):
            fill_mask(TEXTS, model=finished_run, **options)

    def test_no_model(self, tmp_path):
        with pytest.raises(InputError, match=f"Neither a preset nor a run with a champion. Received: '{tmp_path}'"):
            fill_mask(TEXTS, model=tmp_path)


def assert_same(actual: list[FilledMask], expected: list[FilledMask]) -> None:
    for ours, theirs in zip(actual, expected, strict=True):
        assert ours._replace(probabilities=[]) == theirs._replace(probabilities=[])
        assert ours.probabilities == pytest.approx(theirs.probabilities, abs=1e-5)


@pytest.fixture(scope="module")
def loaded(finished_run) -> FillMask:
    return load_fill_mask(finished_run)


class TestReadTexts:
    def test_lines(self, tmp_path):
        (tmp_path / "texts.txt").write_bytes("\ufeffཀ\n\n ཁ\r\n \nག\rང".encode())
        assert list(read_texts(tmp_path / "texts.txt")) == [(1, "ཀ"), (3, " ཁ"), (5, "ག"), (6, "ང")]
        (tmp_path / "texts.txt").write_text("\n \n")
        with pytest.raises(InputError, match="The file has no text with a gap. Received: '.*texts.txt'. Give another."):
            list(read_texts(tmp_path / "texts.txt"))

    def test_json_lines(self, tmp_path):
        (tmp_path / "texts.jsonl").write_text('{"text": "ཀ\\nཁ"}\n\n{"id": 1, "text": ""}\n')
        assert list(read_texts(tmp_path / "texts.jsonl")) == [(1, "ཀ\nཁ"), (3, "")]

    @pytest.mark.parametrize("line", ["{", "[" * 100_000, "[]", '"text"', '{"text": 1}', '{"Text": ""}', "1"])
    def test_no_object_with_a_text(self, tmp_path, line):
        (tmp_path / "texts.jsonl").write_text(f'{{"text": "ཀ"}}\n{line}\n')
        with pytest.raises(InputError, match="Line 2 is not a JSON object with a text. Received: "):
            list(read_texts(tmp_path / "texts.jsonl"))


class TestFillTexts:
    def test_pieces(self, loaded):
        filled = list(fill_texts(enumerate(TEXTS, 5), model=loaded, unit="pieces", top_k=2, batch_size=2))
        masks = fill_mask(TEXTS, model=loaded, top_k=2)
        assert [(text.number, text.text, len(text.gaps)) for text in filled] == [
            (5, TEXTS[0], 2), (6, TEXTS[1], 1), (7, TEXTS[2], 1),
        ]  # fmt: skip
        assert [[guess for guess, _ in gap] for text in filled for gap in text.gaps] == [mask.pieces for mask in masks]
        assert [text.filled for text in filled] == [masks[index].filled for index in (0, 2, 3)]

    def test_syllables(self, loaded):
        filled = list(fill_texts(enumerate(TEXTS, 1), model=loaded, top_k=2, batch_size=2))
        expected = fill_gaps(TEXTS, model=loaded, top_k=2)
        for text, gaps in zip(filled, expected, strict=True):
            assert [[guess for guess, _ in gap] for gap in text.gaps] == [[each.text for each in gap] for gap in gaps]
            assert text.filled == TEXTS[text.number - 1].replace("[MASK]", "{}").format(
                *(gap[0].text if gap else "[MASK]" for gap in gaps)
            )


class TestBadTexts:
    """The error names the text, and shows no more of it than fits in a line."""

    @pytest.mark.parametrize(
        ("unit", "bad", "message"),
        [
            ("pieces", "ཀ" * 300_000, "Text 7: There is nothing to fill. Received: 'ཀ"),
            ("pieces", "[MASK]" + "ཀ" * 300_000, "Text 7: A text is longer than 32 tokens. Received: '[MASK]ཀ"),
            ("pieces", "[GAP:1]", "Text 7: There is a gap of syllables, and here a mask is one piece."),
            ("syllables", "ཀ" * 300_000, "Text 7: There is nothing to fill. Received: 'ཀ"),
            ("syllables", "[GAP:4-2]", "Text 7: A gap is written [GAP:2-4]"),
        ],
    )
    @pytest.mark.parametrize("batch_size", [1, 4])
    def test_which_it_is(self, loaded, unit, bad, message, batch_size):
        texts = [(2, "[MASK]"), (7, bad), (9, "[MASK]")]
        with pytest.raises(InputError) as caught:
            list(fill_texts(texts, model=loaded, unit=unit, batch_size=batch_size))
        assert str(caught.value).startswith(message) and len(str(caught.value)) < 300


class TestConfig:
    """What cannot be is refused before a model is loaded, and nothing is written."""

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            (["--model=m"], "Texts come from the command line or from a file. Received: 0 texts and input_file=None"),
            (["[MASK]", "--model=m", "--input_file=f"], "Received: 1 texts and input_file='f'"),
            (["[MASK]", "--model="], "model must be a path. Received: model=''"),
            (["--model=m", "--input_file="], "input_file must be a path. Received: input_file=''"),
            (["[MASK]", "--model=m", "--output_file="], "output_file must be a path. Received: output_file=''"),
            (["[MASK]", "--model=m", "--output_file=o.csv"], "Received: 'o.csv'. Let it end in .tsv or .jsonl"),
            (["[MASK]", "--model=m", "--gap_signs=x"], "Received: gap_signs='x'. Give 1-2 for all known signs"),
            (["[MASK]", "--model=m", "--whole_text"], "Received: input_file=None, unit='syllables'. Give a .txt file"),
            (["--model=m", "--input_file=a.jsonl", "--whole_text"], "Received: input_file='a.jsonl'"),
            (["--model=m", "--input_file=a.txt", "--whole_text"], "output_file='out.tsv'. Let it end in .txt"),
            (["[MASK]", "--model=m", "--conjectures_file=c.tsv"], "conjectures_file='c.tsv', whole_text=False"),
            (["--model=m", "--input_file=a.txt", "--whole_text", "--output_file=o.txt", "--conjectures_file=c.csv"],
             "Received: conjectures_file='c.csv'. Let it end in .tsv, .json or .xml"),
            (["--model=m", "--input_file=a.txt", "--whole_text", "--output_file=c.xml", "--conjectures_file=./c.xml"],
             "Received: './c.xml' as output_file and conjectures_file"),
            (["--model=m", "--input_file=o.tsv", "--output_file=o.tsv"], "'o.tsv' as input_file and output_file"),
            (["[MASK]", "--model=m", "--top_k=0"], "top_k must be positive. Received: top_k=0"),
            (["[MASK]", "--model=m", "--batch_size=0"], "batch_size must be positive. Received: batch_size=0"),
        ],
    )  # fmt: skip
    def test_one_line(self, given, message, capsys, monkeypatch, tmp_path):
        monkeypatch.chdir(tmp_path)
        output = [] if any(word.startswith("--output_file") for word in given) else ["--output_file=out.tsv"]
        assert main(["fill-mask", *given, *output]) == 1
        out, err = capsys.readouterr()
        assert out == "" and message in err and len(err.strip().splitlines()) == 1
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("options", [{"unit": "words"}, {"top_k": 0}, {"batch_size": -1}])
    def test_from_python(self, options):
        (name, value), *_ = options.items()
        with pytest.raises(InputError, match=f"Received: {name}={value!r}"):
            list(fill_texts([(1, "[MASK]")], model="m", **options))
        with pytest.raises(InputError, match=f"Received: {name}={value!r}"):
            FillMaskConfig(text=["[MASK]"], model="m", **options)


class TestFromFileToFile:
    @pytest.fixture
    def source(self, tmp_path) -> str:
        (tmp_path / "texts.txt").write_text("\n".join([TEXTS[0], "", *TEXTS[1:]]) + "\n")
        return f"--input_file={tmp_path}/texts.txt"

    def test_json_lines(self, source, finished_run, tmp_path, capsys):
        target = tmp_path / "out.jsonl"
        given = ["fill-mask", source, f"--model={finished_run}", f"--output_file={target}", "--top_k=3"]
        assert main([*given, "--unit=pieces"]) == 0
        assert capsys.readouterr().out == f"3 texts filled in {target}\n"
        lines = [json.loads(line) for line in target.read_text().splitlines()]
        assert [(line["line"], line["text"]) for line in lines] == [(1, TEXTS[0]), (3, TEXTS[1]), (4, TEXTS[2])]
        assert [len(gap) for gap in lines[0]["gaps"]] == [3, 3] and "[MASK]" not in lines[0]["filled"]
        assert set(lines[0]["gaps"][0][0]) == {"text", "probability"}

    def test_a_table(self, source, finished_run, tmp_path, capsys):
        target = tmp_path / "out.tsv"
        given = ["fill-mask", source, f"--model={finished_run}", f"--output_file={target}", "--top_k=2"]
        assert main([*given, "--unit=pieces"]) == 0
        header, *rows = [line.split("\t") for line in target.read_text().splitlines()]
        assert header == ["line", "gap", "rank", "guess", "probability"]
        places = [("1", "1"), ("1", "2"), ("3", "1"), ("4", "1")]
        assert [tuple(row[:3]) for row in rows] == [(*place, rank) for place in places for rank in ("1", "2")]
        assert all(0 < float(row[4]) <= 1 for row in rows)

    def test_wylie(self, tmp_path):
        filled = [FilledText(1, "[MASK]", [[("ལྡན", 0.5), ("", 0.25)]], "ལྡན")]
        write_filled(filled, tmp_path / "a.tsv", show_wylie=True)
        rows = ["line\tgap\trank\tguess\tscore\twylie", "1\t1\t1\tལྡན\t0.5\tldan", "1\t1\t2\t\t0.25\t"]
        assert (tmp_path / "a.tsv").read_text(encoding="utf-8").split("\n")[:3] == rows
        write_filled(filled, tmp_path / "a.jsonl", show_wylie=True)
        assert '{"text": "ལྡན", "score": 0.5, "wylie": "ldan"}' in (tmp_path / "a.jsonl").read_text(encoding="utf-8")

    def test_a_whole_text(self, finished_run, tmp_path, capsys):
        """The text comes back with its fillings, all else as it was; the conjectures go to a table."""
        text = "\ufeff[1a] བཅོམ་\r\n[---]་འདས་\n\nབཀྲ་ཤིས།\r\n(2)ཆོས་[?]ས་…"
        (tmp_path / "folio.txt").write_bytes(text.encode())
        given = ["fill-mask", f"--model={finished_run}", f"--input_file={tmp_path}/folio.txt", "--whole_text"]
        assert main([*given, "--gap_signs=1", f"--conjectures_file={tmp_path}/c.tsv", "--top_k=2"]) == 0
        filled = capsys.readouterr().out
        _, *rows = [line.split("\t") for line in (tmp_path / "c.tsv").read_text(encoding="utf-8").splitlines()]
        best = [row[3] for row in rows if row[2] == "1"]
        assert [row[:2] for row in rows if row[2] == "1"] == [["2", "1"], ["5", "2"], ["5", "3"]]
        assert [row[5:] for row in rows if row[2] == "1"] == [
            ["", "[---]", "་འདས་"], ["(2)ཆོས་", "[?]ས", "་…"], ["(2)ཆོས་[?]ས་", "…", ""]
        ]  # fmt: skip
        assert filled == text.removeprefix("\ufeff").replace("[---]", best[0]).replace("[?]ས", best[1]).replace(
            "…", best[2]
        )
        assert best[1].endswith("ས")
        assert main([*given, "--gap_signs=1", f"--output_file={tmp_path}/out.txt"]) == 0
        assert (tmp_path / "out.txt").read_bytes().decode() == filled

    def test_a_gap_without_a_filling_keeps_its_sign(self, monkeypatch):
        def fill(texts, **_):
            return (FilledText(number, text, [[("ཐོས", 0.5)], []], "") for number, text in texts)

        monkeypatch.setattr(sys.modules[fill_texts.__module__], "fill_texts", fill)
        (filled,) = fill_file(FillMaskConfig(text=["tho[?] …/"], gap_signs="1", transliteration="ewts"))
        assert (filled.filled, filled.signs) == ("ཐོས་…།", [None, "…"])

    def test_signs_that_are_left_are_named(self, monkeypatch, caplog):
        monkeypatch.setattr(sys.modules[fill_texts.__module__], "fill_texts", lambda texts, **_: texts)
        texts = ["ཐོས་…་[MASK]་…", "[gap:1]་ཐོས་[GAP:1]་[?]"]
        for signs, named in ((None, "…, [gap:1]"), ("…=1", "[gap:1]")):
            caplog.clear()
            list(fill_file(FillMaskConfig(text=texts, gap_signs=signs, unit="pieces")))
            assert f"read as text, but may be gaps: {named}. Write [GAP:2-4], or" in caplog.text

    def test_masks_over_lines(self, loaded):
        broken = "སངས་\n[2a.1] རྒྱས་[MASK]\nབཅོམ་"
        (joined,), (mask,) = (fill_mask([text], model=loaded) for text in ("སངས་རྒྱས་[MASK]བཅོམ་", broken))
        assert mask.pieces == joined.pieces and mask.filled == broken.replace(
            "[MASK]", mask.pieces[0].replace("▁", " ")
        )

    def test_nothing_is_lost(self, loaded, tmp_path):
        """A text that cannot be filled leaves an older file as it was."""
        target = tmp_path / "out.tsv"
        target.write_text("old")
        with pytest.raises(InputError, match="There is nothing to fill"):
            write_filled(fill_texts([(1, "[MASK]"), (2, "ཀ")], model=loaded, unit="pieces"), target)
        assert target.read_text() == "old" and [path.name for path in tmp_path.iterdir()] == ["out.tsv"]

    def test_another_format(self, tmp_path):
        with pytest.raises(InputError, match=r"Received: '.*out.csv'. Let it end in .tsv or .jsonl"):
            write_filled([], tmp_path / "out.csv")
