"""A stranger's questions, asked of the built site's search: the first hit answers each."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

SITE = Path(__file__).resolve().parents[1] / "site"

# The page, or the section of a page, that the first hit is.
QUESTIONS = {
    "where is the masking?": "how_to/make_records.html",
    "how do I resume a run?": "how_to/train_for_long.html",
    "what is a champion?": "tutorials/from_an_edition_to_a_champion.html",
    "how do I fill a gap?": "how_to/fill_gaps.html",
    "out of memory": "how_to/train_for_long.html#out-of-memory",
    "how do I train a tagger?": "tutorials/tag_with_your_own_tags.html",
    "can I load it in transformers?": "how_to/convert.html",
    "how do I train on a TPU?": "how_to/tpu.html",
    "which files are in the folder of a run?": "reference/files.html",
    "tibert pretrain": "reference/verbs.html#tibert-pretrain",
    "LAMB": "reference/python.html#tibert_keras.LAMB",
    "what is different from KerasHub?": "coming_from.html",
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if not SITE.is_dir():
        pytest.skip("needs the site: `sphinx-build docs site`")
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        pytest.skip("needs a browser: `apt-get install chromium chromium-driver`")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    # Root has no sandbox, and containers have little shared memory.
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    yield driver
    driver.quit()


@pytest.mark.any_backend
@pytest.mark.parametrize(("question", "answer"), QUESTIONS.items())
def test_the_first_hit_answers(browser: Any, question: str, answer: str) -> None:
    from selenium.webdriver.support.wait import WebDriverWait

    # Without a server, as a reader opens the site from a folder.
    browser.get(f"{(SITE / 'search.html').as_uri()}?{urlencode({'q': question})}")
    hits = WebDriverWait(browser, 20).until(lambda page: page.find_elements("css selector", "#search-results li a"))
    assert hits[0].get_property("href").startswith(f"{SITE.as_uri()}/{answer}")
