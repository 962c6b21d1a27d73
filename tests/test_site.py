"""A stranger's questions, asked of the built site's search: the first hit answers each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.support.browser import chromium

SITE = Path(__file__).resolve().parents[1] / "site"

# The page, or the section of a page, that the first hit is.
QUESTIONS = {
    "where is the masking?": "data_flow.html#examples-and-masking",
    "how do I resume a run?": "how_to/train_for_long.html",
    "what is a champion?": "how_to/train_for_long.html#the-champion",
    "how do I fill a gap?": "tutorials/fill_gaps_and_tag.html#fill-a-gap",
    "out of memory": "how_to/train_for_long.html#out-of-memory",
    "how do I train a tagger?": "tutorials/tag_with_your_own_tags.html",
    "can I load it in transformers?": "tutorials/from_and_to_transformers.html",
    "how do I train on a TPU?": "how_to/tpu.html",
    "which files are in the folder of a run?": "reference/files.html",
    "tibert pretrain": "reference/verbs.html#tibert-pretrain",
    "LAMB": "reference/python.html#tibert_keras.LAMB",
    "what is different from KerasHub?": "coming_from.html",
    # Words that no page has all of, or that the manual itself would not choose.
    "how do I install it?": "start.html",
    "which model should I use?": "models.html",
    "how good is the model?": "questions.html#how-good-are-the-models",
    "does it work with pytorch?": "questions.html#does-it-work-with-pytorch-or-jax",
    "is my data sent anywhere?": "questions.html#is-my-text-sent-anywhere",
    "how do I cite it?": "questions.html#how-do-i-cite-it",
    "license": "questions.html#which-licence",
    "loss is nan": "how_to/train_for_long.html#divergence",
    "damaged manuscript": "how_to/fill_gaps.html",
    "number of missing syllables unknown": "how_to/fill_gaps.html",
    "tensorflow serving docker": "tutorials/serve_and_call.html",
    "several GPUs": "how_to/several_hosts.html",
    "what do the scores mean?": "how_to/fill_gaps.html#scores",
    "can I use my own text?": "how_to/pretrain_on_the_kangyur.html#other-texts",
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if not SITE.is_dir():
        pytest.skip("needs the site: `sphinx-build docs site`")
    with chromium() as driver:
        yield driver


@pytest.mark.any_backend
@pytest.mark.parametrize(("question", "answer"), QUESTIONS.items())
def test_the_first_hit_answers(browser: Any, question: str, answer: str) -> None:
    from selenium.webdriver.support.wait import WebDriverWait

    # Without a server, as a reader opens the site from a folder.
    browser.get(f"{(SITE / 'search.html').as_uri()}?{urlencode({'q': question})}")
    hits = WebDriverWait(browser, 20).until(lambda page: page.find_elements("css selector", "#search-results li a"))
    assert hits[0].get_property("href").startswith(f"{SITE.as_uri()}/{answer}")
