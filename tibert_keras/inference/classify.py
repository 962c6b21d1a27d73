"""Classifies texts from strings, files or standard input, one per line."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, NamedTuple

import numpy as np
from tqdm import tqdm

from tibert_keras.errors import InputError
from tibert_keras.inference.tag import TextConfig, find_input
from tibert_keras.tokenizers.bounds import check_text


@dataclass(frozen=True, kw_only=True)
class ClassifyConfig(TextConfig):
    """Classifies texts.

    Args:
        text: Texts, independent of each other. For a classifier of pairs, two texts with a tab between them.
        model: Folder of a text classifier (a preset, such as `champion/` of a fine-tuning), or of a fine-tuning.
        input_file: UTF-8 files with a text per line: a path, a glob pattern, a folder, or several separated by commas.
            Without texts and a file, standard input is read.
        batch_size: Texts per step.
        format: `tsv`, the label, its probability and the text per line; or `json`, an object per line with the
            probabilities of all labels.
    """

    format: Literal["tsv", "json"] = "tsv"


class ClassifiedText(NamedTuple):
    """A text with its label."""

    text: str
    label: str
    probabilities: dict[str, float]


def classify_text(config: ClassifyConfig) -> Iterator[str]:
    """Classify the texts in a configuration or its file."""
    preset, lines = find_input(config, task="TibertTextClassifier")
    model = load_classifier(preset)
    texts = (line for line, _ in lines if line.strip())
    return (_line(each, config.format) for each in classify_each(model, texts, batch_size=config.batch_size))


def load_classifier(preset: str) -> Any:
    """Load a text classifier that takes strings."""
    from tibert_keras.models.tibert_text_classifier import TibertTextClassifier

    model = TibertTextClassifier.from_preset(preset)
    if model.preprocessor is None:
        raise InputError(f"The model has no tokenizer and takes only ids. Received: {preset!r}. Give one with it.")
    return model


def classify_each(model: Any, texts: Iterable[str], *, batch_size: int = 32) -> Iterator[ClassifiedText]:
    """Classify any number of texts, each of as many columns as the model reads texts side by side."""
    remaining = iter(texts)
    count = model.preprocessor.num_segments
    with tqdm(desc="classify", unit="text", disable=None) as progress:
        while batch := list(islice(remaining, batch_size)):
            for text in batch:
                check_text(text)
            columns = [_columns(text, count) for text in batch]
            segments = tuple(list(column) for column in zip(*columns, strict=True))
            # Ids, as a batch of a long text may have no Tibetan in it. Without `y`, a pair would be `(x, y)`.
            inputs = model.preprocessor(segments if count > 1 else segments[0], y=None)
            outputs = model.predict(inputs, batch_size=batch_size, verbose=0)
            for text, row in zip(batch, model.as_probabilities(outputs), strict=True):
                label = model.labels[int(np.argmax(row))]
                yield ClassifiedText(text, label, dict(zip(model.labels, map(float, row), strict=True)))
            progress.update(len(batch))


def _columns(text: str, count: int) -> list[str]:
    columns = text.split("\t")
    if len(columns) != count:
        raise InputError(
            f"The classifier reads {count} texts side by side. Received: {text[:40]!r} with {len(columns)}. "
            "Separate them by tabs."
        )
    return columns


def _line(text: ClassifiedText, form: str) -> str:
    if form == "json":
        return json.dumps(text._asdict(), ensure_ascii=False) + "\n"
    return f"{text.label}\t{text.probabilities[text.label]:.4f}\t{text.text}\n"
