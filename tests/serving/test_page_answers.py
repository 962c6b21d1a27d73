"""What the page asks of the server, shows of the answers, and writes to files."""

import re
from xml.etree import ElementTree

import pytest
import requests

from tests.support.page import SHOWN, TEXT, Page
from tests.support.running import SlowFiller, fake_model, running, wait_until
from tests.support.saved_models import tagger_of
from tibert_keras.inference.conjectures import certainty
from tibert_keras.saved_model.export import export_saved_model
from tibert_keras.serving.models import load_models


class TestAsking:
    """A search is slow: it is requested only for the gap in view."""

    def requests_of(self, url, status):
        found = re.search(
            rf'requests_total{{endpoint="fill_gaps",status="{status}"}} (\d+)', requests.get(f"{url}/metrics").text
        )
        return int(found[1]) if found else 0

    @pytest.fixture
    def filler(self):
        filler = SlowFiller()
        yield filler
        filler.open.set()

    def test_a_mouse_that_passes_by(self, browser, filler):
        from selenium.webdriver import ActionChains

        filler.open.set()
        with running({"fake": fake_model(loaded=filler)}) as url:
            page = Page(browser, url)
            page.write("ཀ་[MASK]ཁ་" * 6)
            page.all(".gap")[2].click()
            page.candidates()
            steps = filler.calls
            chain = ActionChains(browser, duration=10)
            for gap in page.all(".gap"):
                chain.move_to_element(gap)
            chain.perform()
            assert page.filling(0) == "ཁ་"
            # The last, where it came to rest, and not all five that it passed first; others only if Chromium was slow.
            assert 1 <= filler.calls / steps - 1 <= 3

    def test_who_looks_away_is_not_waited_for(self, browser, filler):
        with running({"fake": fake_model(loaded=filler)}) as url:
            page = Page(browser, url)
            page.write("ཀ་[GAP:1-4]ཀ་[MASK]ཀ")
            first, second = page.all(".gap")
            first.click()
            wait_until(lambda: filler.calls)
            second.click()
            wait_until(lambda: self.requests_of(url, 499) == 1)
            filler.open.set()
            page.candidates()
            assert first.get_attribute("aria-expanded") == "false" and self.requests_of(url, 200) == 1
            # An abandoned search can be requested again.
            first.click()
            wait_until(lambda: self.requests_of(url, 200) == 2)
            assert page.candidates() and not page.all(".error")


class TestWords:
    def test_words_and_tags(self, page):
        page.one(".tagging input").click()
        wait_until(lambda: page.all(".reading .word"))
        words = [word.text.split("\n") for word in page.all(".reading .word")]
        assert words[0] == ["སངས་", "n.count"]
        assert page.one(".reading .word").get_attribute("title") == "n.count, 75%"
        assert page.driver.execute_script(SHOWN) == TEXT
        assert {each.text for each in page.all(".legend .word")} == {"n.count", "punc"}
        colours = {each.value_of_css_property("background-color") for each in page.all(".legend .word")}
        assert len(colours) == 2
        # Gaps can be filled as before.
        page.all(".gap")[0].click()
        filling = page.filling(0)
        page.candidates()[0].click()
        wait_until(lambda: page.all(".reading .word"))
        assert page.text() == TEXT.replace("[MASK]", filling)

    def test_an_exported_tagger(self, browser, exported, spm_models, tmp_path):
        export_saved_model(tagger_of(spm_models["bpe"]), tmp_path / "tagger/1")
        with running(load_models([str(exported), str(tmp_path / "tagger")], num_versions=1)) as address:
            page = Page(browser, address)
            page.write(TEXT)
            page.one(".tagging input").click()
            wait_until(lambda: page.all(".reading .word"))
            assert page.driver.execute_script(SHOWN) == TEXT
            assert {each.text for each in page.all(".legend .word")} <= {"ADP", "NOUN", "PUNCT", "CONT"}

    @pytest.mark.parametrize("shad", ["། ", ""])
    def test_a_text_that_is_longer_than_the_tagger_takes(self, page, shad):
        text = ("བཀྲ་ཤིས་བདེ་ལེགས་" + shad) * 100
        page.write(text)
        page.one(".tagging input").click()
        wait_until(lambda: page.all(".reading .word"))
        words = "return [...document.querySelectorAll('.reading .word')].map((word) => word.firstChild.textContent)"
        shown = page.driver.execute_script(words)
        # The part in view is tagged, and nothing is lost.
        assert len(shown) > 60 and text.startswith("".join(shown)) and not page.one("#message").text


class TestOutput:
    @pytest.fixture
    def filled(self, page):
        page.write("ཀ<ཁ་[MASK]་ག\nང་[GAP:1-2]")
        page.all(".gap")[0].click()
        self.filling = page.filling(0)
        self.score = page.driver.execute_script("return document.querySelector('.candidate').source.score")
        page.candidates()[0].click()
        return page

    def test_text(self, filled):
        assert filled.take("text") == ("text.txt", f"ཀ<ཁ་{self.filling}་ག\nང་[GAP:1-2]")
        filled.take("copy")

    def test_tei(self, filled):
        name, content = filled.take("tei")
        tei = {"": "http://www.tei-c.org/ns/1.0"}
        paragraph = ElementTree.fromstring(content.encode()).find(".//body/p", tei)
        supplied, line_break, gap = paragraph
        assert name == "text.xml" and paragraph.text == "ཀ<ཁ་" and supplied.text == self.filling
        assert supplied.get("cert") == certainty(self.score) and supplied.get("resp") == "#model"
        assert line_break.tag.endswith("}lb")
        assert gap.attrib == {"reason": "lost", "unit": "syllable", "atLeast": "1", "atMost": "2"}

    def test_every_mark_of_a_gap_in_tei(self, page):
        gap = '<gap reason="damage" quantity="3" unit="syllable"/>'
        state = {"text": f"\1ཐོ[?]ས་[?][GAP:9 no shad][GAP:2–3][GAP]{gap}<gap n=1/>ཀཁག", "fills": []}
        state["fills"] = [{"start": len(state["text"]) - 3, "end": len(state["text"]), "gap": "ཀ[?]ག", "cert": "low"}]
        made = page.driver.execute_async_script(
            "const [state, done] = arguments; import('/page/output.js').then(({toTei}) => done(toTei(state, 'm')))",
            state,
        )
        size = 'reason="lost" unit="syllable"'
        assert re.search("<body><p>(.*)</p></body>", made)[1] == (
            f'\ufffdཐོ<gap reason="lost"/>ས་<gap reason="lost"/><gap {size} quantity="9"/>'
            f'<gap {size} atLeast="2" atMost="3"/><gap reason="lost"/>{gap}<gap reason="lost"/>'
            'ཀ<supplied reason="lost" resp="#model" cert="low">ཁ</supplied>ག'
        )

    def test_conjectures(self, filled):
        name, content = filled.take("conjectures")
        header, row, last = content.split("\n")
        cells = dict(zip(header.split("\t"), row.split("\t"), strict=True))
        assert name == "conjectures.tsv" and last == "" and float(cells.pop("score")) == round(self.score, 3)
        assert cells == {
            "number": "1", "line": "1", "character": "4", "gap": "[MASK]", "conjecture": self.filling,
            "model": "tibert", "before": "ཀ<ཁ་", "after": "་ག ང་[GAP:1-2]",
        }  # fmt: skip

    def test_conjectures_show_the_signs_of_other_editors(self, page):
        """Also once a filling has been made a gap again, and something is typed before it."""
        page.write("ཀ་[---]་ག་⟨?⟩")
        page.one(".adopt").click()
        page.all(".gap")[1].click()
        page.candidates()[0].click()
        page.one(".fill").click()
        page.write("༄ཀ་[GAP:1-2]་ག་[GAP:1-2]")
        for _ in range(2):
            wait_until(lambda: page.text().startswith("༄"))
            page.all(".gap")[0].click()
            page.candidates()[0].click()
        _, *rows, _ = page.take("conjectures")[1].split("\n")
        assert [row.split("\t")[3] for row in rows] == ["[---]", "⟨?⟩"]

    def test_words(self, filled):
        name, content = filled.take("words")
        assert name == "words.conllu"
        sentences = [sentence.splitlines() for sentence in content.strip().split("\n\n")]
        assert len(sentences) == 2 and sentences[1][-1].split("\t")[1:4] == ["[GAP:1-2]", "_", "X"]
        assert {tuple(row.split("\t")[3:5]) for row in sentences[0][1:]} == {("X", "n.count")}
        for _, *rows in sentences:
            assert [int(row.split("\t")[0]) for row in rows] == [*range(1, len(rows) + 1)]
            assert all(len(row.split("\t")) == 10 for row in rows)
