"""The split of documents for training, validation and testing, as a list of their names."""

from __future__ import annotations

import os
import random
from collections.abc import Collection, Mapping

from tibert_keras.errors import InputError
from tibert_keras.storage import atomic_output, read_lines
from tibert_keras.tagging.words import Document

PARTS = ("train", "validation", "test")


def make_split(
    documents: Collection[Document], *, seed: int = 0, validation_share: float = 0.1, test_share: float = 0.1
) -> dict[str, str]:
    """Draw documents for validation and for testing; the others are for training.

    Args:
        documents: The documents. Their order does not matter, their names do.
        seed: Another seed gives another split.
        validation_share: Share of the documents for validation, at least one of them.
        test_share: Likewise for testing.

    Returns:
        The part of each name, in the order of the documents: "train", "validation" or "test".

    Raises:
        InputError: If the shares leave no document for training.
    """
    # Sorted, so that the split is the same however the files were listed.
    names = sorted(document.name for document in documents)
    random.Random(seed).shuffle(names)
    sizes = [max(1, round(share * len(names))) for share in (validation_share, test_share)]
    if sum(sizes) >= len(names):
        raise InputError(
            f"There is no document left for training. Received: {len(names)} documents, "
            f"validation_share={validation_share}, test_share={test_share}. Give more documents or lower shares."
        )
    validation, test = set(names[: sizes[0]]), set(names[sizes[0] : sum(sizes)])
    return {
        document.name: "validation" if document.name in validation else "test" if document.name in test else "train"
        for document in documents
    }


def write_split(split: Mapping[str, str], path: str | os.PathLike[str]) -> None:
    """Write a split, a line `name<TAB>part` a document."""
    with atomic_output(path) as temporary:
        temporary.write_text("".join(f"{name}\t{part}\n" for name, part in split.items()), encoding="utf-8")


def read_split(path: str | os.PathLike[str]) -> dict[str, str]:
    """Read a split that `write_split` wrote.

    Raises:
        InputError: If the file cannot be read, or a line is not a name, a tab and a part, or has a name anew.
    """
    split: dict[str, str] = {}
    for number, line in enumerate(read_lines(path), start=1):
        name, _, part = line.partition("\t")
        if part not in PARTS or name in split:
            raise InputError(
                f"A line of a split is a new name, a tab and one of {PARTS}. Received: {line[:60]!r}, line {number} of "
                f"{os.fspath(path)!r}. Correct it."
            )
        split[name] = part
    return split


def split_documents(documents: Collection[Document], split: Mapping[str, str]) -> dict[str, list[Document]]:
    """Put documents into the parts of a split.

    Args:
        documents: The documents.
        split: The part of each name.

    Returns:
        The documents of "train", "validation" and "test", each in the order in which they came.

    Raises:
        InputError: If the names of the documents and of the split are not the same.

    Example:
        >>> parts = split_documents(read_tagged("pos/*.txt"), read_split("examples/splits/soas.tsv"))  # doctest: +SKIP
    """
    names = {document.name for document in documents}
    for missing, where in ((names - split.keys(), "split"), (split.keys() - names, "documents")):
        if missing:
            raise InputError(
                f"The names of the documents and of the split differ. Received: {len(missing)} names that the {where} "
                f"lack, such as {min(missing)!r}. Give the files that the split was made for."
            )
    parts: dict[str, list[Document]] = {part: [] for part in PARTS}
    for document in documents:
        parts[split[document.name]].append(document)
    return parts
