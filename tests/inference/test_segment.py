"""`tibert segment`: examples from sentences, a classifier of them, and texts that are cut and stay whole."""

import random
import re
from types import SimpleNamespace

import numpy as np
import pytest

from tests.support.made_up_tags import write_texts
from tibert_keras.cli.main import main
from tibert_keras.finetuning.config import FinetuneTextConfig
from tibert_keras.finetuning.text import _Classification, finetune_text
from tibert_keras.inference.segment import (
    _SECTION,
    SegmentConfig,
    cut_sections,
    section_ends,
    segment_text,
    sentence_examples,
    sentences,
)
from tibert_keras.models.tibert_text_classifier import TibertTextClassifier
from tibert_keras.runs.folder import read_config
from tibert_keras.tibetan import SHADS

# A sentence ends after སོ།, and after nothing else.
CLAUSES = ("ཆོས་བསྟན་ནས།", "གོས་ཕུལ་ཏེ།", "རྒྱལ་པོ་དང་། །", "མདོ་རྫོགས་སོ། །", "ཁྱིམ་དུ་གཤེགས་སོ།")


def clauses(seed: int, count: int) -> list[str]:
    rng = random.Random(seed)
    return [rng.choice(CLAUSES) for _ in range(count)] + [CLAUSES[-1]]


def sentences_of(text: str) -> list[str]:
    return re.findall(r".*?སོ།(?: །)?", text)


@pytest.fixture(scope="module")
def segmenter(small_preset, tmp_path_factory):
    """The folder of a fine-tuning on examples of `clauses`."""
    folder = tmp_path_factory.mktemp("segmenter")
    (folder / "sentences.txt").write_text("\n".join(sentences_of("".join(clauses(0, 100)))), encoding="utf-8")
    assert (
        main(["segment", "examples", f"--input_file={folder}/sentences.txt", f"--output_file={folder}/ends.tsv"]) == 0
    )
    scores = finetune_text(
        FinetuneTextConfig(
            input_file=f"{folder}/ends.tsv",
            output_dir=f"{folder}/run",
            model=small_preset,
            learning_rate=0.003,
            num_epochs=1,
            train_batch_size=16,
            max_seq_length=64,
            jit_compile=False,
        )  # fmt: skip
    )
    assert scores.data["labels"] == ["section", "sentence"]
    return folder / "run"


def knowing_model():
    """A stand-in for a classifier that has learned where the sentences of `clauses` end."""

    def predict_on_batch(ends):
        return np.array([[0.0, 1.0] if re.search("སོ།( །)?$", before) else [1.0, 0.0] for before in ends])

    return SimpleNamespace(
        labels=["section", "sentence"], preprocessor=lambda pairs, y: pairs[0], predict_on_batch=predict_on_batch
    )


class TestSections:
    @pytest.mark.parametrize("size", [1, 3, 1000])
    def test_nothing_is_lost(self, size):
        text = "  ཀ་ཁ། །ག\n།།\n ང" + "".join(clauses(1, 20)) + " \n\nཅ"
        blocks = [text[start : start + size] for start in range(0, len(text), size)]
        sections = list(cut_sections(blocks))
        assert "".join(sections) == text and sections == list(cut_sections([text]))
        assert sections[:3] == ["  ཀ་ཁ། །", "ག\n།།\n ", "ང" + sections[2][1:]]
        assert [end.section for end in section_ends(sections)] == sections

    @pytest.mark.parametrize("shad", SHADS)
    def test_a_section_ends_at_each_shad(self, shad):
        assert list(cut_sections([f"ཀ{shad} {shad}ཁ་ག"])) == [f"ཀ{shad} {shad}", "ཁ་ག"]

    def test_what_stands_on_both_sides(self):
        ends = list(section_ends(["ཀ་ཁ། ", "ག་ང།\n", "ཅ"]))
        assert [(end.before, end.after) for end in ends] == [
            ("ཀ་ཁ།", "ག་ང། ཅ"),
            ("ཀ་ཁ། ག་ང།", "ཅ"),
            ("ཀ་ཁ། ག་ང། ཅ", ""),
        ]
        long = list(section_ends([f"{'ཀ་' * 30}ཀ།"] * 5))
        assert all(end.before.count("ཀ") <= 20 and end.after.count("ཀ") == 10 for end in long[2:-1])

    def test_examples(self):
        assert list(sentence_examples(["ཀ།ཁ།", "ག། །"])) == [
            ("section", "ཀ།", "ཁ། ག། །"), ("sentence", "ཀ།ཁ།", "ག། །"), ("sentence", "ཀ།ཁ། ག། །", ""),
        ]  # fmt: skip

    def test_sentences_that_begin_with_shads(self):
        """Their examples are those that are seen when the text is cut."""
        lines = ["ཆོས་བསྟན་ནོ།", "།གོས་ཕུལ་ཏེ།", "།སོང་ངོ། །"]
        examples = list(sentence_examples(lines))
        assert [(label, before) for label, before, _ in examples] == [
            ("sentence", "ཆོས་བསྟན་ནོ། །"), ("sentence", "ཆོས་བསྟན་ནོ། །གོས་ཕུལ་ཏེ། །"),
            ("sentence", "ཆོས་བསྟན་ནོ། །གོས་ཕུལ་ཏེ། །སོང་ངོ། །"),
        ]  # fmt: skip
        seen = section_ends(cut_sections([f"{line}\n" for line in lines]))
        assert [(end.before, end.after) for end in seen] == [(before, after) for _, before, after in examples]
        # The first sentence ends inside a section.
        assert [label for label, _, _ in sentence_examples(["ཀ", "ཁ།ག།", "ང"])] == ["section", "sentence", "sentence"]

    def test_a_text_without_shads_is_looked_at_once(self, monkeypatch):
        looked_at = []

        class Pattern:
            def findall(self, text):
                looked_at.append(len(text))
                return _SECTION.findall(text)

        monkeypatch.setattr("tibert_keras.inference.segment._SECTION", Pattern())
        assert list(cut_sections(["ཀ་\n"] * 1000)) == ["ཀ་\n" * 1000] and looked_at == [3000]


class TestSegment:
    @pytest.mark.parametrize("batch_size", [1, 7, 100])
    def test_sentences(self, batch_size):
        text = "".join(clauses(5, 60))
        assert list(sentences(knowing_model(), [text], batch_size=batch_size)) == sentences_of(text)
        # Without an end.
        assert list(sentences(knowing_model(), [text + "གོས"], batch_size=batch_size)) == [*sentences_of(text), "གོས"]

    def test_documents(self, monkeypatch, tmp_path):
        """Empty lines and texts of the command line part them, and nothing after a document is looked at."""
        (tmp_path / "task.json").touch()
        looked_at = []

        def preprocessor(pairs, y):
            looked_at.extend(pairs[1])
            return pairs[0]

        model = knowing_model()
        model.preprocessor = preprocessor
        monkeypatch.setattr(TibertTextClassifier, "from_preset", lambda preset: model)
        texts = ["ཀ་ཁ།\nག་\n\n \nང།", "\nཅ"]
        found = list(segment_text(SegmentConfig(text=texts, model=str(tmp_path), batch_size=1)))
        assert found == ["ཀ་ཁ།\\nག་\\n\\n \\n\n", "ང།\n", "\\nཅ\n"] and looked_at == ["ག་", "", "", ""]

    def test_no_more_is_read_than_is_needed(self):
        read = 0

        def endless():
            nonlocal read
            while True:
                read += 1
                yield CLAUSES[-1]

        found = sentences(knowing_model(), endless(), batch_size=2)
        assert [next(found) for _ in range(4)] == [CLAUSES[-1]] * 4 and read < 20

    def test_a_file(self, segmenter, tmp_path, capsys):
        text = "\n".join(clauses(6, 30)) + "\nགོས་\t\\\n"
        (tmp_path / "text.txt").write_text(text, encoding="utf-8")
        given = [f"--input_file={tmp_path}/text.txt", f"--output_file={tmp_path}/out.txt"]
        assert main(["segment", *given, f"--model={segmenter}"]) == 0
        rows = (tmp_path / "out.txt").read_text(encoding="utf-8").splitlines()
        meanings = {"n": "\n", "t": "\t", "\\": "\\"}
        assert "".join(re.sub(r"\\(.)", lambda match: meanings[match[1]], row) for row in rows) == text
        assert main(["segment", text, f"--model={segmenter}"]) == 0
        assert capsys.readouterr().out.splitlines() == rows

    def test_a_segmenter_sees_what_it_was_trained_on(self, segmenter, monkeypatch):
        """The same text on the same side, though training takes it from a table."""

        def rows(inputs):
            return {(*ids, *segments) for ids, segments in zip(inputs["token_ids"], inputs["segment_ids"], strict=True)}

        config = FinetuneTextConfig(**read_config(str(segmenter)))
        trained_on = rows(_Classification(config).sequences[0])
        model = TibertTextClassifier.from_preset(str(segmenter / "champion"))
        seen = set()

        def predict_on_batch(inputs):
            arrays = {name: np.asarray(values) for name, values in inputs.items()}
            seen.update(rows(arrays))
            return np.zeros((len(arrays["token_ids"]), 2))

        monkeypatch.setattr(model, "predict_on_batch", predict_on_batch)
        text = (segmenter.parent / "sentences.txt").read_text(encoding="utf-8")
        assert "".join(sentences(model, [text])) == text
        assert len(trained_on) > 20 and trained_on <= seen

    def test_bad_input(self, segmenter, small_preset, tmp_path, capsys):
        for given, message in (
            (["No Tibetan.", f"--model={segmenter}"], "no Tibetan letter in the text"),
            (["ཀ།", f"--input_file={tmp_path}/text.txt", f"--model={segmenter}"], "Texts come from"),
            (["ཀ།", f"--model={small_preset}"], "a text classifier is needed"),
            (["ཀ།", "--batch_size=0", f"--model={segmenter}"], "batch_size must be positive"),
        ):
            assert main(["segment", *given]) == 1
            out, err = capsys.readouterr()
            assert out == "" and message in err.splitlines()[-1] and "Received: " in err.splitlines()[-1]

    def test_another_classifier(self, small_preset, tmp_path, capsys):
        config = FinetuneTextConfig(
            input_file=write_texts(tmp_path / "texts.tsv", seed=0, count=32), output_dir=str(tmp_path / "run"),
            model=small_preset, num_epochs=1, max_seq_length=32, jit_compile=False,
        )  # fmt: skip
        finetune_text(config)
        assert main(["segment", "ཀ།", f"--model={tmp_path}/run"]) == 1
        assert "does not tell where sentences end. Received: labels=['cut', 'whole']" in capsys.readouterr().err

    def test_examples_of_one_kind(self, tmp_path, capsys):
        (tmp_path / "text.txt").write_text("ཀ།\nཁ།\n", encoding="utf-8")
        given = [f"--input_file={tmp_path}/text.txt", f"--output_file={tmp_path}/ends.tsv"]
        assert main(["segment", "examples", *given]) == 1
        assert "ends of both kinds" in capsys.readouterr().err and not (tmp_path / "ends.tsv").exists()
