"""The page for filling gaps, in a real Chromium: with a mouse, with keys, and on a telephone."""

import pytest
import requests

from tests.support.page import TEXT, Page
from tests.support.running import running, wait_until
from tibert_keras.corpus.transliteration import to_wylie
from tibert_keras.serving.models import load_models


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
        assert "no Tibetan letter in the text" in wait_until(lambda: page.one("#message").text)

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
