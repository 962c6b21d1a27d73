"""The corpora of tagged Tibetan beside the project, and a page to write by hand."""

import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tibert_keras.tagging.preparation import prepare_documents
from tibert_keras.tagging.reading import read_tagged
from tibert_keras.tagging.words import Document, TaggedWord


@pytest.fixture(scope="session")
def soas(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Document]:
    """The four hand-tagged texts of SOAS, a document a page."""
    folder = tmp_path_factory.mktemp("soas")
    with tarfile.open(shared / "data" / "pos" / "soas-rebuilt.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return read_tagged(f"{folder}/**/*.txt")


@pytest.fixture(scope="session")
def prepared_soas(soas: list[Document]) -> list[Document]:
    return prepare_documents(soas, universal_tags=True)


@pytest.fixture
def page() -> Callable[..., Document]:
    """Makes a document of `form|tag` words."""

    def make(line: str, *, name: str = "page:1") -> Document:
        return Document(name, tuple(TaggedWord(*token.split("|")) for token in line.split()))

    return make
