"""An exported model to serve, and a browser that shows its page."""

from collections.abc import Callable
from pathlib import Path

import keras
import pytest


@pytest.fixture(scope="session")
def exported(finished_run: Path, once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """A folder of versions, with version 1, a SavedModel of the finished run. Tests only read it."""
    if keras.backend.backend() != "tensorflow":
        pytest.skip("SavedModels are TensorFlow's")
    from tibert_keras.saved_model.export import export_saved_model

    return once("served/tibert", lambda folder: export_saved_model(finished_run, folder / "1", top_k=3))


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
