"""Whole syllables for gaps: what comes out is what fits, from any kind of model, and the likeliest is found."""

import os
import re
from itertools import product
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.support.running import SlowFiller
from tibert_keras.errors import InputError
from tibert_keras.inference.fill import fill_gaps
from tibert_keras.inference.gap_model import GapModel, MaskedWindow
from tibert_keras.inference.gap_search import Candidate, _Search
from tibert_keras.inference.gaps import SPACE, edge, find_gaps, is_well_formed, syllables_of
from tibert_keras.inference.loading import load_fill_mask
from tibert_keras.inference.piece_table import Completions, PieceTable
from tibert_keras.models.tibert_masked_lm import TibertMaskedLM
from tibert_keras.saved_model.fill_mask import FillMask
from tibert_keras.tibetan import SHADS, TSHEGS
from tibert_keras.transcription import join_lines, plain_marks

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="its model is a TensorFlow module")

TEXTS = ["བཅོམ་ལྡན་[GAP:1-2]་ལ་ཕྱག་འཚལ་ལོ།", "སངས་རྒྱས་[MASK][MASK]ཐམས་ཅད", "[GAP:2]", "ཆོས་[GAP:1] །ནམ་[MASK]"]


@pytest.fixture(scope="module")
def loaded(finished_run) -> FillMask:
    return load_fill_mask(finished_run)


@pytest.fixture(scope="module")
def answers(loaded) -> list[list[list[Candidate]]]:
    return fill_gaps(TEXTS, model=loaded, top_k=4)


class Oracle:
    """A model that knows one line, and gives each of its pieces, where all before it agrees, nearly all probability."""

    def __init__(self, loaded: FillMask, line: str) -> None:
        self.vocabulary, self.tokenize = loaded.vocabulary, loaded.tokenize
        row = loaded.tokenize(tf.constant([line]))["token_ids"].numpy()[0]
        self.line, self.size = row, len(loaded.vocabulary()["pieces"])

    def masked_lm(self, token_ids, padding_mask, segment_ids, mask_positions):
        logits = np.zeros((len(token_ids), 1, self.size), "float32")
        for row, (ids, (place,)) in enumerate(zip(token_ids.numpy(), mask_positions.numpy(), strict=True)):
            same_length = int(padding_mask[row].numpy().sum()) == len(self.line)
            if same_length and (ids[:place] == self.line[:place]).all():
                logits[row, 0, self.line[place]] = 20
        return {"logits": tf.constant(logits)}


class TestFillGaps:
    def test_shapes_and_order(self, answers):
        assert [len(gaps) for gaps in answers] == [1, 1, 1, 2]
        for candidates in (each for gaps in answers for each in gaps):
            assert len(candidates) <= 4
            scores = [candidate.score for candidate in candidates]
            assert scores == sorted(scores, reverse=True) and all(0 <= score <= 1 for score in scores)
            assert len({candidate.text for candidate in candidates}) == len(candidates)

    def test_whole_syllables_only(self, answers):
        found = [candidate for gaps in answers for candidates in gaps for candidate in candidates]
        assert found
        for candidate in found:
            syllables = syllables_of(candidate.text)
            assert len(syllables) == candidate.syllables >= 1
            # None begins with a sign that stands on a letter.
            assert not [each for each in syllables if re.match("[\u0f71-\u0f84\u0f8d-\u0fbc]", each)]

    def test_as_many_as_asked_for(self, answers):
        assert all(1 <= candidate.syllables <= 2 for candidate in answers[0][0])
        assert all(candidate.syllables == 2 for candidate in answers[2][0])
        assert all(candidate.syllables == 1 for candidate in answers[3][0])

    def test_tshegs_as_in_the_line(self, answers):
        assert not [each for each in answers[0][0] if each.text.endswith("་") or each.text.startswith("་")]
        assert all(each.text.endswith("་") for each in answers[1][0])

    def test_a_saved_model(self, answers, exported):
        for ours, theirs in zip(fill_gaps(TEXTS, model=exported, top_k=4), answers, strict=True):
            for some, others in zip(ours, theirs, strict=True):
                assert [each.text for each in some] == [each.text for each in others]
                assert [each.score for each in some] == pytest.approx([each.score for each in others], abs=1e-5)

    def test_one_text_at_a_time(self, loaded, answers):
        for text, expected in zip(TEXTS, answers, strict=True):
            (gaps,) = fill_gaps([text], model=loaded, top_k=4)
            assert [[each.text for each in candidates] for candidates in gaps] == [
                [each.text for each in candidates] for candidates in expected
            ]

    def test_no_texts(self, loaded):
        assert fill_gaps([], model=loaded) == []

    @pytest.mark.parametrize("before, after", [("བཅོམ་ལྡན་", "་ཀྱིས་བཀའ་"), ("བཅོམ་ལྡན", "།"), ("", "་དང་།"), ("ལ་", " །དེ")])
    @pytest.mark.parametrize("gap, filling", [("[GAP:1-3]", "འདས"), ("[GAP:2]", "རྒྱལ་པོ")])
    def test_what_the_model_knows_is_found(self, loaded, before, after, gap, filling):
        tsheg = "" if before.endswith(("་", " ")) or not before else "་"
        oracle = Oracle(loaded, f"{before}{tsheg}{filling}{after}")
        (((best, *_),),) = fill_gaps([f"{before}{gap}{after}"], model=oracle)
        assert best.text == f"{tsheg}{filling}" and best.score > 0.5

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            ("བཅོམ་ལྡན་", "༌ཀྱིས་བཀའ་"),
            ("བཅོམ༌ལྡན༌", "༔"),
            ("བཅོམ་ལྡན་", "༑ དེ་ནས"),
            ("བཅོམ་ལྡན་", "༎"),
            ("ཕྱག་འཚལ་ལོ༎ ༎བཅོམ་ལྡན་", "༏"),
            ("ཕྱག་འཚལ་ལོ༎བཅོམ་ལྡན་", "༎དེ་ནས"),
            ("བཅོམ་\nལྡན་\n", "་ཀྱིས་\nབཀའ་"),
            ("བཅོམ་\n[2a.1] ལྡན་(12)", "\n{D12}ཀྱིས་བཀའ་"),
            ("བཅོམ་ལྡན\n", "ཀྱིས་"),
        ],
    )
    def test_any_mark_and_any_line(self, loaded, before, after):
        """The right syllable comes before each tsheg and shad, and over lines and markers."""
        plain = plain_marks(join_lines(f"{before}འདས{'' if after.startswith(tuple(TSHEGS + SHADS)) else '་'}{after}"))
        # Editions have a space after a shad.
        plain = plain.replace("ལྡནའདས", "ལྡན་འདས").replace("ལོ།བ", "ལོ། བ").replace("ས།ད", "ས། ད")
        oracle = Oracle(loaded, plain)
        (((best, *others),),) = fill_gaps([f"{before}[GAP:1]{after}"], model=oracle)
        assert best.text.strip("་") == "འདས" and best.score > 0.5
        for candidate in (best, *others):
            assert is_well_formed(before, candidate.text, after) and not before[-1] == candidate.text[0] == "་"

    @pytest.mark.parametrize(
        ("gap", "syllable"), [("འད[?]", "འདས"), ("[?]ས", "འདས"), ("འ[?]ས", "འདས"), ("[?]", "འདས"), ("འདས[?]", "འདས")]
    )
    def test_a_partly_legible_syllable(self, loaded, gap, syllable):
        oracle = Oracle(loaded, f"བཅོམ་ལྡན་{syllable}་ཀྱིས་བཀའ་")
        (((best, *others),),) = fill_gaps([f"བཅོམ་ལྡན་{gap}་ཀྱིས་བཀའ་"], model=oracle, top_k=8)
        assert best.text == syllable
        begins, ends = gap.split("[?]")
        for candidate in (best, *others):
            assert candidate.text.startswith(begins) and candidate.text.endswith(ends) and candidate.syllables == 1

    def test_perhaps_nothing_is_missing(self, loaded):
        oracle = Oracle(loaded, "བཅོམ་ལྡན་འདས་ཀྱིས་བཀའ་")
        (((best, *_),),) = fill_gaps(["བཅོམ་ལྡན་[GAP:0-2]་འདས་ཀྱིས་བཀའ་"], model=oracle)
        assert (best.text, best.syllables) == ("", 0) and best.score > 0.5

    def test_a_line_of_verse(self, loaded):
        verse = "བཅོམ་ལྡན་འདས་ལ་ཕྱག་འཚལ་བཅོམ་ལྡན་འདས"
        oracle = Oracle(loaded, f"བཅོམ་ལྡན་འདས་ལ་{verse}།")
        (((best, *others),),) = fill_gaps(["བཅོམ་ལྡན་འདས་ལ་[GAP:9 no shad]།"], model=oracle)
        assert best.text == verse
        assert not [each for each in others if set(each.text) & set(SHADS)]

    def test_a_text_longer_than_the_model(self, loaded):
        """The model sees 32 tokens around the gap, wherever it is."""
        text = "བཀྲ་ཤིས་" * 400
        (gaps,) = fill_gaps([f"[GAP:1]{text}[MASK]{text}[GAP:1]"], model=loaded, top_k=2)
        assert [len(candidates) for candidates in gaps] == [2, 2, 2]

    def test_other_scripts_around(self, loaded):
        (gaps,) = fill_gaps(["Folio 3a (damaged): [GAP:1-2]. 漢字"], model=loaded, top_k=2)
        assert gaps[0]


class TestNothingInVain:
    def test_the_same_without_short_cuts(self, loaded, answers, monkeypatch):
        """What cannot be completed is left out, which changes no candidate."""
        windows: list[list[MaskedWindow]] = []
        predict = GapModel._predict
        monkeypatch.setattr(GapModel, "_predict", lambda self, some: windows.append(some) or predict(self, some))
        assert fill_gaps(TEXTS, model=loaded, top_k=4) == answers
        assert all(len(set(some)) == len(some) for some in windows)
        count = sum(map(len, windows))
        windows.clear()
        monkeypatch.setattr(_Search, "_with_a_future", lambda self, beams: beams)
        for ours, theirs in zip(fill_gaps(TEXTS, model=loaded, top_k=4), answers, strict=True):
            for some, others in zip(ours, theirs, strict=True):
                assert [each.text for each in some] == [each.text for each in others]
                assert [each.score for each in some] == pytest.approx([each.score for each in others], abs=1e-5)
        assert count < sum(map(len, windows))

    @pytest.mark.parametrize("ending", [None, "", "་", "།", "་།"])
    @pytest.mark.parametrize("syllables", [(1, 1), (2, 3)])
    def test_what_can_be_completed(self, syllables, ending):
        """Against all rows of pieces of a small vocabulary."""
        table, (low, high) = PieceTable(["[MASK]", "ཀ་", "ཀ", "ི་", "།", "▁ང་", "་"]), syllables

        def found(missing: int, text: str = "", last: int = SPACE, count: int = 0) -> bool:
            if not missing:
                return True
            counts = table.counts(last, count)
            allowed = table.may_follow(last) & (counts <= high)
            if missing == 1:
                allowed &= (counts >= low) & table.may_end(text, ending)
            return any(
                found(missing - 1, text + piece, edge(piece[-1:]), int(counts[number]))
                for number, piece in enumerate(table.pieces)
                if allowed[number]
            )

        completions = Completions(table)
        for missing in (1, 2, 3):
            assert completions.is_possible(SPACE, 0, missing, syllables, ending) == found(missing)


class TestScores:
    @pytest.mark.parametrize("text", ["བཅོམ་ལྡན་[GAP:1-2]་ལ་ཕྱག་འཚལ་ལོ།", "སངས་རྒྱས་[MASK][MASK]་ཐམས་ཅད།"])
    def test_the_definition_written_out(self, loaded, text):
        mask, (gap,) = loaded.vocabulary()["pieces"].numpy().tolist().index(b"[MASK]"), find_gaps(text)
        ((candidates,),) = fill_gaps([text], model=loaded, top_k=3)
        with_mask = tokens_of(loaded, f"{text[: gap.start]}[MASK]{text[gap.end :]}")

        def log_probability(ids, place, num_masks):
            row = tf.constant([[*ids[:place], *[mask] * num_masks, *ids[place + num_masks :]]])
            logits = loaded.masked_lm(row, tf.ones_like(row), tf.zeros_like(row), tf.constant([[place]]))["logits"]
            return float(tf.nn.log_softmax(logits[0, 0])[ids[place]])

        for candidate in candidates:
            ids = tokens_of(loaded, f"{text[: gap.start]}{candidate.text}{text[gap.end :]}")
            start = len(os.path.commonprefix([ids, with_mask]))
            end = len(ids) - len(os.path.commonprefix([ids[start:][::-1], with_mask[start:][::-1]]))
            assert candidate.syllables and 1 < start < end < len(ids) - 1
            by_itself = sum(log_probability(ids, place, 1) for place in range(start, end))
            in_turn = sum(log_probability(ids, place, end - place) for place in range(start, end))
            beside = log_probability(ids, start - 1, 1) + log_probability(ids, end, 1)
            mean = ((by_itself + in_turn) / 2 + beside / 4) / (candidate.syllables + 2 / 4)
            assert candidate.score == pytest.approx(np.exp(mean), 1e-4)

    def test_longer_fillings_have_a_fair_chance(self):
        """Each of their pieces is likelier than the piece of a short one; all together they are less likely."""

        class Letters(SlowFiller):
            PIECES = (*SlowFiller.PIECES[:5], *(f"{letter}་" for letter in "ཀཁགངཅཆཇཉཏཐ"))

            def masked_lm(self, token_ids, **_):
                # Of ཀ་, the filling and ཀ: ten pieces alike for one, three for two, and those still likelier for three.
                share = {6: 0.3, 7: 0.33}
                rows = [share.get(int((row > 0).sum()), 0.1) for row in token_ids.numpy()]
                probabilities = np.full((len(rows), 1, len(self.PIECES)), 1e-6, "float32")
                for row, each in enumerate(rows):
                    probabilities[row, 0, 5:] = (1 - 3 * each) / 7 + 1e-6
                    probabilities[row, 0, 5:8] = each
                return {"logits": tf.math.log(probabilities)}

        ((candidates,),) = fill_gaps(["ཀ་[GAP:1-3]ཀ་"], model=Letters(), top_k=5)
        assert {candidate.syllables for candidate in candidates} == {3}
        assert candidates[0].score == pytest.approx(0.33, rel=1e-3)

    def test_no_more_than_a_thousand(self):
        """However many are asked for: a search of more would take long, for guesses that mean nothing."""

        class Syllables(SlowFiller):
            VOWELS, FINALS = ("", "ི", "ུ", "ེ", "ོ"), ("", "ག", "ང", "ད", "ན", "བ", "མ", "ར", "ལ")
            PIECES = (
                *SlowFiller.PIECES[:5],
                *map("".join, product("ཀཁགངཅཆཇཉཏཐདནཔཕབམཙཚཛཝཞཟའཡརལཤས", VOWELS, FINALS, "་")),
            )

            def masked_lm(self, token_ids, **_):
                return {"logits": tf.zeros((len(token_ids), 1, len(self.PIECES)))}

        ((candidates,),) = fill_gaps(["ཀ་[MASK]ཀ་"], model=Syllables(), top_k=5000)
        assert len(Syllables.PIECES) > 1100 and len(candidates) == 1000


def tokens_of(loaded, text):
    return loaded.tokenize(tf.constant([text]))["token_ids"].numpy()[0].tolist()


class TestRefused:
    def test_top_k(self, loaded):
        with pytest.raises(InputError, match="Received: top_k=0"):
            fill_gaps(TEXTS, model=loaded, top_k=0)

    def test_an_older_saved_model(self):
        with pytest.raises(InputError, match="of an older version"):
            GapModel(SimpleNamespace())


def test_a_tokenizer_that_cuts_at_tshegs(finished_run):
    from tibert_keras import TibertMaskedLMPreprocessor, TibertTokenizer

    model = TibertMaskedLM.from_preset(finished_run / "champion")
    cut = TibertTokenizer(model.preprocessor.tokenizer.proto, tsheg_pretokenization=True)
    loaded = FillMask(TibertMaskedLM(model.backbone, TibertMaskedLMPreprocessor(cut, sequence_length=32)))
    oracle = Oracle(loaded, "བཅོམ་ལྡན་འདས་ཀྱིས།")
    ((candidates,),) = fill_gaps(["བཅོམ་ལྡན་[GAP:1-2]ཀྱིས།"], model=oracle)
    assert candidates[0].text == "འདས་"
