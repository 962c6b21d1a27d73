"""Gaps as they are written, and which pieces make whole syllables in them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import tibert_keras
from tibert_keras.errors import InputError
from tibert_keras.inference.gaps import (
    _FOREIGN,
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
    has_shad_inside,
    is_well_formed,
    leading_marks,
    mark_gaps,
    readable,
    syllables_of,
)
from tibert_keras.inference.piece_table import PieceTable
from tibert_keras.tibetan import SHADS, SIGNS
from tibert_keras.transcription import GAP


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
        "gap",
        ["[GAP:4-2]", "[GAP:0]", "[GAP:1-16]", "[GAP:]", "[GAP:a]", "[GAP:2-4", "[GAP:-1]", "[GAP", "[GAP:2 shad]"],
    )
    def test_written_wrongly(self, gap):
        with pytest.raises(InputError, match=r"A gap is written \[GAP:2-4\].* Received: '\[GAP"):
            find_gaps(f"ཀ་{gap}")

    def test_too_many_masks(self):
        with pytest.raises(InputError, match="at most 16 masks. Received: 17 times"):
            find_gaps("[MASK]" * 17)

    def test_none(self):
        with pytest.raises(InputError, match="There is nothing to fill"):
            find_gaps("ཀ" * 1000)
        for sign in ("[---]", "…", "xxx", "[...]"):
            with pytest.raises(InputError, match=f"If {re.escape(sign)} is a gap, .*='{re.escape(sign)}=1-2'"):
                find_gaps(f"ཀ་{sign}་ཁ")

    @pytest.mark.parametrize(
        ("written", "syllables"),
        [
            ("[GAP]", (1, 2)),
            ("[GAP:2–4]", (2, 4)),
            ("[GAP:0-2]", (0, 2)),
            ("[GAP:9]", (9, 9)),
            ("[GAP: 7 - 15 ]", (7, 15)),
            ("[?]", (1, 1)),
            ('<gap quantity="2" unit="syllable"/>', (2, 2)),
            ("<gap reason='lost' atLeast='1' atMost='3' unit='syllables' />", (1, 3)),
            ('<gap extent="2 syllables"></gap>', (2, 2)),
            ('<gap extent="unknown" atLeast="2" atMost="3" unit="syllable"/>', (2, 3)),
            ('<gap extent="unknown" unit="line"/>', (1, 2)),
            ("<gap/>", (1, 2)),
        ],
    )
    def test_ways_to_write_one(self, written, syllables):
        (gap,) = find_gaps(f"ཀ་{written}་ཁ")
        assert (gap.syllables, gap.tokens, gap.allows_shad) == (syllables, None, True)
        assert (gap.start, gap.end) == (2, 2 + len(written))

    def test_other_units_of_tei(self):
        with pytest.raises(InputError, match="counted in syllables. Received: '<gap quantity="):
            find_gaps('ཀ<gap quantity="3" unit="cm"/>')

    def test_no_shad_inside(self):
        assert [gap.allows_shad for gap in find_gaps("[GAP:7-9 no shad]་[GAP:2]")] == [False, True]
        assert has_shad_inside("ལོ། །དེ") and not has_shad_inside("ལོ།")

    def test_partly_legible_syllables(self):
        text = "བཅོམ་ཐོ[?]་[?]ིས་སྒྲ[?]ས། [MASK]"
        assert find_gaps(text)[:3] == [
            Gap(text, 5, 10, None, (1, 1), begins="ཐོ"),
            Gap(text, 11, 16, None, (1, 1), ends="ིས"),
            Gap(text, 17, 24, None, (1, 1), begins="སྒྲ", ends="ས"),
        ]
        assert find_gaps(text)[3].around(100)[0] == "བཅོམ་[MASK]་[MASK]་[MASK]། "

    def test_signs_of_other_editors(self):
        signs = "[---] [...] [……] … ... xxx XXX ---- [ ] [–] □□ 〓 ཀxxxཁ"
        assert mark_gaps(signs, "1-2")[0] == " ".join(["[GAP:1-2]"] * 12) + " ཀ[GAP:1-2]ཁ"
        signs = "(...) {---} <…> ⟦+++⟧ ⟨- - -⟩ […?] [+ +] +++ ×× [lacuna] ▢ <gap unit='char' quantity='3'/>"
        assert mark_gaps(signs, "1-2")[0] == " ".join(["[GAP:1-2]"] * 12)
        signs = (
            "[Lacuna] [illeg.] (lost) {gap} [ca. 3] [±2] [3 syllables] [c. 2 syll. missing] [..3..] [–2–] ___ ??? ‧‧‧ "
        )
        assert mark_gaps(f"{signs}《…》 ○○ ◯", "1-2")[0] == " ".join(["[GAP:1-2]"] * 16)
        assert mark_gaps("⟨?⟩ {?} <? > ⟦??⟧", "1-2")[0] == " ".join(["[GAP:1-2]"] * 4)
        kept = "boxxx [MASK] [GAP:1] [2a] [?] ཐོ[?]་ (?) (12) ། -- x. pad+me <gap/> <gap extent='2 syllables'/>"
        assert mark_gaps(kept, "1-2") == (kept, [None] * len(GAP.findall(kept)))
        text = "ཀ[---]ཐོ[?]…[--][GAP]"
        marked = "ཀ[GAP:1-3 no shad]ཐོ[?][GAP:0–1][--][GAP]"
        assert mark_gaps(text, "[---]=1-3 no shad, …=0–1") == (marked, ["[---]", None, "…", None])
        assert mark_gaps(text, "1") == ("ཀ[GAP:1]ཐོ[?][GAP:1][GAP:1][GAP]", ["[---]", None, "…", "[--]", None])
        assert _FOREIGN.search("(---" + 20_000 * " ") is not None
        for wrong in ("", "x", "[---]", "[---]=", "=2", "[---]=1,…"):
            with pytest.raises(InputError, match="with a number of syllables. Received: gap_signs="):
                mark_gaps("ཀ", wrong)

    def test_the_page_finds_the_same(self):
        """Its script counts the gaps of a text, and the server finds them by their numbers."""
        source = (Path(tibert_keras.__file__).parent / "serving/page/text.js").read_text(encoding="utf-8")
        letters = re.search(r'const LETTERS = "(.*)";', source)[1].replace("\\\\", "\\")
        pattern = re.search(r"String.raw`(.*)`", source)[1].replace("${LETTERS}", letters)
        text = "[MASK][MASK]ཀ[GAP]་[GAP:2–4]་ཐོ[?]ས་[?]<gap/><gap unit='syllable'></gap>[GAP:9 no shad] [2a] ༸[?]࿆ [GAP"
        found = [match.span() for match in GAP.finditer(text)]
        assert len(found) == 10 and [match.span() for match in re.finditer(pattern, text)] == found
        signs = source[source.index("const SIGNS") : source.index("const FOREIGN")]
        assert "".join(re.findall("String.raw`(.*)`", signs)) == _FOREIGN.pattern
        assert {sign for sign in SIGNS if re.fullmatch(letters, sign)} == {
            sign for sign in SIGNS if GAP.match(f"{sign}[?]")
        }

    def test_fill_in(self):
        """Nothing filled in leaves one tsheg; a syllable that is legible in part is replaced as a whole."""
        assert fill_in("ཀ་[GAP:0-1]་ཁ་[GAP:0-1]།", ["", ""]) == "ཀ་ཁ་།"
        assert fill_in("ཀ་ཐོ[?]་ཁ", ["ཐོས"]) == "ཀ་ཐོས་ཁ"
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


class TestPunctuation:
    @pytest.mark.parametrize("filling", ["པ་།དང", "པ།དང", "པ་། །དང", "པ་་དང", "པ། ་དང", "པ༔དང", "པ།།དང"])
    def test_malformed(self, filling):
        assert not is_well_formed("", filling)

    @pytest.mark.parametrize("filling", ["པ། །དང", "ང་། །དང", "ངོ་། །དང", "པ། དང", "བདག །དང", "པ་དང", "པ༔ དང", ""])
    def test_well_formed(self, filling):
        assert is_well_formed("", filling)

    @pytest.mark.parametrize(
        ("before", "after", "fits"),
        [("ལོ།", "་ལྡན", True), ("ལོ། ", "", True), ("", "།", True), ("ལོ་", "་", True), ("ལོ།ཀ", "", True)],
    )
    def test_what_is_in_the_line_is_no_fault_of_the_filling(self, before, after, fits):
        assert is_well_formed(before, "ཀ", after) is fits
        assert is_well_formed("ལོ།", "་ཀ") is is_well_formed("ལོ་", "ཀ་", "།") is is_well_formed("", "ཀ་", "་") is False


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
