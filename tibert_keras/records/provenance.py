"""What made the texts and the tokenizer of records, by the manifests that stand beside these."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from tibert_keras.corpus.manifest import MANIFEST as CORPUS_MANIFEST
from tibert_keras.corpus.manifest import read_manifest
from tibert_keras.errors import InputError
from tibert_keras.storage import join, sha256
from tibert_keras.tokenizers.training import read_tokenizer_manifest


def folder_of(path: str) -> str:
    """The folder of a file, as a command can name it."""
    return os.path.dirname(path) or "."


def corpora_of(texts: Iterable[str]) -> dict[str, dict[str, Any]]:
    """What `tibert corpus` noted beside texts, by their folders; nothing of folders that it did not make.

    Args:
        texts: Paths of the texts, as they were given.

    Returns:
        For each folder `input_file` and `options` of the corpus, `sha256` of its `corpus.json`, and the SHA-256 of
        its `files`.
    """
    found = {}
    for folder in sorted({folder_of(text) for text in texts}):
        try:
            corpus = read_manifest(folder)
        except InputError:
            # Somebody else's file of that name.
            continue
        if corpus is not None:
            found[folder] = {
                "input_file": corpus.input_file,
                "options": corpus.options,
                "sha256": sha256(join(folder, CORPUS_MANIFEST)),
                "files": {name: counts.sha256 for name, counts in corpus.files.items()},
            }
    return found


def tokenizer_of(spm_model_file: str) -> dict[str, Any]:
    """Where a tokenizer was taken from, and what `tibert tokenizer` noted beside it.

    Args:
        spm_model_file: Path of the SentencePiece model, as it was given.

    Returns:
        `spm_model_file`, and as `manifest` the content of `tokenizer_manifest.json`, or `None` if there is none of this
        model.
    """
    return {"spm_model_file": spm_model_file, "manifest": read_tokenizer_manifest(spm_model_file)}
