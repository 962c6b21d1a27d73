"""The page of the server in a browser, and a tagger for it."""

import re

import numpy as np
import tensorflow as tf

from tests.support.running import signature, wait_until

TEXT = "སངས་རྒྱས་[MASK]་འདས། བཀྲ་ཤིས་[GAP:1-2]་ལེགས།"
# The words, without their tags, and the gaps.
SHOWN = (
    "return [...document.querySelector('.block').childNodes]"
    ".map((node) => node.className === 'gap' ? node.textContent : node.firstChild.textContent).join('')"
)


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
