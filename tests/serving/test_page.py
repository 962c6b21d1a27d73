"""The page for filling gaps, in a real Chromium: with a mouse, with keys, and on a telephone."""

from __future__ import annotations

import re
import shutil
from xml.etree import ElementTree

import numpy as np
import pytest
import requests
import tensorflow as tf

from tests.support.running import SlowFiller, fake_model, running, signature, wait_until
from tests.support.saved_models import tagger_of
from tibert_keras.corpus.transliteration import to_wylie
from tibert_keras.inference.conjectures import certainty
from tibert_keras.saved_model.export import export_saved_model
from tibert_keras.serving.models import load_models

TEXT = "སངས་རྒྱས་[MASK]་འདས། བཀྲ་ཤིས་[GAP:1-2]་ལེགས།"
# The words, without their tags, and the gaps.
SHOWN = (
    "return [...document.querySelector('.block').childNodes]"
    ".map((node) => node.className === 'gap' ? node.textContent : node.firstChild.textContent).join('')"
)


@pytest.fixture(scope="module")
def browser():
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        pytest.skip("needs a browser: `apt-get install chromium chromium-driver`")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    # Root has no sandbox, and containers have little shared memory.
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1200,900"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    yield driver
    driver.quit()


def tagger():
    """A signature `tag`: each syllable is a word, and punctuation if it ends in a shad; at most 60 syllables."""

    def tag(text):
        rows = [re.findall("[^་]*་|[^་]+", each.decode()) for each in text]
        if max(map(len, rows)) > 60:
            raise tf.errors.InvalidArgumentError(None, None, "A text is longer than 60 tokens.")
        width = max(map(len, rows))
        kinds = [["punc" if "།" in word else "n.count" for word in row] for row in rows]
        sure = [[0.75] * len(row) + [0.0] * (width - len(row)) for row in rows]
        return {
            name: [[word.encode() for word in row] + [b""] * (width - len(row)) for row in table]
            for name, table in (("words", rows), ("tags", kinds))
        } | {"probabilities": np.array(sure, "float32")}

    padded = tf.TensorSpec([None, None], tf.string)
    outputs = {"words": padded, "tags": padded, "probabilities": tf.TensorSpec([None, None], tf.float32)}
    return signature(tag, {"text": tf.TensorSpec([None], tf.string)}, outputs)


@pytest.fixture(scope="module")
def url(exported):
    models = load_models([str(exported)], num_versions=1)
    models["tibert"].versions[1].signatures["tag"] = tagger()
    with running(models) as address:
        yield address


class Page:
    """The page, with ways to find and change its elements."""

    def __init__(self, driver, url):
        self.driver = driver
        driver.get(url)
        driver.execute_script("localStorage.clear()")
        driver.get(url)
        wait_until(lambda: self.all("textarea"))

    def all(self, selector):
        return self.driver.find_elements("css selector", selector)

    def one(self, selector):
        return wait_until(lambda: self.all(selector))[0]

    def write(self, text, panel=0):
        """Set the text, as pasting does."""
        self.driver.execute_script(
            "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input'))",
            self.all("textarea")[panel],
            text,
        )
        reading = "return document.querySelectorAll('.reading')[arguments[0]].textContent"
        wait_until(lambda: self.driver.execute_script(reading, panel) == text)

    def text(self, panel=0):
        return self.all("textarea")[panel].get_property("value")

    def press(self, *keys):
        from selenium.webdriver import ActionChains

        chain = ActionChains(self.driver)
        *held, last = keys
        for key in held:
            chain.key_down(key)
        chain.send_keys(last)
        for key in held:
            chain.key_up(key)
        chain.perform()

    def bring_into_sight(self, element):
        """Scroll to an element before a click: layout on the way moves everything below it."""
        box = "const {top, bottom} = arguments[0].getBoundingClientRect(); return [top, bottom, innerHeight]"
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
        boxes = [None]

        def is_at_rest():
            boxes.append(self.driver.execute_script(box, element))
            top, bottom, height = boxes[-1]
            return boxes[-1] == boxes[-2] and 0 <= top < bottom <= height

        wait_until(is_at_rest)
        return element

    def take(self, form):
        """Choose how to copy or download the first text; returns the name and the content of the file."""
        self.driver.execute_script(
            "window.taken = null;"
            "URL.createObjectURL = (blob) => { blob.text().then((text) => { window.content = text }); return '#' };"
            "HTMLAnchorElement.prototype.click = function () { window.taken = this.download };"
            "const take = document.querySelector('.take'); take.value = arguments[0]; window.content = null;"
            "take.dispatchEvent(new Event('change'))",
            form,
        )
        if form == "copy":
            return None
        wait_until(lambda: self.driver.execute_script("return window.taken && window.content !== null"))
        return tuple(self.driver.execute_script("return [window.taken, window.content]"))

    def candidates(self):
        return wait_until(lambda: self.all(".candidate"))

    def filling(self, index):
        return self.candidates()[index].find_element("class name", "syllables").text


@pytest.fixture
def page(browser, url):
    page = Page(browser, url)
    page.write(TEXT)
    return page


@pytest.fixture
def keys(browser):
    from selenium.webdriver.common.keys import Keys

    return Keys


class TestFilling:
    def test_candidates_are_those_of_the_server(self, page, url):
        page.all(".gap")[0].click()
        answer = requests.post(f"{url}/v1/models/tibert:fillGaps", json={"texts": [TEXT], "top_k": 9}).json()
        expected = answer["texts"][0]["gaps"][0]["candidates"]
        assert [item.find_element("class name", "syllables").text for item in page.candidates()] == [
            candidate["text"].strip() for candidate in expected
        ]
        frame, bar = (page.one(name).size["width"] for name in (".bar", ".sure"))
        assert bar / frame == pytest.approx(expected[0]["score"], abs=0.02)
        # No percentage: scores are no probabilities.
        scores = [candidate["score"] for candidate in expected]
        shown = ["<0.01" if score < 0.01 else f"{score:.2f}" for score in scores]
        assert [score.text for score in page.all(".score")] == shown and "%" not in page.one(".candidates").text

    def test_accept_undo_redo(self, page, keys):
        page.all(".gap")[0].click()
        filling = page.filling(1)
        page.candidates()[1].click()
        filled = TEXT.replace("[MASK]", filling)
        assert page.text() == filled and page.one(".fill").text == filling and len(page.all(".gap")) == 1
        page.one(".undo").click()
        assert page.text() == TEXT and len(page.all(".gap")) == 2 and not page.all(".fill")
        page.one(".redo").click()
        assert page.text() == filled
        page.press(keys.CONTROL, "z")
        assert page.text() == TEXT
        page.press(keys.CONTROL, keys.SHIFT, "z")
        assert page.text() == filled

    def test_a_filling_can_be_made_a_gap_again(self, page):
        page.all(".gap")[0].click()
        page.candidates()[0].click()
        page.one(".fill").click()
        assert page.text() == TEXT

    def test_with_keys_alone(self, page, keys):
        page.one("textarea").click()
        page.press(keys.CONTROL, keys.ENTER)
        first = page.filling(0)
        page.press(keys.ARROW_DOWN)
        page.press(keys.ENTER)
        # On to the second gap.
        second = page.filling(1)
        page.press("2")
        assert page.text() == TEXT.replace("[MASK]", first).replace("[GAP:1-2]", second)
        page.press(keys.CONTROL, "z")
        page.one("textarea").click()
        page.press(keys.CONTROL, keys.ENTER)
        page.candidates()
        page.press(keys.ESCAPE)
        assert not page.all(".candidates")

    def test_marking_a_gap(self, page, keys):
        page.write("བཀྲ་ཤིས་བདེ་ལེགས།")
        page.driver.execute_script("document.querySelector('textarea').setSelectionRange(8, 11)")
        page.one(".gap-button").click()
        assert page.text() == "བཀྲ་ཤིས་[GAP:1-2]་ལེགས།"
        page.one(".length option[value='[GAP:2-4]']").click()
        page.one("textarea").click()
        page.press(keys.CONTROL, keys.END)
        page.press(keys.ALT, "g")
        assert page.text() == "བཀྲ་ཤིས་[GAP:1-2]་ལེགས།[GAP:2-4]" and len(page.all(".gap")) == 2

    def test_what_is_written_after_a_filling_leaves_it_marked(self, page, keys):
        page.all(".gap")[0].click()
        filling = page.filling(0)
        page.candidates()[0].click()
        page.one("textarea").click()
        page.press(keys.CONTROL, keys.HOME)
        page.press("༄")
        wait_until(lambda: page.one(".reading").text.startswith("༄"))
        assert page.one(".fill").text == filling

    def test_a_gap_that_cannot_be_filled_is_explained(self, page):
        page.write("བཀྲ་ཤིས་[GAP:4-2]")
        page.one(".gap").click()
        assert "A gap is written [GAP:2-4]" in wait_until(lambda: page.one(".note.error").text)

    def test_marks_of_other_editions_are_offered(self, page):
        page.write('ཀ་[---]་ཁ་<gap unit="syllable" quantity="2"/>་ག་…')
        assert "[---]" in page.one(".foreign").text
        page.one(".adopt").click()
        assert page.text() == "ཀ་[GAP:1-2]་ཁ་[GAP:2]་ག་[GAP:1-2]" and len(page.all(".gap")) == 3
        assert not page.one(".foreign").is_displayed()
        page.one(".undo").click()
        assert page.text().startswith("ཀ་[---]")

    def test_markup_is_never_taken_for_text_silently(self, page):
        page.write('<p n="1">ཀ་<gap/>་ཁ<lb/>ག་</p>')
        assert page.one(".markup").text.startswith('This looks like markup: <p n="1"> <lb/> </p>')
        page.one(".strip").click()
        assert page.text() == "ཀ་<gap/>་ཁ\nག་" and not page.one(".markup").is_displayed()

    def test_wylie_beside_the_candidates(self, page):
        assert not page.one(".wylie input").is_selected()
        page.one(".wylie input").click()
        page.all(".gap")[1].click()
        page.candidates()
        shown = [(page.filling(index), each.text) for index, each in enumerate(page.all(".latin-letters"))]
        assert shown and all(to_wylie(filling) == wylie for filling, wylie in shown)

    def test_a_text_in_wylie_is_converted(self, page):
        page.write("bkra [GAP:1] bde legs/\nka")
        page.one(".gap").click()
        assert "looks like Wylie" in wait_until(lambda: page.one(".note.error").text)
        page.one(".tagging input").click()
        assert not page.all(".word")
        page.one(".convert").click()
        wait_until(lambda: page.text() == "བཀྲ་[GAP:1]་བདེ་ལེགས།\nཀ")
        assert wait_until(lambda: page.all(".word")) and not page.one(".latin").is_displayed()
        page.one(".undo").click()
        page.write("Hello [GAP:1]")
        page.one(".convert").click()
        assert "no Tibetan in the text" in wait_until(lambda: page.one("#message").text)

    def test_the_example(self, browser, url):
        page = Page(browser, url)
        # All that is needed to begin is in sight.
        shown = "const box = arguments[0].getBoundingClientRect(); return box.top >= 0 && box.bottom <= 650"
        for selector in ("#intro", "#example", ".gap-button", "textarea"):
            assert page.driver.execute_script(shown, page.one(selector))
        page.one("#example").click()
        assert page.candidates() and len(page.all(".gap")) == 2


class TestNothingIsLost:
    def test_a_reload(self, page, url):
        page.all(".gap")[0].click()
        page.candidates()[0].click()
        filled = page.text()
        page.one("#new-text").click()
        page.write("ཀ་[GAP:1]་ཁ", panel=1)
        page.driver.get(url)
        wait_until(lambda: len(page.all(".panel")) == 2)
        assert [page.text(0), page.text(1)] == [filled, "ཀ་[GAP:1]་ཁ"] and len(page.all(".fill")) == 1

    def test_closing_is_undone(self, page):
        page.one(".gap-button").click()
        changed = page.text()
        page.one(".close").click()
        assert page.text() == ""
        page.one("#reopen").click()
        assert [area.get_property("value") for area in page.all("textarea")] == [changed] != [TEXT]
        # With its history.
        page.one(".undo").click()
        assert page.text() == TEXT

    def test_a_warning_before_leaving(self, page, url):
        unload = (
            "const event = new Event('beforeunload', {cancelable: true});"
            "dispatchEvent(event); return event.defaultPrevented"
        )
        assert page.driver.execute_script(unload)
        page.take("text")
        assert not page.driver.execute_script(unload)
        page.write("ཀ")
        page.driver.execute_script("Storage.prototype.setItem = () => { throw new Error() }")
        page.write("ཁ")
        assert page.driver.execute_script(unload) and "cannot keep" in page.one("#message").text

    def test_two_windows_show_one_text(self, page, url):
        first = page.driver.current_window_handle
        page.driver.switch_to.new_window("tab")
        page.driver.get(url)
        wait_until(lambda: page.all("textarea"))
        page.write("ཀ་ཁ")
        page.driver.close()
        page.driver.switch_to.window(first)
        wait_until(lambda: page.text() == "ཀ་ཁ")
        page.one(".undo").click()
        assert page.text() == TEXT


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
        state = {"text": f"ཐོ[?]ས་[?][GAP:9 no shad][GAP:2–3][GAP]{gap}<gap n=1/>ཀཁག", "fills": []}
        state["fills"] = [{"start": len(state["text"]) - 3, "end": len(state["text"]), "gap": "ཀ[?]ག", "cert": "low"}]
        made = page.driver.execute_async_script(
            "const [state, done] = arguments; import('/page/output.js').then(({toTei}) => done(toTei(state, 'm')))",
            state,
        )
        size = 'reason="lost" unit="syllable"'
        assert re.search("<body><p>(.*)</p></body>", made)[1] == (
            f'ཐོ<gap reason="lost"/>ས་<gap reason="lost"/><gap {size} quantity="9"/>'
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

    def test_words(self, filled):
        name, content = filled.take("words")
        assert name == "words.conllu"
        sentences = [sentence.splitlines() for sentence in content.strip().split("\n\n")]
        assert len(sentences) == 2 and sentences[1][-1].split("\t")[1:4] == ["[GAP:1-2]", "_", "X"]
        assert {tuple(row.split("\t")[3:5]) for row in sentences[0][1:]} == {("X", "n.count")}
        for _, *rows in sentences:
            assert [int(row.split("\t")[0]) for row in rows] == [*range(1, len(rows) + 1)]
            assert all(len(row.split("\t")) == 10 for row in rows)


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


class TestSeveralTexts:
    def test_side_by_side(self, page):
        page.one(".copy").click()
        first, second = page.all(".panel")
        assert first.location["y"] == second.location["y"] and first.location["x"] < second.location["x"]
        assert page.text(1) == TEXT
        second.find_element("class name", "gap").click()
        page.candidates()[0].click()
        assert page.text(0) == TEXT != page.text(1)
        page.one("#new-text").click()
        assert [page.text(index) for index in (0, 2)] == [TEXT, ""]
        for _ in range(3):
            page.one(".close").click()
        assert [area.get_property("value") for area in page.all("textarea")] == [""]


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


class TestAnyPlace:
    def test_a_long_text(self, page):
        """Half a million characters and a thousand gaps: only those in view cause requests."""
        text = ("སངས་རྒྱས་བཅོམ་ལྡན་འདས་ལ་ཕྱག་འཚལ་ལོ། ། " * 12 + "བཀྲ་[MASK]་བདེ། ། ") * 1000
        page.driver.execute_script(
            "const area = document.querySelector('textarea');"
            "area.value = arguments[0]; area.dispatchEvent(new Event('input'))",
            text,
        )
        wait_until(lambda: len(page.all(".gap")) == 1000, seconds=60)
        page.bring_into_sight(page.all(".gap")[999]).click()
        filling = page.filling(0)
        page.candidates()[0].click()
        assert page.text() == f"{text.rpartition('[MASK]')[0]}{filling}{text.rpartition('[MASK]')[2]}"

    def test_a_telephone(self, page, url):
        page.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True},
        )
        try:
            page.driver.get(url)
            page.write(TEXT)
            page.all(".gap")[0].click()
            page.candidates()
            width = page.driver.execute_script("return document.documentElement.scrollWidth")
            assert width == page.driver.execute_script("return innerWidth") == 390
            for button in page.all(".candidate, .tools button"):
                # Large enough for a finger, in CSS pixels.
                assert button.size["height"] >= 44 and button.location["x"] + button.size["width"] <= 390
        finally:
            page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})

    def test_nothing_is_fetched_from_elsewhere_and_nothing_fails(self, browser, url):
        browser.get_log("browser"), browser.get_log("performance")
        page = Page(browser, url)
        page.write(TEXT)
        page.all(".gap")[0].click()
        page.candidates()
        # Without a Tibetan font on the machine every candidate would be an empty box.
        assert browser.execute_script("return [...document.fonts].map((font) => font.status)") == ["loaded"]
        browser.get(f"{url}/docs")
        asked = [
            entry["message"]
            for entry in browser.get_log("performance")
            if "Network.requestWillBeSent" in entry["message"]
        ]
        assert asked and all(f'"url":"{url}/' in message for message in asked if '"url":"http' in message)
        assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []

    def test_a_token_is_asked_for(self, browser, exported):
        with running(load_models([str(exported)], num_versions=1), token="open sesame") as address:
            browser.get(address)
            field = wait_until(lambda: browser.find_element("css selector", "#token input"))
            wait_until(field.is_displayed)
            field.send_keys("open sesame\n")
            wait_until(lambda: browser.find_elements("css selector", "textarea"))
            assert not field.is_displayed()
            browser.execute_script("sessionStorage.clear()")
