"""Gaps as they are written, and which pieces make whole syllables in them."""

from __future__ import annotations

import numpy as np
import pytest

from tibert_keras.errors import InputError
from tibert_keras.inference.gaps import (
    LETTER,
    MARK,
    SIGN,
    SPACE,
    TSHEG_MARK,
    UNMARKED,
    Gap,
    edge,
    fill_in,
    find_gaps,
    leading_marks,
    readable,
    syllables_of,
)
from tibert_keras.inference.piece_table import PieceTable
from tibert_keras.tibetan import SHADS


class TestFindGaps:
    def test_masks_and_syllables(self):
        text = "ཀ་[MASK][MASK]་[GAP:2-4][MASK] [GAP:3]"
        assert find_gaps(text) == [
            Gap(text, 2, 14, 2, (1, 2**15)),
            Gap(text, 15, 24, None, (2, 4)),
            Gap(text, 24, 30, 1, (1, 2**15)),
            Gap(text, 31, 38, None, (3, 3)),
        ]

    def test_what_is_around(self):
        """Other gaps are masks there, and none is cut in two."""
        first, second, third = find_gaps("ཀ[GAP:2-4]་ཁ་[MASK]་ག་[MASK][MASK]་ང")
        assert second.around(100) == ("ཀ[MASK][MASK][MASK]་ཁ་", "་ག་[MASK][MASK]་ང")
        assert [second.around(reach) for reach in (0, 2, 4, 12)] == [
            ("", ""),
            ("ཁ་", "་ག"),
            ("་ཁ་", "་ག་"),
            ("[MASK][MASK][MASK]་ཁ་", "་ག་[MASK]"),
        ]
        assert find_gaps("[MASK]ཀ[MASK]")[1].around(7) == ("[MASK]ཀ", "")
        assert first.around(1) == ("ཀ", "་") and third.around(1) == ("་", "་")

    @pytest.mark.parametrize(
        "gap", ["[GAP:4-2]", "[GAP:0-2]", "[GAP:1-9]", "[GAP:]", "[GAP:a]", "[GAP:2-4", "[GAP:-1]"]
    )
    def test_written_wrongly(self, gap):
        with pytest.raises(InputError, match=r"A gap is written \[GAP:2-4\].* Received: '\[GAP:"):
            find_gaps(f"ཀ་{gap}")

    def test_too_many_masks(self):
        with pytest.raises(InputError, match="at most 16 masks. Received: 17 times"):
            find_gaps("[MASK]" * 17)

    def test_none(self):
        with pytest.raises(InputError, match="There is nothing to fill"):
            find_gaps("ཀ" * 1000)

    def test_fill_in(self):
        assert fill_in("ཀ་[MASK][MASK]་[GAP:1][MASK]", ["ཁ", None, "[MASK]"]) == "ཀ་ཁ་[GAP:1][MASK]"


class TestReadable:
    @pytest.mark.parametrize(
        ("spelled", "before", "after", "expected"),
        [
            ("བདེ་", "ཤིས་", "ལེགས", "བདེ་"),  # a letter touches the gap on the right
            ("བདེ་", "ཤིས་", "་ལེགས", "བདེ"),  # the tsheg is in the line
            ("་བདེ", "ཤིས", "་ལེགས", "་བདེ"),  # a letter touches it on the left
            (" །བདེ་ལེགས།", "།", " །", "བདེ་ལེགས"),
            ("བདེ་", "[MASK]", "[GAP:1]", "བདེ་"),
            ("ལོ། །དེ་", "འཚལ་", "ནས", "ལོ། །དེ་"),
        ],
    )
    def test_tshegs(self, spelled, before, after, expected):
        assert readable(spelled, before=before, after=after) == expected

    def test_edges(self):
        assert [edge(each) for each in ["ཀ", "ི", "ྱ", "་", "།", "༄", " ", "", "]", "༡"]] == [
            LETTER, SIGN, SIGN, TSHEG_MARK, MARK, MARK, SPACE, SPACE, MARK, LETTER,
        ]  # fmt: skip

    @pytest.mark.parametrize("mark", SHADS + "༄༆༈༓༔༼༽࿐࿙")
    def test_every_shad_head_mark_and_bracket_is_a_mark(self, mark):
        assert edge(mark) == MARK and leading_marks(f"{mark}ཀ") == mark
        assert syllables_of(f"ཀ{mark}ཁ") == ["ཀ", "ཁ"]
        assert readable(f"ཀ{mark}", before="", after="") == "ཀ" == readable("ཀ", before=mark, after=mark)


class TestPieceTable:
    PIECES = ["[MASK]", "▁", "▁ཀ་", "ཀ", "ི་", "་ཁ", "།", "ག།", "ང་ཅ་", "ཀab"]

    @pytest.fixture
    def table(self) -> PieceTable:
        return PieceTable(self.PIECES)

    def chosen(self, allowed: np.ndarray) -> list[str]:
        return [piece for piece, each in zip(self.PIECES, allowed, strict=True) if each]

    def test_may_follow(self, table):
        assert self.chosen(table.may_follow(TSHEG_MARK)) == ["ཀ", "།", "ག།", "ང་ཅ་"]
        assert self.chosen(table.may_follow(LETTER)) == ["▁", "▁ཀ་", "ཀ", "ི་", "་ཁ", "།", "ག།", "ང་ཅ་"]
        assert self.chosen(table.may_follow(SPACE)) == ["▁", "▁ཀ་", "ཀ", "།", "ག།", "ང་ཅ་"]
        assert self.chosen(table.may_follow(UNMARKED)) == ["་ཁ"]

    def test_counts(self, table):
        """A piece that goes on with a syllable brings one less."""
        assert table.counts(TSHEG_MARK, 2)[2:9].tolist() == [3, 3, 3, 3, 2, 3, 4]
        assert table.counts(SIGN, 2)[2:9].tolist() == [3, 2, 2, 3, 2, 2, 3]

    def test_may_end(self, table):
        assert self.chosen(table.may_end("", "་")) == ["▁ཀ་", "ི་", "ང་ཅ་"]
        assert self.chosen(table.may_end("ང་", "་།")) == ["།"]
        assert self.chosen(table.may_end("ང", "་།")) == []
        assert "ཀ" in self.chosen(table.may_end("", "")) and "ག།" not in self.chosen(table.may_end("", ""))
        assert "▁" not in self.chosen(table.may_end("", None))

    def test_known_text(self, table):
        assert self.chosen(table.agrees("ང་ཅ་ཀ")) == ["ང་ཅ་"]
        assert self.chosen(table.agrees("ང")) == ["ང་ཅ་"]
        assert table.goes_on("ང་") and not table.goes_on("ང་ཅ་")
        assert table.comes_before("།") and not table.comes_before("ག།")

    @pytest.mark.parametrize("syllable", ["བསྒྲུབས", "པའི", "མཁའ", "པའིའོ", "ལྷ", "ཀྱིས", "འགྲོ", "༡༢", "བྱེའུ"])
    def test_real(self, table, syllable):
        assert table.all_real([syllable])

    @pytest.mark.parametrize("syllable", ["འདདགེ", "ིས", "ྱ", "གཅིགན", "ཀིཀི"])
    def test_not_real(self, table, syllable):
        assert not table.all_real(["ཀ", syllable])

    def test_loanwords_that_pieces_have(self):
        assert PieceTable(["ཀ་བཛྲབོ་ཁ"]).all_real(["བཛྲབོ"]) and not PieceTable(["བཛྲབོ་ཁ"]).all_real(["བཛྲབོ"])
