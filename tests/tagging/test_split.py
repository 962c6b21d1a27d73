"""The split by document."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tibert_keras.errors import InputError
from tibert_keras.tagging.split import make_split, read_split, split_documents, write_split
from tibert_keras.tagging.words import Document

COMMITTED = Path(__file__).resolve().parents[2] / "examples" / "splits" / "soas.tsv"


@pytest.fixture
def pages(page: Callable[..., Document]) -> list[Document]:
    return [page("ང་|PRON", name=f"mila:{number}") for number in range(1, 31)]


def test_the_committed_split_is_that_of_seed_0(soas: list[Document]) -> None:
    split = read_split(COMMITTED)
    assert split == make_split(soas, seed=0)
    assert {part: len(documents) for part, documents in split_documents(soas, split).items()} == {
        "train": 793,
        "validation": 99,
        "test": 99,
    }
    # None of the four texts is in training only.
    assert len({name.split(":")[0] for name, part in split.items() if part == "test"}) == 4


def test_a_split_depends_on_the_seed_and_not_on_the_order(pages: list[Document]) -> None:
    split = make_split(pages, seed=1, test_share=0.2)
    assert Counter(split.values()) == {"train": 21, "validation": 3, "test": 6}
    assert split == make_split(pages[::-1], seed=1, test_share=0.2)
    assert split != make_split(pages, seed=2, test_share=0.2)


def test_written_and_read(pages: list[Document], tmp_path: Path) -> None:
    split = make_split(pages)
    write_split(split, tmp_path / "split.tsv")
    assert list(read_split(tmp_path / "split.tsv").items()) == list(split.items())
    parts = split_documents(pages, split)
    assert sorted(document.name for part in parts.values() for document in part) == sorted(split)
    assert all(split[document.name] == part for part, documents in parts.items() for document in documents)


def test_too_few_documents(pages: list[Document]) -> None:
    assert Counter(make_split(pages[:3]).values()) == {"train": 1, "validation": 1, "test": 1}
    with pytest.raises(InputError, match="no document left for training. Received: 2 documents"):
        make_split(pages[:2])


@pytest.mark.parametrize("line", ["mila:2", "mila:2 test", "mila:2\tdev", "mila:1\ttest", ""])
def test_bad_lines(tmp_path: Path, line: str) -> None:
    path = tmp_path / "split.tsv"
    path.write_text(f"mila:1\ttrain\n{line}\n", encoding="utf-8")
    with pytest.raises(InputError, match="line 2 of"):
        read_split(path)


def test_names_have_to_agree(pages: list[Document]) -> None:
    split = make_split(pages)
    with pytest.raises(InputError, match="1 names that the documents lack, such as 'mila:1'"):
        split_documents(pages[1:], split)
    del split["mila:7"]
    with pytest.raises(InputError, match="1 names that the split lack, such as 'mila:7'"):
        split_documents(pages, split)
