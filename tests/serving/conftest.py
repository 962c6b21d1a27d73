"""A served model, and a browser that shows its page."""

import pytest


@pytest.fixture(scope="session")
def browser():
    from tests.support.browser import chromium

    with chromium() as driver:
        yield driver


@pytest.fixture(scope="module")
def url(exported):
    from tests.support.page import tagger
    from tests.support.running import running
    from tibert_keras.serving.models import load_models

    models = load_models([str(exported)], num_versions=1)
    models["tibert"].versions[1].signatures["tag"] = tagger()
    with running(models) as address:
        yield address


@pytest.fixture
def page(browser, url):
    from tests.support.page import TEXT, Page

    page = Page(browser, url)
    page.write(TEXT)
    return page


@pytest.fixture
def keys(browser):
    from selenium.webdriver.common.keys import Keys

    return Keys
